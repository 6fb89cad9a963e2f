r"""How well a set of parents explains a node: scores that add up over the nodes of a graph, smaller is better.

With :math:`\mathrm{RV}_j(P)` the variance that is left of node j when it is regressed on its parents P (variances are
1 before, except for `EqualVarianceScore`), n rows and the penalty :math:`\lambda`,

=================  ======================================================================================
gaussian           :math:`n\log\mathrm{RV}_j(P) + \lambda\log(n)\,|P|`
equal variance     :math:`n\,\mathrm{RV}_j(P)/s^2 + \lambda\log(n)\,|P|`
non-Gaussian       the gaussian one :math:`-\,2 n J(r_j)`, with J the negentropy of the standardised residual
=================  ======================================================================================

Each is twice a negative log-likelihood, up to a constant, plus a penalty; :math:`\lambda = 1` is BIC, and 2, the
default, guards against the search over many graphs as the extended BIC does. The gaussian one is the same for all
graphs of a Markov equivalence class. The equal-variance one tells graphs apart where all noise has one variance in the
given units (Peters and Buehlmann 2014). The non-Gaussian one is :math:`2n` times the sum of the residuals' entropies,
which is least for the true graph where at most one noise is Gaussian (LiNGAM, Shimizu et al. 2006; Hyvarinen and Smith
2013, eq. 3). All but the equal-variance score are the same in any units of the columns.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from stablelit.errors import DataError, bad_argument
from stablelit.families.causal.negentropy import negentropy
from stablelit.families.causal.orders import equal_variance_order
from stablelit.families.causal.panel import Bools, Floats, Ints
from stablelit.families.causal.sufficient_statistics import SufficientStatistics

# the share of a parent's price at which growth goes on, see `parent_trees`
GROWTH_SHARE = 0.5
# a residual variance below this share of a column's is the rounding of 0
LEAST_SHARE = 1e-13


class NodeScore:
    r"""What a search over orders asks of a score; the arrays over many (node, parents) problems have length B.

    Args:
        statistics: of the data.
        penalty: :math:`\lambda`, of the module's formulas.

    Attributes:
        covariances: ``(1, d, d)`` or ``(d, d, d)`` in the units in which the score works; a column that is constant in
            the rows of a node counts there as one of variance 1 without correlations.
        varies: ``(1, d)`` or ``(d, d)`` False at such columns, which are nobody's parents.
        price: ``(d,)`` what one more parent costs, :math:`\lambda\log n`.

    Raises:
        ConfigurationError: a negative penalty or one that is not finite.
    """

    name: ClassVar[str] = ""

    def __init__(self, statistics: SufficientStatistics, penalty: float = 2.0) -> None:
        if not (isinstance(penalty, int | float) and math.isfinite(penalty) and penalty >= 0):
            raise bad_argument(type(self).__name__, "penalty", penalty, "a finite number of 0 or more; 1 is BIC")
        self.statistics = statistics.standardised()
        self.covariances = self._in_own_units(statistics).copy()
        variances = np.einsum("jii->ji", self.covariances)
        self.varies = variances > 0
        variances[~self.varies] = 1.0
        self.n = statistics.rows_of_nodes.copy()
        self.price = penalty * np.log(self.n)
        # more parents than rows explain anything
        self.most_parents = np.maximum(1, np.minimum(statistics.nodes - 1, self.n - 2)).astype(np.int64)

    def _in_own_units(self, statistics: SufficientStatistics) -> Floats:
        return self.statistics.covariances

    def likelihood(self, nodes: Ints, residual_variance: Floats) -> Floats:
        """``(B,)`` the score without its penalty."""
        raise NotImplementedError

    def least_drop(self, nodes: Ints, residual_variance: Floats) -> Floats:
        """``(B,)`` by how much one more parent must lower the residual variance for growth to go on."""
        raise NotImplementedError

    def most_rise(self, nodes: Ints, residual_variance: Floats) -> Floats:
        """``(B,)`` up to which rise of the residual variance a parent is better taken away."""
        raise NotImplementedError

    def beyond_covariance(self, node: int, parents: tuple[int, ...]) -> float:
        """What the rows add to the score of a node with these parents; nothing, for scores of second moments."""
        return 0.0

    def of_node(self, node: int, parents: Ints | tuple[int, ...]) -> float:
        """The score of one node with these parents."""
        chosen = np.sort(np.asarray(parents, dtype=np.int64))
        nodes = np.array([node])
        variance = residual_variance(self.covariances[node if len(self.covariances) > 1 else 0], node, chosen)
        value = self.likelihood(nodes, np.array([variance]))[0] + self.price[node] * len(chosen)
        return float(value) + self.beyond_covariance(node, tuple(chosen.tolist()))

    def of_graph(self, adjacency: Bools) -> float:
        """The score of a graph, ``(d, d)``: the sum over its nodes. No diagonal is looked at."""
        edges = np.asarray(adjacency, dtype=bool) & ~np.eye(len(adjacency), dtype=bool)
        return sum(self.of_node(j, np.flatnonzero(edges[:, j])) for j in range(len(edges)))


class GaussianScore(NodeScore):
    """Gaussian noise of any variance: BIC up to the penalty. The empty graph has the score 0."""

    name: ClassVar[str] = "gaussian"

    def __init__(self, statistics: SufficientStatistics, penalty: float = 2.0) -> None:
        super().__init__(statistics, penalty)
        self._grow = -np.expm1(-GROWTH_SHARE * self.price / self.n)
        self._shrink = np.expm1(self.price / self.n)

    def likelihood(self, nodes: Ints, residual_variance: Floats) -> Floats:
        """Minus twice the log-likelihood, n log RV."""
        return np.asarray(self.n[nodes] * np.log(np.maximum(residual_variance, LEAST_SHARE)))

    def least_drop(self, nodes: Ints, residual_variance: Floats) -> Floats:
        """RV (1 - exp(-price / n)), of the price at which growth goes on."""
        return np.asarray(residual_variance * self._grow[nodes])

    def most_rise(self, nodes: Ints, residual_variance: Floats) -> Floats:
        """RV (exp(price / n) - 1)."""
        return np.asarray(residual_variance * self._shrink[nodes])


class EqualVarianceScore(NodeScore):
    """Noise of one variance s^2 in the given units: the median conditional variance along the equal-variance order."""

    name: ClassVar[str] = "equal_variance"

    def __init__(self, statistics: SufficientStatistics, penalty: float = 2.0) -> None:
        super().__init__(statistics, penalty)
        self.order, conditional = equal_variance_order(self.covariances)
        self.noise_variance = float(np.median(conditional))

    def _in_own_units(self, statistics: SufficientStatistics) -> Floats:
        # in multiples of the columns' mean variance, so that no unit is too large or small for the arithmetic
        unit = statistics.scales / np.sqrt(np.mean(statistics.scales**2))
        return np.asarray(self.statistics.covariances * np.outer(unit, unit))

    def likelihood(self, nodes: Ints, residual_variance: Floats) -> Floats:
        """Minus twice the log-likelihood, n RV / s^2."""
        return np.asarray(self.n[nodes] * residual_variance / self.noise_variance)

    def least_drop(self, nodes: Ints, residual_variance: Floats) -> Floats:
        """The price at which growth goes on, times s^2 / n."""
        return GROWTH_SHARE * self.most_rise(nodes, residual_variance)

    def most_rise(self, nodes: Ints, residual_variance: Floats) -> Floats:
        """The price, times s^2 / n."""
        return np.asarray(self.price[nodes] * self.noise_variance / self.n[nodes])


class NonGaussianScore(GaussianScore):
    """Noise of any variance and of any shape but Gaussian.

    Raises:
        DataError: statistics without rows.
    """

    name: ClassVar[str] = "non_gaussian"

    def __init__(self, statistics: SufficientStatistics, penalty: float = 2.0) -> None:
        super().__init__(statistics, penalty)
        if self.statistics.rows is None:
            raise DataError(
                "NonGaussianScore: the statistics have no rows, and second moments do not tell of the noise's shape. "
                "Give rows, or use the score 'gaussian'."
            )
        # columns are read whole, one node at a time
        self._columns = np.ascontiguousarray((self.statistics.rows - self.statistics.rows.mean(axis=0)).T)
        self._cache: dict[tuple[int, tuple[int, ...]], float] = {}

    def beyond_covariance(self, node: int, parents: tuple[int, ...]) -> float:
        """-2 n J of the residual, over the rows in which the node is scored and it and its parents were observed."""
        key = (node, parents)
        if key not in self._cache:
            self._cache[key] = -2.0 * self.n[node] * negentropy(self.residuals(node, parents))
        return self._cache[key]

    def residuals(self, node: int, parents: tuple[int, ...]) -> Floats:
        """The residuals that the score looks at."""
        residual = self._columns[node]
        if parents:
            chosen = np.asarray(parents)
            covariance = self.covariances[node if len(self.covariances) > 1 else 0]
            residual = residual - regression(covariance, node, chosen) @ self._columns[chosen]
        kept = None
        if self.statistics.observed is not None:
            kept = self.statistics.observed[:, [node, *parents]].all(axis=1)
        if self.statistics.scored is not None:
            scored = self.statistics.scored[:, node]
            kept = scored if kept is None else kept & scored
        return np.asarray(residual if kept is None else residual[kept])


SCORES: dict[str, type[NodeScore]] = {
    score.name: score for score in (GaussianScore, EqualVarianceScore, NonGaussianScore)
}


def regression(covariance: Floats, node: int, parents: Ints) -> Floats:
    """``(k,)`` least-squares coefficients of a node on its parents."""
    block = covariance[np.ix_(parents, parents)]
    try:
        return np.asarray(np.linalg.solve(block, covariance[parents, node]))
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.lstsq(block, covariance[parents, node], rcond=None)[0])


def residual_variance(covariance: Floats, node: int, parents: Ints) -> float:
    """What is left of the variance of a node, not below the rounding of 0."""
    own = float(covariance[node, node])
    if not len(parents):
        return own
    left = own - float(covariance[node, parents] @ regression(covariance, node, parents))
    return max(left, LEAST_SHARE * own)
