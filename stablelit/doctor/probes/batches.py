"""Looks at what comes in batches: finiteness, scale, labels, rows, edges."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.evidence.batches import BatchFacts, EdgeFacts
from stablelit.doctor.probes.batches_labels import LabelBook, may_be_labels
from stablelit.doctor.probes.batches_leaves import leaves_of
from stablelit.doctor.probes.batches_moments import LeafBook
from stablelit.doctor.probes.batches_roles import input_leaves, target_leaf
from stablelit.doctor.probes.batches_rows import RowBook, keys_of_batch, row_keys
from stablelit.doctor.probes.batches_stored import (
    attribute_tensors,
    comes_in_order,
    loader_of,
    map_dataset,
    may_be_ordered,
    rows_not_finite,
    sample_tensors,
)
from stablelit.doctor.probes.probe import Probe

_MOST_LEAVES = 8
_MOST_LABEL_LEAVES = 4
_STORED_ROWS = 20_000


class BatchProbe(Probe):
    """Keeps facts about leaves of batches, and reads data sets that hold tensors."""

    def __init__(self) -> None:
        self.facts = BatchFacts()
        self._rows = RowBook()
        self._in_training: int | None = None
        self._masked = False
        self._leaves: dict[str, LeafBook] = {}
        self._validation: dict[str, LeafBook] = {}
        self._labels: dict[str, LabelBook] = {}
        self._not_finite: list[str] = []

    def begin(self, trainer: Any, pl_module: Any, evidence: Evidence) -> None:
        """Reads the data sets, where they hold their samples as tensors."""
        with contextlib.suppress(Exception), torch.no_grad():
            self._read_stored(loader_of(trainer.train_dataloader), loader_of(trainer.val_dataloaders))

    def batch_start(self, trainer: Any, pl_module: Any, batch: Any, step: int) -> None:
        """Takes a batch of training."""
        self._not_finite = []
        with contextlib.suppress(Exception), torch.no_grad():
            self._take_training(leaves_of(batch), step, int(getattr(trainer, "current_epoch", 0)))

    def before_backward(self, trainer: Any, pl_module: Any, loss: Tensor, step: int) -> None:
        """Whether what is not finite has reached the loss."""
        if self._not_finite and not bool(torch.isfinite(loss.detach()).all()):
            self.facts.reached += [name for name in self._not_finite if name not in self.facts.reached]

    def validation_batch_start(self, trainer: Any, pl_module: Any, batch: Any, step: int) -> None:
        """Takes a batch of validation."""
        with contextlib.suppress(Exception), torch.no_grad():
            self._take_validation(leaves_of(batch))

    def tell(self, evidence: Evidence) -> None:
        """Hands its facts over, with the part that each leaf plays."""
        if not self.facts.looks:
            return
        evidence.batches = self.facts
        self.facts.leaves = {name: book.facts for name, book in self._leaves.items()}
        self.facts.validation = {name: book.facts for name, book in self._validation.items()}
        self.facts.rows = self._rows.facts()
        self.facts.rows.in_training, self.facts.rows.masked = self._in_training, self._masked
        target = target_leaf(self.facts.leaves, evidence.operations)
        inputs = input_leaves(self.facts.leaves, evidence.operations, target)
        for name, leaf in self.facts.leaves.items():
            leaf.role = "input" if name in inputs else "target" if name == target else ""
        self.facts.labels = self._labels[target].facts(target) if target in self._labels else None

    def _take_training(self, leaves: dict[str, Tensor], step: int, epoch: int) -> None:
        self.facts.looks += 1
        all_keys = 0
        largest = _largest(leaves)
        for name, leaf in list(leaves.items())[:_MOST_LEAVES]:
            book = self._leaves.setdefault(name, LeafBook(name, leaf))
            if not book.add(leaf):
                self._not_finite.append(name)
            if leaf.ndim and name != largest and self._rows.wants(self.facts.looks, epoch):
                all_keys ^= hash((name, int(row_keys(leaf[:64]).sum())))
            if may_be_labels(leaf) and (name in self._labels or len(self._labels) < _MOST_LABEL_LEAVES):
                labels = self._labels.setdefault(name, LabelBook(continuous=leaf.is_floating_point()))
                labels.add(leaf, epoch)
            if leaf.dtype is torch.bool and leaf.ndim == 1 and "mask" in name:
                self._masked = True
        if largest is not None and self._rows.wants(self.facts.looks, epoch):
            keys = keys_of_batch(leaves[largest])
            self._rows.add_training(keys, all_keys ^ hash(tuple(keys)), step, epoch, leaves[largest])
        self._take_edges(leaves)

    def _take_validation(self, leaves: dict[str, Tensor]) -> None:
        self.facts.validation_looks += 1
        for name, leaf in list(leaves.items())[:_MOST_LEAVES]:
            self._validation.setdefault(name, LeafBook(name, leaf)).add(leaf)
            if may_be_labels(leaf) and (name in self._labels or len(self._labels) < _MOST_LABEL_LEAVES):
                labels = self._labels.setdefault(name, LabelBook(continuous=leaf.is_floating_point()))
                labels.add_validation(leaf)
        largest = None if self._rows.stored else _largest(leaves)
        if largest is not None:
            self._rows.add_validation(keys_of_batch(leaves[largest]))

    def _take_edges(self, leaves: dict[str, Tensor]) -> None:
        for name, leaf in leaves.items():
            if "edge_index" in name and leaf.ndim == 2 and leaf.shape[0] == 2 and not leaf.is_floating_point():
                facts = self.facts.edges = self.facts.edges or EdgeFacts()
                loops = int((leaf[0] == leaf[1]).sum())
                facts.looks += 1
                facts.self_loops += loops
                facts.edges += leaf.shape[1] - loops
                floats = [len(x) for x in leaves.values() if x.ndim > 1 and x.is_floating_point()]
                facts.nodes += max(floats, default=0)
                return

    def _read_stored(self, training: Any, validation: Any) -> None:
        data = map_dataset(training)
        self.facts.collated = getattr(training, "batch_sampler", None) is not None
        self.facts.in_order = may_be_ordered(training)
        if data is None:
            return
        self._in_training = len(data) if self.facts.collated else None
        samples = sample_tensors(data)
        for name, tensor in (samples or attribute_tensors(data)).items():
            if bad := rows_not_finite(tensor):
                self.facts.stored_non_finite[name] = bad
        if not self.facts.collated or not getattr(training, "collate_fn", None):
            samples = {}
        others = sample_tensors(map_dataset(validation))
        in_order, batch_size = comes_in_order(training), getattr(training, "batch_size", None) or 1
        for name, tensor in samples.items():
            if may_be_labels(tensor):
                book = self._labels[name] = LabelBook(continuous=tensor.is_floating_point())
                book.store(tensor[:_STORED_ROWS], others.get(name), in_order, batch_size)
        largest = _largest(samples)
        if largest is not None and largest in others and samples[largest][0].shape == others[largest][0].shape:
            self._rows.store(
                row_keys(samples[largest][:_STORED_ROWS]).tolist(),
                row_keys(others[largest][:_STORED_ROWS]).tolist(),
            )


def _largest(leaves: dict[str, Tensor]) -> str | None:
    """The leaf with the most numbers a row: what tells one sample from another; None where rows hold too few."""
    sizes = {name: leaf[0].numel() for name, leaf in leaves.items() if leaf.ndim > 1 and len(leaf)}
    name = max(sizes, key=lambda name: (sizes[name], leaves[name].is_floating_point()), default=None)
    if name is None or "edge_index" in name or (not leaves[name].is_floating_point() and sizes[name] < 8):
        return None
    return name
