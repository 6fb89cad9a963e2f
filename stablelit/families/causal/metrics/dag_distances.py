"""Distances that are defined for acyclic graphs alone, as metrics: of equivalence classes, and of causal effects."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, get_args

import numpy as np

from stablelit.errors import DataError, bad_argument
from stablelit.families.causal.metrics.adjustment import ancestor_adjustment_distance, structural_intervention_distance
from stablelit.families.causal.metrics.cpdag import cpdag_distance, cpdag_of
from stablelit.families.causal.metrics.graph_metric import GraphMetric
from stablelit.functional.edge_thresholds import is_acyclic
from stablelit.functional.schedules import check_flag
from stablelit.functional.score_groups import Array

Adjustment = Literal["parents", "ancestors"]
_BY = {"parents": structural_intervention_distance, "ancestors": ancestor_adjustment_distance}


class _DagDistance(GraphMetric):
    """Base: a predicted graph with a cycle has no distance; then the whole is NaN, and `cyclic` counts them."""

    higher_is_better = False
    sums = ("distance", "places", "cyclic")

    def __init__(self, normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.normalize = check_flag(type(self).__name__, "normalize", normalize)

    def count(self, predicted: Array, truth: Array) -> tuple[int, int, int]:
        """Distance, places and graphs with a cycle.

        Raises:
            DataError: a true graph with a cycle.
        """
        owner, acyclic = type(self).__name__, is_acyclic(truth)
        if not acyclic.all():
            raise DataError(
                f"{owner}: {int((~acyclic).sum())} of {len(truth)} true graphs have a directed cycle, the first is "
                f"graph {int(np.argmin(acyclic))}. This distance is of acyclic graphs; take StructuralHammingDistance."
            )
        fine, nodes = is_acyclic(predicted), truth.shape[1]
        distances = [self.distance_of(a, t) for a, t in zip(predicted[fine], truth[fine], strict=True)]
        return sum(distances), len(truth) * self.places_of(nodes), int((~fine).sum())

    def value(self, graphs: int, *sums: int) -> float:
        """A graph's distance, or the share of places."""
        distance, places, cyclic = sums
        return float("nan") if cyclic else distance / (places if self.normalize else graphs)

    @abstractmethod
    def distance_of(self, predicted: Array, truth: Array) -> int:
        """The distance of two (d, d) bool DAGs."""

    @staticmethod
    @abstractmethod
    def places_of(nodes: int) -> int:
        """The largest distance of graphs of so many nodes."""


class CPDAGDistance(_DagDistance):
    """Pairs of nodes that the CPDAGs of the two graphs join otherwise, the mean over graphs.

    It is what can be asked of observations alone where the noise does not identify directions (Gaussian, of any
    variances): graphs of one Markov equivalence class have distance 0. NaN where a predicted graph has a cycle. The
    empty graph's distance is the number of true edges.

    Args:
        normalize: divide by the number of pairs, d(d - 1)/2.

    Example:
        >>> import torch
        >>> chain = torch.tensor([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
        >>> float(CPDAGDistance()(chain.T, chain))
        0.0
    """

    def distance_of(self, predicted: Array, truth: Array) -> int:
        """The distance of two DAGs."""
        return cpdag_distance(cpdag_of(predicted), cpdag_of(truth))

    @staticmethod
    def places_of(nodes: int) -> int:
        """Pairs of nodes."""
        return nodes * (nodes - 1) // 2


class StructuralInterventionDistance(_DagDistance):
    """Ordered pairs whose causal effect comes out wrong when the predicted graph says whom to adjust for.

    The mean over graphs; see `stablelit.families.causal.metrics.adjustment`. NaN where a predicted graph has a cycle.

    Args:
        by: adjust for the `parents` (Peters and Buehlmann 2015) or the `ancestors` (Henckel et al. 2024).
        normalize: divide by the number of ordered pairs, d(d - 1).

    Raises:
        ConfigurationError: another `by`.

    Example:
        >>> import torch
        >>> chain = torch.tensor([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
        >>> float(StructuralInterventionDistance()(chain.T, chain))
        6.0
    """

    def __init__(self, by: Adjustment = "parents", normalize: bool = False, **kwargs: Any) -> None:
        if by not in get_args(Adjustment):
            raise bad_argument("StructuralInterventionDistance", "by", by, " or ".join(get_args(Adjustment)))
        # a MetricCollection joins metrics whose states have the same names and, at first, the same values
        self.sums = (f"distance_by_{by}", "places", "cyclic")
        super().__init__(normalize, **kwargs)
        self.by: Adjustment = by

    def distance_of(self, predicted: Array, truth: Array) -> int:
        """The distance of two DAGs."""
        return _BY[self.by](predicted, truth)

    @staticmethod
    def places_of(nodes: int) -> int:
        """Ordered pairs of nodes."""
        return nodes * (nodes - 1)
