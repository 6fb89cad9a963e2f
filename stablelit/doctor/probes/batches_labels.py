"""Counts labels, and writes down in which order they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor

from stablelit.doctor.evidence.batches import LabelFacts, LabelOrder

_MOST_OF_A_BATCH = 512
_MOST_CLASSES = 2_000


def may_be_labels(leaf: Tensor) -> bool:
    """A number for each sample: (N,) or (N, 1)."""
    return leaf.ndim == 1 or (leaf.ndim == 2 and leaf.shape[1] == 1)


@dataclass
class LabelBook:
    """One leaf that may be the target: its values in training and in validation.

    Args:
        continuous: whether its values are numbers to regress on.
        counted: whether the counts are known from the data sets.
        ordered: whether the order is known from them.
    """

    continuous: bool
    counted: bool = False
    ordered: bool = False
    counts: dict[int, int] = field(default_factory=dict)
    validation_counts: dict[int, int] = field(default_factory=dict)
    validation_seen: dict[int, int] = field(default_factory=dict)
    order: LabelOrder = field(default_factory=LabelOrder)
    _open: LabelOrder = field(default_factory=LabelOrder)
    _seen: dict[float, int] = field(default_factory=dict)
    _last: float | None = None
    _epoch: int | None = None

    def add(self, leaf: Tensor, epoch: int) -> None:
        """A batch of training."""
        values: list[float] = leaf.detach().reshape(-1)[:_MOST_OF_A_BATCH].tolist()
        if not self.continuous and not self.counted:
            _count(values, self.counts)
        if not self.ordered:
            self._follow(values, epoch)

    def add_validation(self, leaf: Tensor) -> None:
        """A batch of validation."""
        if not self.continuous:
            values = leaf.detach().reshape(-1)[:_MOST_OF_A_BATCH].tolist()
            _count(values, self.validation_seen)
            if not self.counted:
                _count(values, self.validation_counts)

    def store(self, training: Tensor, validation: Tensor | None, in_order: bool, batch_size: int) -> None:
        """All labels are held by the data sets, and come `in_order` or shuffled."""
        if not self.continuous:
            self.counted = validation is not None
            self.validation_counts.clear()
            _count(training.reshape(-1).tolist(), self.counts)
            if validation is not None:
                _count(validation.reshape(-1).tolist(), self.validation_counts)
        if in_order:
            self.ordered = True
            for start in range(0, min(len(training), 100 * batch_size), batch_size):
                self._follow(training[start : start + batch_size].reshape(-1).tolist(), 0)

    def facts(self, leaf: str) -> LabelFacts:
        """What is known."""
        return LabelFacts(leaf, self.counts, self.validation_counts, self.validation_seen, self.order)

    def _follow(self, values: list[float], epoch: int) -> None:
        if not values:
            return
        if epoch != self._epoch:
            self._epoch, self._open, self._seen, self._last = epoch, LabelOrder(self.continuous), {}, None
        order = self._open
        order.looks += 1
        order.continued += self._last is not None and values[0] == self._last
        for value in values:
            if value != self._last:
                order.runs += 1
                order.descents += self._last is not None and value < self._last
            self._seen[value] = self._seen.get(value, 0) + 1
            self._last = value
        order.counts = list(self._seen.values())
        if order.looks >= self.order.looks:
            self.order = order


def _count(values: Iterable[float], counts: dict[int, int]) -> None:
    for value, times in Counter(values).items():
        label = int(value)
        if label in counts or len(counts) < _MOST_CLASSES:
            counts[label] = counts.get(label, 0) + times
