"""Writes down what was skipped: a line of `skipped.jsonl` for each rank's batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stablelit.callbacks._batch import sample_count, tensors_of
from stablelit.callbacks._loader_position import train_loaders
from stablelit.callbacks._ranks import gather_from_ranks
from stablelit.data.batch_indices import batch_indices
from stablelit.data.leave_out import SKIPPED_FILE, SkippedBatch
from stablelit.errors import ContractError, bad_argument, did_you_mean
from stablelit.findings import findings_directory
from stablelit.lost_reports import report_may_be_lost
from stablelit.run_files import append_line

SampleIds = str | Callable[[Any], Any]
"""A key of the batch, or a callable of it: the numbers of its samples in the training data."""


@dataclass
class _Seen:
    epoch: int
    batch: int
    guilty: bool
    ids: list[int] = field(default_factory=list)
    culprits: list[int] = field(default_factory=list)


class SkipLog:
    """Remembers the batches since the last optimizer step, and writes them down when that step is skipped.

    Args:
        ids: where sample numbers come from; None works them out from the loader's sampler where its order is a pure
            function.
        owner: for messages.

    Raises:
        ConfigurationError: neither.
    """

    def __init__(self, ids: SampleIds | None, owner: str) -> None:
        if ids is not None and not callable(ids) and (not isinstance(ids, str) or not ids):
            raise bad_argument(owner, "ids", ids, "a key of the batch, a callable of it, or None")
        self._ids, self._owner = ids, owner
        # where no step ever comes, nothing must grow
        self._window: deque[_Seen] = deque(maxlen=1000)

    def see(self, trainer: Any, batch: Any, batch_idx: int, outputs: Any, guilty: bool, closer: bool) -> None:
        """Remembers a batch.

        Args:
            trainer: in training.
            batch: what it was.
            batch_idx: its number in the epoch.
            outputs: what the step returned for it.
            guilty: its loss was not finite, on this rank.
            closer: name its samples and look for culprits, which waits for the device.
        """
        seen = _Seen(int(trainer.current_epoch), int(batch_idx), guilty)
        if closer:
            seen.ids = self._sample_ids(trainer, batch, batch_idx)
            places = nonfinite_samples(batch, outputs)
            seen.culprits = [seen.ids[place] for place in places if place < len(seen.ids)]
            seen.guilty = guilty or bool(places)
        self._window.append(seen)

    def forget(self) -> None:
        """The step was taken."""
        self._window.clear()

    def write(self, trainer: Any, reason: str, quantity: str, step: int) -> bool:
        """Appends the lines of all ranks; every rank calls it. Returns whether the samples' numbers are known."""
        window = list(self._window)
        self._window.clear()
        for seen in window:
            if not seen.ids and self._ids is None:
                seen.ids = self._sample_ids(trainer, None, seen.batch)
        ranks = gather_from_ranks(trainer, [vars(seen) for seen in window])
        somebody = any(seen["guilty"] for rank in ranks for seen in rank)
        lines = [
            SkippedBatch(
                seen["epoch"],
                seen["batch"],
                step,
                rank,
                reason,
                quantity,
                seen["guilty"] or not somebody,
                tuple(seen["ids"]),
                tuple(seen["culprits"]),
            )
            for rank, window in enumerate(ranks)
            for seen in window
        ]
        if trainer.is_global_zero and not trainer.fast_dev_run:
            path = findings_directory(trainer) / SKIPPED_FILE
            with report_may_be_lost(trainer, self._owner, path):
                append_line(path, *(line.line().rstrip("\n") for line in lines))
        return all(line.ids for line in lines)

    def _sample_ids(self, trainer: Any, batch: Any, batch_idx: int) -> list[int]:
        if self._ids is None:
            loaders = train_loaders(trainer)
            return (batch_indices(loaders[0], batch_idx) if len(loaders) == 1 else None) or []
        if callable(self._ids):
            found = self._ids(batch)
        else:
            named = batch if isinstance(batch, Mapping) else getattr(batch, "__dict__", {})
            found = named.get(self._ids, getattr(batch, self._ids, None))
        if found is None or callable(found):  # a list has a method `index`
            keys = sorted(str(key) for key in named) if isinstance(self._ids, str) else []
            raise ContractError(
                f"{self._owner}: ids={self._ids!r} is not in the batch, a {type(batch).__name__}. It has "
                f"{', '.join(keys) or 'no named parts'}. {did_you_mean(str(self._ids), keys)}"
            )
        plain = found.tolist() if hasattr(found, "tolist") else list(found)
        return [int(i) for i in (plain if isinstance(plain, list) else [plain])]


def nonfinite_samples(batch: Any, outputs: Any = None) -> list[int]:
    """The places in a batch of samples that hold a NaN or an infinity, or got one in a value per sample.

    A tensor in which every sample does (a mask of infinities, a model whose weights are NaN) singles none out. Waits
    for the device.

    Args:
        batch: dense tensors with the samples along the first dimension; graphs by their `batch` vector.
        outputs: what `training_step` returned; its tensors of shape (B,) are looked at too.
    """
    n = sample_count(batch)
    graph = getattr(batch, "batch", None)
    found = torch.zeros(n, dtype=torch.bool)
    values = outputs.values() if isinstance(outputs, Mapping) else ()
    per_sample = [value for value in values if n > 1 and isinstance(value, Tensor) and value.dim() == 1]
    for tensor in (*tensors_of(batch), *per_sample):
        if not tensor.is_floating_point() or tensor.dim() == 0 or tensor.numel() == 0:
            continue
        bad = ~tensor.detach().isfinite().reshape(len(tensor), -1).all(1).cpu()
        if isinstance(graph, Tensor) and len(bad) == len(graph) and len(graph) != n:
            bad = torch.zeros(n).index_add_(0, graph.cpu().long(), bad.float()) > 0
        if len(bad) == n and not (n > 1 and bad.all()):
            found |= bad
    return found.nonzero().flatten().tolist()
