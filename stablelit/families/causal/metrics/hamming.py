"""The structural Hamming distance of graphs."""

from __future__ import annotations

from typing import Any

from stablelit.errors import bad_argument
from stablelit.families.causal.metrics.graph_metric import GraphMetric
from stablelit.functional.edge_thresholds import REVERSAL_COSTS, structural_hamming_distance
from stablelit.functional.schedules import check_flag
from stablelit.functional.score_groups import Array


class StructuralHammingDistance(GraphMetric):
    r"""Additions, deletions and reversals that make the predicted graph the true one, the mean over graphs.

    .. math:: \mathrm{SHD} = |A| + |T| - 2|A \cap T| - (2 - c)\,
              \#\{(i, j) : A_{ij},\, \lnot A_{ji},\, T_{ji},\, \lnot T_{ij}\}

    Always read it beside the number of true edges, which is the distance of the empty graph.

    Source: Tsamardinos, Brown, Aliferis 2006, Machine Learning 65, section 5; there, between CPDAGs.

    Args:
        reversal_cost: c, of an edge that points the wrong way: 1 in NOTEARS, dagma and gcastle, 2 in cdt.
        normalize: divide by the number of places for an edge, d(d - 1).

    Raises:
        ConfigurationError: another cost.

    Example:
        >>> import torch
        >>> distance = StructuralHammingDistance()
        >>> distance.update(torch.tensor([[0, 1], [0, 0]]), torch.tensor([[0, 0], [1, 0]]))
        >>> float(distance.compute())
        1.0
    """

    higher_is_better = False
    # apart, so that a MetricCollection, which joins metrics of equal states, may join those of both costs
    sums = ("distance", "reversed_edges", "places")

    def __init__(self, reversal_cost: int = 1, normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if reversal_cost not in REVERSAL_COSTS or isinstance(reversal_cost, bool):
            raise bad_argument("StructuralHammingDistance", "reversal_cost", reversal_cost, "1 or 2")
        self.reversal_cost = reversal_cost
        self.normalize = check_flag("StructuralHammingDistance", "normalize", normalize)

    def count(self, predicted: Array, truth: Array) -> tuple[int, int, int]:
        """Distance at a cost of 1, edges that point the wrong way, and places."""
        graphs, nodes = truth.shape[:2]
        once, twice = (structural_hamming_distance(predicted, truth, cost) for cost in REVERSAL_COSTS)
        return once, twice - once, graphs * nodes * (nodes - 1)

    def value(self, graphs: int, *sums: int) -> float:
        """A graph's distance, or the share of places."""
        distance, reversed_edges, places = sums
        return (distance + (self.reversal_cost - 1) * reversed_edges) / (places if self.normalize else graphs)
