"""Average precision of edge scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from stablelit.errors import DataError
from stablelit.functional.edge_thresholds import square_matrices, true_graphs
from stablelit.functional.score_groups import Array, group_scores
from stablelit.functional.threshold_baselines import average_precision


def edge_average_precision(scores: Tensor | Array, truth: Tensor | Array) -> Array:
    """(B,) average precision of each graph's scores off the diagonal; NaN for a graph without edges.

    Raises:
        DataError: not square, NaN, shapes that differ, truth with self-loops or other than 0 and 1.
    """
    values = square_matrices(scores, "edge scores")
    off = ~np.eye(values.shape[-1], dtype=bool)
    pairs = zip(values, true_graphs(truth, values.shape), strict=True)
    return np.array([average_precision(group_scores(score[off], true[off])) for score, true in pairs])


class EdgeAUPRC(Metric):
    r"""The area under precision over recall, :math:`\sum_g (R_g - R_{g-1}) P_g`, the mean over graphs that have edges.

    Exact: every distinct score is a step, and equal scores are one. Scores are taken as they are, never squashed, and
    those on the diagonal are not looked at. Chance is the prevalence of true edges. Graphs without edges have no
    average precision; `without_edges` counts them.

    Example:
        >>> import torch
        >>> auprc = EdgeAUPRC()
        >>> auprc.update(torch.tensor([[9.0, 2.0], [-1.0, 9.0]]), torch.tensor([[0, 1], [0, 0]]))
        >>> float(auprc.compute())
        1.0
    """

    is_differentiable = False
    full_state_update = False
    higher_is_better = True

    total: Tensor
    graphs: Tensor
    without_edges: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", default=torch.zeros(()), dist_reduce_fx="sum")
        for name in ("graphs", "without_edges"):
            self.add_state(name, default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, scores: Tensor | Array, truth: Tensor | Array) -> None:
        """Adds scores and true graphs, ``(d, d)`` or ``(B, d, d)``.

        Raises:
            DataError: as `edge_average_precision`.
        """
        areas = edge_average_precision(scores, truth)
        undefined = np.isnan(areas)
        self.total += float(areas[~undefined].sum())
        self.graphs += int((~undefined).sum())
        self.without_edges += int(undefined.sum())

    def compute(self) -> Tensor:
        """The mean, 0-dim; NaN where no graph has an edge.

        Raises:
            DataError: no graph was given.
        """
        if self.graphs + self.without_edges == 0:
            raise DataError("EdgeAUPRC: no graph was given. Call update(scores, truth) first.")
        return self.total / self.graphs
