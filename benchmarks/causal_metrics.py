"""Graph metrics beside those of dagma, gcastle and gadjid on random DAGs: the same numbers, and what they cost.

Compared is what all define alike: pairs of DAGs with at least one edge each. `python -m benchmarks.causal_metrics`.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.order_peers import paired
from benchmarks.rows import Row, run
from stablelit.families.causal.graphs import random_dag
from stablelit.families.causal.metrics import (
    ancestor_adjustment_distance,
    graph_scores,
    structural_intervention_distance,
)

GRAPHS = 1000
REPEATS = 5
Graph = Any


def random_pairs(seed: int = 0) -> list[tuple[Graph, Graph]]:
    """Estimates and truths of 2 to 20 nodes and of any density; a third are a truth with some edges turned."""
    rng, pairs = np.random.default_rng(seed), []
    for case in range(GRAPHS):
        nodes = int(rng.integers(2, 21))
        places = nodes * (nodes - 1) // 2
        estimate, truth = (random_dag(nodes, rng, edges=int(rng.integers(1, places + 1))) for _ in range(2))
        if case % 3 == 0:
            rank = rng.permutation(nodes)
            kept = (truth | truth.T) & (rank[:, None] < rank[None, :]) & (rng.random((nodes, nodes)) < 0.9)
            estimate = kept if kept.any() else truth
        pairs.append((estimate, truth))
    return pairs


def dagma_scores() -> Callable[[Graph, Graph], dict[str, float]] | None:
    """`count_accuracy`; None where dagma is not installed."""
    if importlib.util.find_spec("dagma") is None:
        return None
    from dagma.utils import count_accuracy

    def scores(estimate: Graph, truth: Graph) -> dict[str, float]:
        found = count_accuracy(truth.astype(int), estimate.astype(int))
        return {"shd": found["shd"], "fdr": found["fdr"], "recall": found["tpr"], "edge_count": found["nnz"]}

    return scores


def gcastle_scores() -> Callable[[Graph, Graph], dict[str, float]] | None:
    """`MetricsDAG`, which rounds to four places; None where gcastle is not installed."""
    if importlib.util.find_spec("castle") is None:
        return None
    from castle.metrics import MetricsDAG

    def scores(estimate: Graph, truth: Graph) -> dict[str, float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = MetricsDAG(estimate.astype(int), truth.astype(int)).metrics
        names = {"fdr": "fdr", "recall": "tpr", "shd": "shd", "edge_count": "nnz", "precision": "precision", "f1": "F1"}
        # without a right edge its F1 is 0/0, here 0
        return {ours: 0.0 if math.isnan(found[theirs]) else found[theirs] for ours, theirs in names.items()}

    return scores


def gadjid_scores() -> Callable[[Graph, Graph], dict[str, float]] | None:
    """The structural intervention and the ancestor adjustment distance; None where gadjid is not installed."""
    if importlib.util.find_spec("gadjid") is None:
        return None
    import gadjid

    def scores(estimate: Graph, truth: Graph) -> dict[str, float]:
        given = (truth.astype(np.int8), estimate.astype(np.int8), "from row to column")
        return {"sid": gadjid.sid(*given)[1], "ancestors": gadjid.ancestor_aid(*given)[1]}

    return scores


def our_scores(estimate: Graph, truth: Graph) -> dict[str, float]:
    return {**graph_scores(estimate, truth), "ancestors": float(ancestor_adjustment_distance(estimate, truth))}


def rows() -> Iterator[Row]:
    """Of each peer that is installed: how many graphs differ in a number, and what a graph costs beside it."""
    pairs = random_pairs()
    ours = [our_scores(*pair) for pair in pairs]
    for name, make, tolerance in (
        ("dagma", dagma_scores, 1e-12),
        ("gcastle", gcastle_scores, 5.1e-5),
        ("gadjid", gadjid_scores, 0.0),
    ):
        theirs = make()
        if theirs is None:
            continue
        unlike = 0
        for pair, own in zip(pairs, ours, strict=True):
            found = theirs(*pair)
            unlike += any(not abs(found[key] - own[key]) <= tolerance for key in found)
        what = ", ".join(theirs(*pairs[0]))
        yield Row(f"random DAGs: other than {name} in {what}", unlike, "graphs", 0, repeats=len(pairs))
    yield from speed_rows()


def speed_rows() -> Iterator[Row]:
    """The structural intervention distance beside gadjid, which is compiled, and all scores beside gcastle's."""
    rng = np.random.default_rng(1)
    if (gadjid := gadjid_scores()) is not None:
        import gadjid as package

        for nodes in (20, 100):
            estimate, truth = (random_dag(nodes, rng, degree=2) for _ in range(2))
            given = (truth.astype(np.int8), estimate.astype(np.int8), "from row to column")
            assert gadjid(estimate, truth)["sid"] == structural_intervention_distance(estimate, truth)
            theirs, ours, ratio = paired(
                lambda given=given: package.sid(*given),
                lambda a=estimate, t=truth: structural_intervention_distance(a, t),
                REPEATS,
            )
            yield Row(f"SID at d = {nodes}: gadjid's time over ours", ratio, "x", None, "higher", repeats=REPEATS)
            yield Row("    time", 1e3 * ours, "ms", None, "lower", "gadjid", 1e3 * theirs, REPEATS)
    if (gcastle := gcastle_scores()) is not None:
        some = random_pairs(2)[:50]
        theirs, ours, ratio = paired(
            lambda: [gcastle(*pair) for pair in some], lambda: [graph_scores(*pair) for pair in some], REPEATS
        )
        yield Row("graph_scores (with SID and CPDAG) beside MetricsDAG", ratio, "x", None, "higher", repeats=REPEATS)
        each = 1e3 / len(some)
        yield Row("    time of a graph", each * ours, "ms", None, "lower", "gcastle", each * theirs, REPEATS)


if __name__ == "__main__":
    raise SystemExit(run("causal_metrics", rows()))
