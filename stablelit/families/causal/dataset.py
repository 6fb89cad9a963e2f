"""Rows of a panel as tensors: with the rows before them, gathered a batch at a time, or all in one batch."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, Dataset

from stablelit.families.causal.panel import Bools, Floats, Ints, SensorPanel


@dataclass(frozen=True)
class TrainingRows:
    """The training rows in the order of their recording, for statistics that need no batches.

    Args:
        values: ``(n, 1 + p, d)`` float64 in the columns' own units, 0 where not observed; [:, l] is l rows earlier.
        mask: ``(n, 1 + p, d)`` True where observed.
        scored: ``(n, d)`` observed and not set from outside.
        environment: ``(n,)``.
        rows: ``(n,)`` their places in the panel, ascending.
    """

    values: Floats
    mask: Bools
    scored: Bools
    environment: Ints
    rows: Ints

    @classmethod
    def of(cls, panel: SensorPanel, rows: Ints, lags: int) -> TrainingRows:
        """Of some rows of a panel, each with `lags` rows before it."""
        window = rows[:, None] - np.arange(1 + lags)
        environment = np.zeros(len(panel), dtype=np.int64) if panel.environment is None else panel.environment
        return cls(panel.values[window], panel.mask[window], panel.scored[rows], environment[rows], rows)


class SensorDataset(Dataset[dict[str, Tensor]]):
    """Some rows of a panel; `__getitems__` gathers a whole batch in one indexing, without a loop over rows.

    A batch is ``{"values": (B, 1 + p, d) float32, "mask": (B, 1 + p, d) bool, "scored": (B, d) bool,
    "environment": (B,) int64, "id": (B,) int64}``. The newest row comes first: [:, 0] is time t, [:, l] is t - l.

    Args:
        panel: all rows.
        rows: those of this data set, each with `lags` rows before it in the panel.
        lags: p.
    """

    def __init__(self, panel: SensorPanel, rows: Ints, lags: int = 0) -> None:
        self.values = torch.from_numpy(panel.values).float()
        self.mask = torch.from_numpy(panel.mask)
        self.scored = torch.from_numpy(panel.scored)
        self.environment = torch.zeros(len(panel), dtype=torch.int64)
        if panel.environment is not None:
            self.environment = torch.from_numpy(panel.environment)
        self.rows = torch.from_numpy(np.ascontiguousarray(rows))
        self._back = torch.arange(1 + lags)

    def of_rows(self, rows: Ints) -> SensorDataset:
        """Other rows of the same panel, which is not copied."""
        other = copy(self)
        other.rows = torch.from_numpy(np.ascontiguousarray(rows))
        return other

    def whole(self) -> dict[str, Tensor]:
        """All rows as one batch."""
        return self.__getitems__(list(range(len(self))))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: values[0] for name, values in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        now = self.rows[torch.as_tensor(indices)]
        window = now[:, None] - self._back
        return {
            "values": self.values[window],
            "mask": self.mask[window],
            "scored": self.scored[now],
            "environment": self.environment[now],
            "id": now,
        }


class WholeBatches(Dataset[dict[str, Tensor]]):
    """One batch, so many times: every item is the same dictionary of the same tensors, which nobody may write into.

    Args:
        batch: it.
        times: how many there are.
    """

    def __init__(self, batch: dict[str, Tensor], times: int = 1) -> None:
        self.batch, self.times = batch, times

    def __len__(self) -> int:
        return self.times

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < self.times:
            raise IndexError(f"{index} of {self.times} batches")
        return self.batch

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        return self.batch


class OneAtATime(BatchSampler):
    """Batches of one item, where an item of the data set is a batch itself.

    A kind of its own, so that whoever works out a batch's samples from its sampler (`stablelit.data.batch_indices`)
    does not take the number of a step for that of a row.
    """


def already_a_batch(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The collate function that goes with these data sets: their batches are made already."""
    return batch
