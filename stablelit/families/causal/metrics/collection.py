"""All that is said of one estimated graph at the end of a run, each number beside what costs nothing."""

from __future__ import annotations

import math

from torch import Tensor

from stablelit.errors import DataError
from stablelit.families.causal.metrics.adjustment import structural_intervention_distance
from stablelit.families.causal.metrics.cpdag import cpdag_distance, cpdag_of
from stablelit.families.causal.metrics.edge_auprc import edge_average_precision
from stablelit.families.causal.metrics.edge_counts import edge_counts
from stablelit.families.causal.metrics.graph_metric import checked_pair
from stablelit.functional.edge_thresholds import is_acyclic, structural_hamming_distance
from stablelit.functional.score_groups import Array
from stablelit.functional.threshold_baselines import all_positive_f_beta


def graph_scores(
    predicted: Tensor | Array, truth: Tensor | Array, scores: Tensor | Array | None = None
) -> dict[str, float]:
    """The scores of one graph.

    =======================  ==========================================================================
    ``shd``                  structural Hamming distance, an edge the wrong way costs 1
    ``shd_double``           the same, it costs 2: how many entries of the two matrices differ
    ``shd_empty``            of the empty graph, the number of true edges
    ``f1``, ``precision``,   of directed edges; ``fdr`` is 1 - precision. NaN where a denominator is 0
    ``recall``, ``fdr``
    ``f1_all``               F1 of the complete graph, 2p/(1+p)
    ``skeleton_f1``          F1 of joined pairs, either direction
    ``cpdag_distance``       pairs that the two CPDAGs join otherwise; NaN where a graph has a cycle
    ``sid``                  structural intervention distance; NaN where a graph has a cycle
    ``sid_empty``            of the empty graph
    ``edge_count``           predicted edges
    ``is_dag``               1 where the predicted graph has no cycle, else 0
    ``auprc``                average precision of `scores`; ``prevalence`` is what chance reaches
    =======================  ==========================================================================

    Args:
        predicted: (d, d), bool or 0 and 1.
        truth: the same.
        scores: (d, d) of any size and sign, larger where an edge is likelier; None leaves ``auprc`` out.

    Raises:
        DataError: wrong shapes, several graphs, NaN, weights in the place of edges, self-loops.
    """
    a, t = checked_pair(predicted, truth, "graph_scores")
    if len(a) != 1:
        raise DataError(f"graph_scores: there are {len(a)} graphs. Allowed: one; for several take the metrics.")
    directed, joined = edge_counts(a, t), edge_counts(a, t, "skeleton")
    values = {
        "shd": float(structural_hamming_distance(a, t)),
        "shd_double": float(structural_hamming_distance(a, t, 2)),
        "shd_empty": float(directed.positives),
        "f1": directed.f_beta(),
        "f1_all": all_positive_f_beta(directed.positives, directed.total),
        "precision": directed.precision,
        "recall": directed.recall,
        "fdr": 1.0 - directed.precision,
        "skeleton_f1": joined.f_beta(),
        **_of_acyclic_graphs(a[0], t[0]),
        "edge_count": float(directed.predicted),
        "is_dag": float(is_acyclic(a[0])),
    }
    if scores is not None:
        values["auprc"] = float(edge_average_precision(scores, t)[0])
        values["prevalence"] = directed.positives / directed.total
    return values


def _of_acyclic_graphs(predicted: Array, truth: Array) -> dict[str, float]:
    values = dict.fromkeys(("cpdag_distance", "sid", "sid_empty"), math.nan)
    if not is_acyclic(truth):
        return values
    values["sid_empty"] = float(structural_intervention_distance(truth & False, truth))
    if is_acyclic(predicted):
        values["cpdag_distance"] = float(cpdag_distance(cpdag_of(predicted), cpdag_of(truth)))
        values["sid"] = float(structural_intervention_distance(predicted, truth))
    return values
