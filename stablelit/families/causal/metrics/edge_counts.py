"""Precision, recall, F1 and false discovery rate of edges: sums over graphs first, then one ratio."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

from stablelit.errors import bad_argument
from stablelit.families.causal.metrics.graph_metric import GraphMetric
from stablelit.families.causal.metrics.relations import skeleton
from stablelit.functional.score_groups import Array
from stablelit.functional.thresholds import Counts

Kind = Literal["directed", "skeleton"]


def edge_counts(predicted: Array, truth: Array, kind: Kind = "directed") -> Counts:
    """How many edges are predicted, true, and both, of (..., d, d) bool; its threshold is NaN.

    A directed edge is right where it is there and points the right way; of the skeleton where the pair is joined.
    """
    if kind == "skeleton":
        predicted, truth = skeleton(predicted), skeleton(truth)
    nodes = truth.shape[-1]
    places = truth.size // nodes * (nodes - 1) // (1 if kind == "directed" else 2)
    return Counts(math.nan, int(predicted.sum()), int((predicted & truth).sum()), int(truth.sum()), places)


class _EdgeCounts(GraphMetric):
    """Base: the counts of edges.

    Args:
        kind: `directed` edges, or those of the `skeleton`, the pairs that are joined.

    Raises:
        ConfigurationError: another kind.
    """

    higher_is_better = True
    sums = ("predicted", "true_positives", "positives", "places")

    def __init__(self, kind: Kind = "directed", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if kind not in get_args(Kind):
            raise bad_argument(type(self).__name__, "kind", kind, " or ".join(get_args(Kind)))
        self.kind: Kind = kind

    def count(self, predicted: Array, truth: Array) -> tuple[int, ...]:
        """The counts."""
        return edge_counts(predicted, truth, self.kind)[1:]

    def value(self, graphs: int, *sums: int) -> float:
        """The ratio."""
        return self.ratio(Counts(math.nan, *sums))

    def ratio(self, counts: Counts) -> float:
        """The metric of the counts."""
        raise NotImplementedError


class EdgeF1(_EdgeCounts):
    r""":math:`F_1 = 2\,\mathrm{tp} / (|A| + |T|)`; NaN without true edges.

    Of graphs in which no pair is joined both ways, the directed F1 is never above the skeleton's. The complete graph
    has :math:`2p/(1+p)` at a prevalence p of true edges: read it beside that.

    Args:
        kind: `directed` edges, or those of the `skeleton`.

    Example:
        >>> import torch
        >>> predicted, truth = torch.tensor([[0, 1], [0, 0]]), torch.tensor([[0, 0], [1, 0]])
        >>> float(EdgeF1()(predicted, truth)), float(EdgeF1("skeleton")(predicted, truth))
        (0.0, 1.0)
    """

    def ratio(self, counts: Counts) -> float:
        """F1."""
        return counts.f_beta()


class EdgePrecision(_EdgeCounts):
    """The share of predicted edges that are true, ``tp / |A|``; NaN where none is predicted."""

    def ratio(self, counts: Counts) -> float:
        """Precision."""
        return counts.precision


class EdgeRecall(_EdgeCounts):
    """The share of true edges that are predicted, ``tp / |T|``; NaN where there is none. `tpr` in dagma and gcastle."""

    def ratio(self, counts: Counts) -> float:
        """Recall."""
        return counts.recall


class EdgeFalseDiscoveryRate(_EdgeCounts):
    """The share of predicted edges that are not true, ``1 - precision``; NaN where none is predicted.

    An edge that points the wrong way is a false discovery, as in dagma and gcastle, which say 0 where we say NaN.
    """

    higher_is_better = False

    def ratio(self, counts: Counts) -> float:
        """The rate."""
        return 1.0 - counts.precision
