r"""How much of a graph the scale of its data gives away, and the baselines that take nothing else.

For a score s of each column, of all pairs i, j that a directed path of length k joins in the true graph, summed over
:math:`k = 1 \dots d-1`, the share in which the end has the larger score (ties count a half):

.. math:: v = \frac{\sum_k \sum_{i \to j \in E^k} [s_i < s_j] + \tfrac12 [s_i = s_j]}{\sum_k \sum_{i \to j \in E^k} 1}

With variances for scores it is the varsortability of Reisach et al. 2021 (arXiv:2102.13647, equation 3), which
standardising makes 1/2; with :math:`R^2_j = 1 - 1 / (\mathrm{Var}_j\, (\Sigma^{-1})_{jj})`, of each column on all
others, the R2-sortability of Reisach et al. 2023 (arXiv:2303.18211), which standardising leaves. Near 1 or 0 the order
is readable from the scores, and a benchmark on such data proves little: print `sort_and_regress` beside every score.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError, bad_argument, did_you_mean
from stablelit.families.causal.moments import (
    LEAST_EIGENVALUE,
    Moments,
    checked_table,
    gaussian_moments,
    observed_scale,
    with_least_eigenvalue,
)
from stablelit.families.causal.panel import Bools, Floats
from stablelit.functional.schedules import check_number

_TIE = 1e-9
# cells; above, holes are met pair by pair, which is faster and less exact
_LARGEST_FOR_EM = 1_000_000


def varsortability(values: Floats, graph: NDArray[Any], mask: Bools | None = None) -> float:
    """Varsortability of data and their true graph, in [0, 1]; NaN where there is no edge.

    Args:
        values: ``(T, d)``.
        graph: ``(d, d)``, not 0 at [i, j] where i -> j.
        mask: ``(T, d)`` True where observed; None is everywhere.

    Raises:
        DataError: a graph of another shape, a column without variance.
    """
    _, scale = observed_scale(*checked_table(values, mask, None, "varsortability"))
    return order_agreement(2.0 * np.log(scale), graph)


def r2_sortability(values: Floats, graph: NDArray[Any], mask: Bools | None = None) -> float:
    """R2-sortability of data and their true graph, in [0, 1]; arguments as of `varsortability`."""
    return order_agreement(r2_scores(_moments(values, mask).covariance), graph)


def order_agreement(scores: Floats, graph: NDArray[Any]) -> float:
    """The formula of this module: how far scores rise along directed paths.

    Args:
        scores: ``(d,)``; those that differ by less than 1e-9 are ties.
        graph: ``(d, d)``, not 0 at [i, j] where i -> j.

    Raises:
        DataError: a graph of another shape.
    """
    nodes = len(scores)
    edges = np.asarray(graph) != 0
    if edges.shape != (nodes, nodes):
        raise DataError(f"sortability: the graph has shape {edges.shape}. Allowed: {(nodes, nodes)}, as the columns.")
    rise = scores[None, :] - scores[:, None]
    agreement = np.where(rise > _TIE, 1.0, np.where(rise < -_TIE, 0.0, 0.5))
    agreeing, pairs, joined = 0.0, 0, edges
    for _ in range(nodes - 1):
        if not joined.any():
            break
        agreeing += float(agreement[joined].sum())
        pairs += int(joined.sum())
        joined = (joined.astype(np.float64) @ edges) > 0
    return agreeing / pairs if pairs else float("nan")


def r2_scores(covariance: Floats) -> Floats:
    """``(d,)`` share of each column's variance that a linear function of all others explains."""
    sd = np.sqrt(np.diag(covariance))
    correlation = with_least_eigenvalue(covariance / np.outer(sd, sd), LEAST_EIGENVALUE["em"])
    return 1.0 - 1.0 / np.diag(np.linalg.inv(correlation))


def sort_and_regress(
    values: Floats, mask: Bools | None = None, by: str = "variance", penalty: float = 2.0, seed: int = 0
) -> Floats:
    """The trivial learner: sort the columns, then regress each on those before it.

    sortnregress and R2-sortnregress of Reisach et al., with backward elimination by BIC in place of their lasso, so
    that what is left to a learner with the same penalty is the order alone.

    Args:
        values: ``(T, d)``.
        mask: ``(T, d)`` True where observed; None is everywhere.
        by: "variance", "r2", or "random", the order of somebody who knows nothing.
        penalty: times log T is what an edge must save in ``T log RSS``; 1 is plain BIC.
        seed: of a random order.

    Returns:
        ``(d, d)`` regression weights; [i, j] is not 0 where i -> j was found.

    Raises:
        ConfigurationError: an argument out of range.
        DataError: a column without variance.
    """
    if by not in _ORDERS:
        raise bad_argument("sort_and_regress", "by", by, ", ".join(_ORDERS), did_you_mean(str(by), _ORDERS))
    check_number("sort_and_regress", "penalty", penalty, at_least=0.0)
    moments = _moments(values, mask)
    scores = _ORDERS[by](moments.covariance, np.random.default_rng(seed))
    return regress_in_order(moments.covariance, np.argsort(scores, kind="stable"), moments.effective_n, penalty)


def regress_in_order(covariance: Floats, order: NDArray[np.int64], rows: float, penalty: float = 2.0) -> Floats:
    """Regresses each column on those before it in `order`, leaving out what does not save `penalty` log(rows).

    Args:
        covariance: ``(d, d)``.
        order: ``(d,)`` causes first.
        rows: (effective) number of rows.
        penalty: see `sort_and_regress`.

    Returns:
        ``(d, d)`` weights.
    """
    weights = np.zeros_like(covariance)
    for place in range(1, len(order)):
        node, parents = order[place], np.asarray(order[:place])
        inverse = np.linalg.pinv(covariance[np.ix_(parents, parents)], hermitian=True)
        beta = inverse @ covariance[parents, node]
        residual = max(covariance[node, node] - covariance[node, parents] @ beta, 1e-12 * covariance[node, node])
        while len(parents):
            # what the residual variance would grow by without each parent: beta^2 over the diagonal of the inverse
            growth = beta**2 / np.maximum(np.diag(inverse), np.finfo(float).tiny)
            weakest = int(np.argmin(growth))
            if rows * np.log1p(growth[weakest] / residual) >= penalty * np.log(rows):
                break
            residual += growth[weakest]
            column = inverse[:, weakest] / inverse[weakest, weakest]
            beta = np.delete(beta - column * beta[weakest], weakest)
            inverse = inverse - np.outer(column, inverse[weakest])
            inverse = np.delete(np.delete(inverse, weakest, axis=0), weakest, axis=1)
            parents = np.delete(parents, weakest)
        weights[parents, node] = beta
    return weights


def _moments(values: Floats, mask: Bools | None) -> Moments:
    return gaussian_moments(values, mask, "em" if values.size <= _LARGEST_FOR_EM else "pairwise")


_ORDERS: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "variance": lambda covariance, rng: np.diag(covariance),
    "r2": lambda covariance, rng: r2_scores(covariance),
    "random": lambda covariance, rng: rng.random(len(covariance)),
}
