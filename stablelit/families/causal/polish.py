"""From second moments, or rows, and a learner's orders to a graph: always acyclic, and never against what is known.

A gradient follows edges of all orders at once and stops where it stops; this takes its order as one place to begin, and
searches. Without a learner it is a learner itself.

>>> from stablelit.families.causal import SyntheticSEM
>>> panel = SyntheticSEM(nodes=5, rows=1000, edges=6, seed=1).draw().panel
>>> estimate = learn_graph(panel, score="equal_variance")
>>> bool((estimate.adjacency == panel.truth).all())
True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stablelit.errors import DataError, bad_argument, did_you_mean
from stablelit.families.causal.equivalence import preferred_member
from stablelit.families.causal.knowledge import EdgeKnowledge
from stablelit.families.causal.lagged import windows_of
from stablelit.families.causal.negentropy import gaussian_p_value
from stablelit.families.causal.node_scores import (
    SCORES,
    EqualVarianceScore,
    NodeScore,
    NonGaussianScore,
    regression,
    residual_variance,
)
from stablelit.families.causal.order_search import OrderSearch
from stablelit.families.causal.orders import checked_order, lingam_order, order_of, r2_order, random_orders
from stablelit.families.causal.panel import Bools, Floats, Ints, SensorPanel
from stablelit.families.causal.parent_trees import ParentTrees
from stablelit.families.causal.row_statistics import statistics_of_windows
from stablelit.families.causal.sufficient_statistics import SufficientStatistics

OWNER = "polish"
RANDOM_STARTS = 2
# the equal-variance order needs no more: its local optimum was the best known in all but 1 of 20 simulated data sets
RESTARTS = {"gaussian": 10, "equal_variance": 0, "non_gaussian": 10}
# "auto" takes noise for Gaussian unless so small a share of Gaussian data sets looks as far from it
LEAST_P_VALUE = 1e-3
# DirectLiNGAM compares every pair at every step; so many numbers are enough for a place to begin
LINGAM_NUMBERS = 2**26


@dataclass(frozen=True, eq=False)
class GraphEstimate:
    """A graph and what came with it.

    Args:
        weights: ``(d, d)`` least-squares coefficients in the input's units, ``[i, j]`` for i -> j; 0 elsewhere.
        adjacency: ``(d, d)`` bool, a DAG.
        order: ``(d,)`` a causal order of it.
        score: the total score, smaller is better; of one kind and the same data only it can be compared.
        score_name: "gaussian", "equal_variance" or "non_gaussian".
        noise_variance: ``(d,)`` of the residuals, in the input's units squared.
        names: of the nodes.
        gaussian_p_value: how likely Gaussian noise is to leave residuals that look as far from it, on the graph that
            the Gaussian score finds; None where there are no rows, or the score did not ask.
    """

    weights: Floats
    adjacency: Bools
    order: Ints
    score: float
    score_name: str
    noise_variance: Floats
    names: tuple[str, ...]
    gaussian_p_value: float | None = None


def polish(
    statistics: SufficientStatistics,
    score: str = "auto",
    starts: Sequence[Sequence[int] | Ints] = (),
    penalty: float = 2.0,
    knowledge: EdgeKnowledge | None = None,
    restarts: int | None = None,
    seed: int = 0,
) -> GraphEstimate:
    """The best graph that a search over orders finds, see `order_search`.

    Besides `starts` it begins, for "equal_variance", at the equal-variance order; for "gaussian" at the order of R2 and
    at two random ones; for "non_gaussian" at the orders of DirectLiNGAM and of the Gaussian graph. "auto" first finds
    the Gaussian graph. If its residuals are not Gaussian (2 n J summed over the nodes against chi-squared, p below
    0.001) it goes on with "non_gaussian"; if they are, or there are no rows, that graph is the result.

    All graphs of a Markov equivalence class have one Gaussian score. Of these it returns the one that follows the order
    of rising R2, which does not depend on the search, the seed or the units; nothing in the data speaks for that choice
    (`equivalence`). Only where rows were left out of single nodes' scores is it the graph with the best score itself.

    "gaussian" and "non_gaussian" find the same graph in any units of the columns.

    Args:
        statistics: of the data; "non_gaussian" needs its rows.
        score: "auto", "gaussian", "equal_variance" or "non_gaussian", see `node_scores`.
        starts: orders to begin with, for example that of a gradient learner's weights (`orders.order_of`).
        penalty: of the score, in units of BIC's.
        knowledge: forbidden and required edges; the nodes in the order of the columns.
        restarts: how many times the best order is shaken and searched again. None is 10, and 0 for "equal_variance",
            where the first order leaves little to find.
        seed: of random starts and shakes.

    Raises:
        ConfigurationError: an unknown score; a start that is not an order; negative restarts; other nodes in the
            knowledge.
        DataError: "non_gaussian" without rows.
    """
    scores = ("auto", *SCORES)
    if score not in scores:
        raise bad_argument(OWNER, "score", score, ", ".join(scores), did_you_mean(str(score), scores))
    if restarts is not None and (
        isinstance(restarts, bool) or not isinstance(restarts, int | np.integer) or restarts < 0
    ):
        raise bad_argument(OWNER, "restarts", restarts, "None or a whole number of 0 or more")
    if not isinstance(statistics, SufficientStatistics):
        raise bad_argument(OWNER, "statistics", statistics, "SufficientStatistics", "Of a table: learn_graph(table).")
    d = statistics.nodes
    given = [checked_order(OWNER, "starts", order, d) for order in starts]
    known = EdgeKnowledge.nothing(statistics.names) if knowledge is None else knowledge
    if len(known) != d or (knowledge is not None and known.names != statistics.names):
        raise bad_argument(
            OWNER,
            "knowledge",
            known.names,
            f"knowledge of {list(statistics.names)}",
            "knowledge.among(names) sorts it.",
        )
    rng = np.random.default_rng(seed)
    chosen = SCORES["gaussian" if score in ("auto", "non_gaussian") else score](statistics, penalty)
    search = OrderSearch(ParentTrees(chosen, known), known)
    own = [chosen.order] if isinstance(chosen, EqualVarianceScore) else _scale_free_starts(chosen, rng)
    order, total = search.run([*given, *own], 0, rng)
    p_value = None
    if score == "non_gaussian" or (score == "auto" and statistics.rows is not None):
        further = NonGaussianScore(statistics, penalty)
        p_value = _p_value(further, search.graph(order))
        if score == "non_gaussian" or p_value < LEAST_P_VALUE:
            chosen, search = further, OrderSearch(ParentTrees(further, known), known)
            given = [*given, lingam_order(_some_rows(further.statistics.rows), known)]
            order, total = search.run([*given, order], 0, rng)
    order, total = search.run([order], RESTARTS[chosen.name] if restarts is None else int(restarts), rng)
    graph = search.graph(order)
    if chosen.name == "gaussian" and statistics.covariance.ndim == 2:
        graph = preferred_member(graph, r2_order(chosen.statistics.covariance), knowledge)
    return _estimate(chosen, statistics, graph, total, p_value)


def learn_graph(
    data: SensorPanel | Floats,
    lags: int = 0,
    score: str = "auto",
    starts: Sequence[Sequence[int] | Ints] = (),
    penalty: float = 2.0,
    knowledge: EdgeKnowledge | None = None,
    restarts: int | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> GraphEstimate:
    """The graph of a table: its second moments by EM where cells are missing, then `polish`.

    Args:
        data: a panel, of which holes, recordings and interventions are used; or ``(n, d)``, an array or a data frame,
            with NaN where a cell is missing.
        lags: how many rows before each one are taken into account first, see `lagged`; the graph is of the edges
            within a row.
        score: as in `polish`, and so on.
        starts: likewise.
        penalty: likewise.
        knowledge: likewise.
        restarts: likewise.
        seed: likewise.
        names: of the columns of an array.

    Raises:
        ConfigurationError: as `polish`.
        DataError: as `SensorPanel.validate` and `statistics_of_windows`.
    """
    if isinstance(data, SensorPanel) and names is not None:
        raise bad_argument("learn_graph", "names", names, "None for a panel, which has names")
    panel = data if isinstance(data, SensorPanel) else _panel_of(data, names)
    panel.validate("learn_graph")
    recordings = panel.recordings() if lags else None
    windows, mask = windows_of(panel.values, panel.mask, lags, recordings)
    intervened = None
    if panel.intervened is not None:
        intervened = windows_of(panel.values, panel.intervened, lags, recordings)[1][:, 0]
    statistics = statistics_of_windows(windows, mask, intervened, panel.names)
    return polish(statistics, score, starts, penalty, knowledge, restarts, seed)


def _panel_of(table: Any, names: Sequence[str] | None) -> SensorPanel:
    try:
        values = np.asarray(table, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"learn_graph: the data are not numbers throughout ({error}). Allowed: numbers, NaN where one is missing."
        ) from error
    if values.ndim != 2:
        raise DataError(f"learn_graph: data have shape {values.shape}. Allowed: (rows, columns).")
    if names is None and hasattr(table, "columns"):
        names = [str(name) for name in table.columns]
    return SensorPanel.from_values(values, names)


def _scale_free_starts(score: NodeScore, rng: np.random.Generator) -> list[Ints]:
    pooled = score.statistics.pooled_covariance
    return [r2_order(pooled), *random_orders(score.statistics.nodes, RANDOM_STARTS, rng)]


def _p_value(score: NonGaussianScore, graph: Bools) -> float:
    surplus = sum(score.beyond_covariance(j, tuple(np.flatnonzero(graph[:, j]).tolist())) for j in range(len(graph)))
    return gaussian_p_value(-surplus, len(graph))


def _some_rows(rows: Floats | None) -> Floats:
    assert rows is not None
    wanted = max(500, LINGAM_NUMBERS // rows.shape[1] ** 3)
    return rows if len(rows) <= wanted else rows[:: -(-len(rows) // wanted)]


def _estimate(
    score: NodeScore, statistics: SufficientStatistics, graph: Bools, total: float, p_value: float | None
) -> GraphEstimate:
    weights, noise = np.zeros(graph.shape), np.empty(len(graph))
    scales = statistics.scales
    unit = scales / np.sqrt(np.diagonal(score.covariances[0]) if len(score.covariances) == 1 else 1.0)
    for node in range(len(graph)):
        parents = np.flatnonzero(graph[:, node])
        table = score.covariances[node if len(score.covariances) > 1 else 0]
        noise[node] = residual_variance(table, node, parents) * unit[node] ** 2
        if len(parents):
            weights[parents, node] = regression(table, node, parents) * unit[node] / unit[parents]
    return GraphEstimate(weights, graph, order_of(graph), total, score.name, noise, statistics.names, p_value)
