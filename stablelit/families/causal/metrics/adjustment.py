r"""Distances of graphs by the causal effects that would be estimated wrongly from them.

An estimated graph is used to read off, for each ordered pair (t, y), whom to adjust for when the effect of t on y is
estimated. A pair counts where that set is not valid in the true graph. Of d(d - 1) pairs,

* *structural intervention distance*: the set is the parents of t. Peters and Buehlmann 2015 (arXiv:1306.1043), theorem
  and definition 4; the parent adjustment distance of DAGs is the same;
* *ancestor adjustment distance*: the ancestors of t. Henckel, Wuertzen, Weichwald 2024 (arXiv:2402.08616), section 4.

Where the graph says that t has no effect on y (y is a parent of t; y is no descendant of t), the pair counts if it has
one. A set Z is valid exactly if it has no descendant of a node w != t on a directed path from t to y, and blocks every
path from t to y that is not directed (Shpitser, VanderWeele, Robins 2010, UAI). All pairs are judged at once: the walks
of all t advance together, one edge a round, by products of matrices.

Neither distance is symmetric. Those that take the graph as cyclic have no meaning: cycles are errors.
"""

from __future__ import annotations

import numpy as np

from stablelit.errors import DataError
from stablelit.families.causal.metrics.relations import composed, reachable
from stablelit.functional.edge_thresholds import is_acyclic
from stablelit.functional.score_groups import Array


def structural_intervention_distance(predicted: Array, truth: Array) -> int:
    """The ordered pairs whose effect is wrong after adjusting for the parents that `predicted` gives.

    Args:
        predicted: (d, d) bool, a DAG.
        truth: (d, d) bool, a DAG.

    Returns:
        Between 0 and d(d - 1). It is 0 also where `predicted` has all true edges and further ones that fit their order.

    Raises:
        DataError: a directed cycle in either.

    Example:
        >>> chain = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=bool)
        >>> structural_intervention_distance(chain.T, chain)
        6
    """
    _require_acyclic(predicted=predicted, truth=truth)
    return _mistakes(adjustment=predicted.T, no_effect=predicted.T, truth=truth)


def ancestor_adjustment_distance(predicted: Array, truth: Array) -> int:
    """The ordered pairs whose effect is wrong after adjusting for the ancestors that `predicted` gives.

    It judges the order of `predicted` more than its edges: every DAG with the same ancestors has the same distance.

    Args:
        predicted: (d, d) bool, a DAG.
        truth: (d, d) bool, a DAG.

    Raises:
        DataError: a directed cycle in either.
    """
    _require_acyclic(predicted=predicted, truth=truth)
    descendants = reachable(predicted)
    return _mistakes(adjustment=descendants.T & ~np.eye(len(truth), dtype=bool), no_effect=~descendants, truth=truth)


def _mistakes(adjustment: Array, no_effect: Array, truth: Array) -> int:
    """Pairs (t, y) with an effect where `no_effect` says none, and elsewhere with a set that is not valid."""
    off = ~np.eye(len(truth), dtype=bool)
    wrong = np.where(no_effect, reachable(truth), _not_valid(adjustment, truth))
    return int((wrong & off).sum())


def _not_valid(adjustment: Array, truth: Array) -> Array:
    """(d, d) whether ``adjustment[t]``, without t, is no valid set for the effect of t on y in `truth`."""
    reach = reachable(truth)
    # of descendants of a directed path's nodes those on it are enough: the others open a walk that is not directed
    on_the_way = composed(reach & adjustment, reach)
    return on_the_way | _undirected_connection(adjustment, truth)


def _undirected_connection(adjustment: Array, truth: Array) -> Array:
    """(d, d) whether a walk from t to y that is not directed is open, given ``adjustment[t]``.

    Three kinds of walks away from t: all edges forward (`onward`), else by the direction of the last edge, `into` the
    node or `out_of` it. Where its two edges meet head to head at a node, a walk goes on if the node is adjusted for,
    elsewhere if it is not. It never comes back to t.
    """
    off = ~np.eye(len(truth), dtype=bool)
    onward, into, out_of = truth, np.zeros_like(truth), truth.T
    while True:
        backward = (out_of & ~adjustment) | ((into | onward) & adjustment)
        next_out_of = (out_of | composed(backward, truth.T)) & off
        next_into = (into | composed((out_of | into) & ~adjustment, truth)) & off
        next_onward = (onward | composed(onward & ~adjustment, truth)) & off
        grown = (next_out_of != out_of) | (next_into != into) | (next_onward != onward)
        onward, into, out_of = next_onward, next_into, next_out_of
        if not grown.any():
            return into | out_of


def _require_acyclic(**graphs: Array) -> None:
    for name, graph in graphs.items():
        if not is_acyclic(graph):
            raise DataError(
                f"the {name} graph has a directed cycle, so it names no causal effects to adjust for. Take away edges "
                f"until it is acyclic, for example by the threshold `min_dag`."
            )
