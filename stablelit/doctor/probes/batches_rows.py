"""Rows by a hash: which came twice, and which of validation are in training."""

from __future__ import annotations

import functools
from collections import Counter

import torch
from torch import Tensor

from stablelit.doctor.evidence.batches import RowFacts

_MOST_ROWS = 20_000
_MOST_COLUMNS = 1024
_ROWS_OF_A_BATCH = 256
# that fit into a cache
_NUMBERS_AT_ONCE = 2**15
_FIRST_LOOKS = 8
_WHOLE_INT = {torch.float32: torch.int32, torch.float64: torch.int64}


@functools.lru_cache(maxsize=32)
def _weights(columns: int, device: torch.device) -> Tensor:
    # a generator of its own: the run's random numbers stay as they are
    generator = torch.Generator().manual_seed(columns)
    return (torch.randint(-(2**62), 2**62, (columns,), generator=generator) * 2 + 1).to(device)


def row_keys(rows: Tensor) -> Tensor:
    """A number (N,) int64 for each row, the same for rows of the same bits.

    ``key = sum_j bits_j * w_j mod 2^64`` with fixed odd weights; at most 1,024 columns, evenly spread, are taken.
    """
    # of many rows the products would take gigabytes, and ten times as long
    columns = min(_MOST_COLUMNS, max(1, rows[:1].numel()))
    return torch.cat([_keys(part) for part in torch.split(rows.detach(), max(1, _NUMBERS_AT_ONCE // columns))])


def _keys(rows: Tensor) -> Tensor:
    flat = rows.reshape(len(rows), -1)
    every = max(1, -(-flat.shape[1] // _MOST_COLUMNS))
    flat = flat[:, ::every]
    if flat.dtype in (torch.float16, torch.bfloat16):
        flat = flat.float()
    if flat.dtype in _WHOLE_INT:
        # without the sign of zero
        flat = (flat + 0.0).contiguous().view(_WHOLE_INT[flat.dtype])
    keys: Tensor = (flat.long() * _weights(flat.shape[1], flat.device)).sum(1)
    return keys


def keys_of_batch(rows: Tensor) -> list[int]:
    """The keys of at most 256 rows."""
    keys: list[int] = row_keys(rows[:_ROWS_OF_A_BATCH]).tolist()
    return keys


class RowBook:
    """Which rows have been seen where.

    Rows of training are taken in the first epoch that is seen, so that one that comes twice is a duplicate; batches of
    validation count once, however often they are evaluated.
    """

    def __init__(self) -> None:
        self.stored = False
        self._facts = RowFacts()
        self._training: Counter[int] = Counter()
        self._validation: Counter[int] = Counter()
        self._batches: set[int] = set()
        self._epoch: int | None = None
        self._last: tuple[int, int] | None = None
        self._equal = 1
        self._held: Tensor | None = None
        self._counted = True

    def store(self, training: list[int], validation: list[int]) -> None:
        """Both parts are held as tensors: all is known before the first step."""
        self.stored, self._counted = True, False
        self._training, self._validation = Counter(training), Counter(validation)

    def wants(self, looks: int, epoch: int) -> bool:
        """Whether another batch of training says more: in the first looks, and of an epoch that is not yet known."""
        return looks <= _FIRST_LOOKS or (not self.stored and epoch == self._epoch)

    def add_training(self, keys: list[int], all_keys: int, step: int, epoch: int, leaf: Tensor) -> None:
        """A batch of training: its rows' keys, one number for all that is in it, and the tensor they are of."""
        # whoever hands out one tensor again and again means it: a fault makes equal ones anew
        again = self._held is not None and self._held.data_ptr() == leaf.data_ptr()
        self._held = leaf  # as long as it is held, no other has its place in memory
        # a batch of one and the same row is another fault
        if len(set(keys)) > 1 and not again:
            follows = self._last is not None and step - self._last[0] <= 1
            self._equal = self._equal + 1 if follows and self._last and self._last[1] == all_keys else 1
            self._facts.same_batches = max(self._facts.same_batches, self._equal)
        self._last = (step, all_keys)
        if self._epoch is None:
            self._epoch = epoch
        if not self.stored and epoch == self._epoch and self._training.total() < _MOST_ROWS:
            self._training.update(keys)
            self._counted = False

    def add_validation(self, keys: list[int]) -> None:
        """A batch of validation, of data that are not stored."""
        batch = hash(tuple(keys))
        if batch not in self._batches and self._validation.total() < _MOST_ROWS:
            self._batches.add(batch)
            self._validation.update(keys)
            self._counted = False

    def facts(self) -> RowFacts:
        """What is known."""
        if not self._counted:
            self._counted = True
            facts = self._facts
            facts.training, facts.training_distinct = self._training.total(), len(self._training)
            facts.training_twins = sum(n for n in self._training.values() if n > 1)
            facts.validation = self._validation.total()
            facts.shared = sum(n for key, n in self._validation.items() if key in self._training)
        return self._facts
