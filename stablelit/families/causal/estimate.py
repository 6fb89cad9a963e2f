"""From weights that a gradient has found to the graph that is returned: acyclic, and then searched for a better one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from stablelit.errors import DataError, bad_argument
from stablelit.families.causal.bootstrap import EdgeConfidence, bootstrap_confidence
from stablelit.families.causal.edges import EdgeList
from stablelit.families.causal.knowledge import EdgeKnowledge
from stablelit.families.causal.mechanisms import Mechanism
from stablelit.families.causal.orders import order_of
from stablelit.families.causal.polish import GraphEstimate, polish
from stablelit.families.causal.row_statistics import statistics_of_rows
from stablelit.families.causal.statistics import TrainingStatistics
from stablelit.families.causal.sufficient_statistics import SufficientStatistics
from stablelit.functional.edge_thresholds import EdgeCurve, is_acyclic

if TYPE_CHECKING:
    from stablelit.families.causal.datamodule import TrainingRows

_OWNER = "StructureLearner"


SEARCHES = ("auto", "gaussian", "equal_variance", "non_gaussian", "none")


def search_score(polish: str, noise: str, mechanism: Mechanism) -> str:
    """The score of the search over orders that goes with the noise, where `polish` is "auto".

    Raises:
        ConfigurationError: an unknown search; one for a mechanism that is not linear.
    """
    if polish not in SEARCHES:
        raise bad_argument(_OWNER, "polish", polish, ", ".join(SEARCHES))
    if not mechanism.is_linear:
        if polish not in ("auto", "none"):
            remedy = "It searches among linear graphs, and the mechanism is not."
            raise bad_argument(_OWNER, "polish", polish, "'none' or 'auto'", remedy)
        return "none"
    if polish != "auto":
        return polish
    by_noise = {"gaussian": "gaussian", "equal_variance": "equal_variance", "squared_error": "none"}
    # whether the noise really is not Gaussian is asked of the residuals
    return by_noise.get(noise, "auto")


class GraphEstimator(nn.Module):
    """The graph in buffers, so that a checkpoint holds what a run has found.

    Args:
        names: of the d nodes.
        knowledge: what is known of the graph beforehand.
        rule: how weights become a graph: "bic" or the smallest weight of an edge.
        score: of the search, "none" for no search.
        penalty: times ln n is the price of an edge.
        restarts: of the search; None is what `polish` takes.
        bootstrap: how many resampled panels give an edge its confidence.
        seed: of search and resampling.
        is_linear: whether weights are slopes.

    Raises:
        ConfigurationError: another rule.
    """

    graph: Tensor
    gradient_graph: Tensor
    weights: Tensor
    polished: Tensor

    def __init__(
        self,
        names: tuple[str, ...],
        knowledge: EdgeKnowledge,
        rule: str | float = "bic",
        score: str = "gaussian",
        penalty: float = 2.0,
        restarts: int | None = None,
        bootstrap: int = 0,
        seed: int = 0,
        is_linear: bool = True,
    ) -> None:
        super().__init__()
        if rule != "bic" and (isinstance(rule, bool | str) or not rule >= 0):
            raise bad_argument(_OWNER, "rule", rule, "'bic', or the smallest weight of an edge, 0 or more")
        self.names, self.knowledge, self.rule, self.score = names, knowledge, rule, score
        self.penalty, self.restarts, self.bootstrap, self.seed = penalty, restarts, bootstrap, seed
        self.is_linear = is_linear
        d = len(names)
        self.register_buffer("graph", torch.zeros(d, d, dtype=torch.bool))
        self.register_buffer("gradient_graph", torch.zeros(d, d, dtype=torch.bool))
        # standardised; of a graph that is not linear the sizes that the gradient has found
        self.register_buffer("weights", torch.zeros(d, d, dtype=torch.float64))
        self.register_buffer("polished", torch.tensor(False))
        self.confidence: EdgeConfidence | None = None
        # the search is deterministic: from one order it need not be made twice
        self._found: tuple[tuple[int, ...], GraphEstimate] | None = None

    @property
    def is_polished(self) -> bool:
        """Whether the graph was searched for, and not only cut."""
        return bool(self.polished)

    @property
    def searches(self) -> bool:
        """Whether there is a search at all."""
        return self.score != "none"

    def is_acyclic(self) -> bool:
        """Whether the graph has no cycle."""
        return bool(is_acyclic(self.graph.cpu().numpy()))

    def forget(self) -> None:
        """What was found in other data."""
        self._found, self.confidence = None, None
        self.polished.fill_(False)

    def from_gradient(self, weights: Tensor, statistics: TrainingStatistics) -> None:
        """Cuts weights to an acyclic graph.

        By BIC: of all thresholds whose graph is acyclic the one whose linear regressions have the smallest BIC. By a
        number: all edges of that size, or as many of the largest as make no cycle.

        Args:
            weights: (d, d) of either sign; their size is what counts.
            statistics: of the training rows.
        """
        signed = weights.detach().cpu().double().numpy()
        sizes = np.abs(signed)
        np.fill_diagonal(sizes, 0.0)
        sizes[~self.knowledge.allowed] = 0.0
        # what is required comes first, whatever the gradient says of it
        ranked = np.where(self.knowledge.required, 2.0 * sizes.max() + 1.0, sizes)
        curve = EdgeCurve(ranked if self.rule == "bic" else np.where(ranked >= float(self.rule), ranked, 0.0))
        if not ranked.any():
            cut = curve.curve.at(0)
        elif self.rule == "bic":
            covariance = statistics.conditional_covariance()
            cut = curve.smallest_bic(covariance, float(statistics.effective_n), self.penalty)
        else:
            cut = curve.most_edges_without_cycle()
        graph = curve.predicted_graphs(cut)[0] & (ranked > 0) | self.knowledge.required
        self.gradient_graph.copy_(torch.from_numpy(graph))
        self.graph.copy_(self.gradient_graph)
        self.weights.copy_(torch.from_numpy(np.where(graph, signed, 0.0)))
        self.polished.fill_(False)

    def polish(self, statistics: TrainingStatistics, rows: TrainingRows, confidence: bool = False) -> None:
        """Searches over orders, from the one that the gradient has found and from others; keeps the best.

        Args:
            statistics: of the training rows.
            rows: them.
            confidence: whether to resample them too.
        """
        if not self.searches:
            return
        order = order_of(self.weights.cpu().numpy())
        start, data = tuple(order.tolist()), self._sufficient(statistics, rows)
        if self._found is None or self._found[0] != start:
            self._found = start, self._searched(data, [order], self.restarts)
        found = self._found[1]
        self.graph.copy_(torch.from_numpy(found.adjacency))
        self.weights.copy_(torch.from_numpy(found.weights))
        self.polished.fill_(True)
        if confidence and self.bootstrap:
            self.confidence = self._resample(data, found.order)

    def edge_list(self, statistics: TrainingStatistics, truth: Tensor | None) -> EdgeList:
        """The edges, with slopes in the columns' own units where the graph is linear, and else with sizes of edges."""
        weights = self.weights.cpu().numpy()
        if self.is_linear:
            scale = statistics.scale.cpu().numpy()
            weights = weights * scale[None, :] / scale[:, None]
        # an edge whose weight happens to be exactly 0 is one all the same
        weights = np.where(self.graph.cpu().numpy() & (weights == 0.0), np.finfo(np.float64).tiny, weights)
        directed = None if self.confidence is None else self.confidence.directed
        return EdgeList.from_weights(weights, self.names, directed, None if truth is None else truth.cpu())

    def _sufficient(self, statistics: TrainingStatistics, rows: TrainingRows) -> SufficientStatistics:
        innovations, observed = statistics.innovations(rows.values, rows.mask), rows.mask[:, 0]
        intervened = observed & ~rows.scored
        if intervened.any():
            return statistics_of_rows(innovations, observed, intervened, self.names)
        return SufficientStatistics(
            statistics.conditional_covariance(),
            float(statistics.effective_n),
            self.names,
            innovations,
            None if observed.all() else observed,
        )

    def _resample(self, data: SufficientStatistics, order: Any) -> EdgeConfidence:
        assert data.rows is not None
        rows, observed, scored = data.rows, data.observed, data.scored

        def learn(index: Any) -> Any:
            intervened = None if scored is None else ~scored[index]
            # every draw fills its own holes: filled cells that are taken for observed ones look like evidence
            seen = None if observed is None else observed[index]
            try:
                drawn = statistics_of_rows(rows[index], seen, intervened, self.names)
            except DataError:
                # a column that does not vary in these rows: they say nothing of any edge
                return np.zeros_like(self.knowledge.required)
            return self._searched(drawn, [order], 0).adjacency

        # the length that Kuensch's rate gives for rows that remember
        block = max(1, round(len(rows) ** (1 / 3)))
        return bootstrap_confidence(len(rows), learn, self.bootstrap, block, seed=self.seed)

    def _searched(self, data: SufficientStatistics, starts: list[Any], restarts: int | None) -> GraphEstimate:
        return polish(
            data,
            score=self.score,
            starts=starts,
            penalty=self.penalty,
            knowledge=self.knowledge,
            restarts=restarts,
            seed=self.seed,
        )
