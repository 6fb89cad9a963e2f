"""What is said of a learned graph: a few numbers at a validation, all of them at a test, and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from stablelit.families.causal.estimate import GraphEstimator
from stablelit.families.causal.metrics import graph_scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from stablelit.families.causal.edges import EdgeList

_AT_VALIDATION = ("f1", "shd", "shd_empty")


def validation_scores(estimator: GraphEstimator, truth: Tensor | None) -> dict[str, float]:
    """Edges of the graph at hand and, where the truth is known, F1 and SHD beside the empty graph's.

    No threshold was chosen by the truth, so that these are not optimistic.
    """
    graph = estimator.graph.cpu()
    values = {"val/edge_count": float(graph.sum())}
    if truth is not None:
        scores = graph_scores(graph, truth.cpu())
        values |= {f"val/{name}": scores[name] for name in _AT_VALIDATION}
    return values


def test_scores(estimator: GraphEstimator, truth: Tensor | None, scores: Tensor) -> dict[str, float]:
    """All scores of the graph; where it was polished, those of the gradient's own graph beside them."""
    graph = estimator.graph.cpu()
    if truth is None:
        return {"test/edge_count": float(graph.sum()), "test/is_dag": float(estimator.is_acyclic())}
    values = {f"test/{name}": value for name, value in graph_scores(graph, truth.cpu(), scores.cpu()).items()}
    if estimator.is_polished:
        before = graph_scores(estimator.gradient_graph.cpu(), truth.cpu())
        values |= {f"test/gradient_{name}": before[name] for name in ("f1", "shd")}
    return values


def graph_figures(
    estimator: GraphEstimator, edges: EdgeList, truth: Tensor | None, scores: Tensor
) -> dict[str, Figure]:
    """The weights that the gradient has found, the graph, where the truth is known what is right of it.

    Args:
        estimator: with the graph.
        edges: its edges in the columns' own units.
        truth: (d, d) bool, or None.
        scores: (d, d), of the gradient.
    """
    # matplotlib takes half a second to import
    from stablelit.families.causal.figures import adjacency_heat_map, graph_comparison
    from stablelit.families.causal.graph_drawing import graph_drawing

    names, true = estimator.names, None if truth is None else truth.cpu()
    sizes = scores.detach().cpu()
    kept = sizes[estimator.gradient_graph.cpu()]
    least = float(kept.min()) if len(kept) else None
    figures = {
        "weights": adjacency_heat_map(sizes, names, true, least, "size of the gradient's weights"),
        "graph": graph_drawing(estimator.weights.cpu(), names, true, _count(edges)),
    }
    if true is not None:
        figures["comparison"] = graph_comparison(estimator.graph.cpu(), true, names)
    return figures


def _count(edges: EdgeList) -> str:
    return f"{len(edges)} edge{'' if len(edges) == 1 else 's'}"
