"""What every comparison of predicted with true graphs shares: checked input, and sums of counts over graphs.

Convention: ``A[i, j]`` is the edge i -> j. The sums are whole numbers, so that ranks add up under DDP and the order in
which graphs come does not matter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from stablelit.errors import DataError
from stablelit.functional.edge_thresholds import checked_graphs
from stablelit.functional.score_groups import Array


def checked_pair(predicted: Tensor | Array, truth: Tensor | Array, owner: str) -> tuple[Array, Array]:
    """Predicted and true graphs, both (B, d, d) bool; one true graph (d, d) serves all predictions.

    Raises:
        DataError: not (d, d) or (B, d, d), NaN, values other than 0 and 1, self-loops, shapes that do not fit.
    """
    a, t = checked_graphs(predicted, f"{owner}: predicted edges"), checked_graphs(truth, f"{owner}: true edges")
    if a.shape[1:] != t.shape[1:] or len(t) not in (1, len(a)):
        raise DataError(
            f"{owner}: {len(a)} predicted graphs of {a.shape[1]} nodes and {len(t)} true graphs of {t.shape[1]} nodes. "
            f"Allowed: as many nodes, and one true graph or as many as predictions."
        )
    return a, t.repeat(len(a) // len(t), axis=0)


class GraphMetric(Metric, ABC):
    """Base: takes graphs, adds up what `count` says of them, and answers from the sums by `value`."""

    is_differentiable = False
    full_state_update = False
    sums: tuple[str, ...]

    graphs: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("graphs", *self.sums):
            self.add_state(name, default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predicted: Tensor | Array, truth: Tensor | Array) -> None:
        """Adds graphs: ``(d, d)`` or ``(B, d, d)``, bool or 0 and 1.

        Raises:
            DataError: wrong shapes, NaN, weights in the place of edges, self-loops.
        """
        a, t = checked_pair(predicted, truth, type(self).__name__)
        self.graphs += len(a)
        for name, number in zip(self.sums, self.count(a, t), strict=True):
            getattr(self, name).add_(int(number))

    def compute(self) -> Tensor:
        """The value, a 0-dim float tensor; NaN where it is undefined.

        Raises:
            DataError: no graph was given.
        """
        if self.graphs == 0:
            raise DataError(f"{type(self).__name__}: no graph was given. Call update(predicted, truth) first.")
        value = self.value(int(self.graphs), *(int(getattr(self, name)) for name in self.sums))
        return torch.tensor(value, device=self.graphs.device)

    @abstractmethod
    def count(self, predicted: Array, truth: Array) -> tuple[int, ...]:
        """What these graphs add to each of `sums`; both are (B, d, d) bool."""

    @abstractmethod
    def value(self, graphs: int, *sums: int) -> float:
        """The metric of the sums over so many graphs."""
