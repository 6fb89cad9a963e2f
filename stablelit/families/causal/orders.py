r"""Causal orders: where a search over orders begins. An order is a permutation of the nodes, causes first."""

from __future__ import annotations

import numpy as np

from stablelit.errors import DataError, bad_argument
from stablelit.families.causal.knowledge import EdgeKnowledge
from stablelit.families.causal.negentropy import standardised_negentropy
from stablelit.families.causal.panel import Bools, Floats, Ints
from stablelit.functional.edge_thresholds import EdgeCurve, is_acyclic

CHUNK = 2**19


def equal_variance_order(covariance: Floats, knowledge: EdgeKnowledge | None = None) -> tuple[Ints, Floats]:
    """The next node is the one with the least variance given all before it.

    With noise of equal variance in the given units that is a causal order: Chen, Drton and Wang 2019 (*On causal
    discovery with an equal-variance assumption*, Biometrika), their top-down algorithm.

    Args:
        covariance: ``(d, d)``, or one for each node, ``(d, d, d)`` or ``(1, d, d)``.
        knowledge: required edges lead from earlier to later.

    Returns:
        ``(d,)`` the order, and ``(d,)`` the conditional variances of its nodes, in the order.
    """
    tables = _tables(covariance)
    d = tables.shape[-1]
    of_node = np.arange(d) if len(tables) > 1 else np.zeros(d, dtype=np.int64)
    variances = np.diagonal(tables, axis1=1, axis2=2).copy()
    floor = np.finfo(np.float64).eps * variances
    factor = np.zeros((len(tables), d, d))
    waiting = np.ones(d, dtype=bool)
    order, conditional = np.empty(d, dtype=np.int64), np.empty(d)
    for step in range(d):
        own = variances[of_node, np.arange(d)]
        node = int(np.argmin(np.where(_ready(waiting, knowledge), own, np.inf)))
        order[step], conditional[step] = node, max(own[node], floor[of_node[node], node])
        waiting[node] = False
        row = tables[:, node] - (factor[:, :step, node][:, None] @ factor[:, :step])[:, 0]
        row /= np.sqrt(np.maximum(row[:, node], floor[:, node] + np.finfo(np.float64).tiny))[:, None]
        factor[:, step] = row
        variances -= row**2
    return order, conditional


def lingam_order(rows: Floats, knowledge: EdgeKnowledge | None = None) -> Ints:
    r"""DirectLiNGAM: the next node is the one that looks most like a cause of all that are left; then it is taken out.

    Of two standardised x, y with correlation :math:`\rho` and residuals :math:`r_{y|x} = y - \rho x` and
    :math:`r_{x|y}`, scaled to variance 1, the likelihood ratio of x -> y over y -> x is

    .. math:: R(x, y) = H(y) + H(r_{x|y}) - H(x) - H(r_{y|x})

    per row, and the next node is the one with the least :math:`\sum_y \min(0, R(x, y))^2`. Sources: Shimizu et al. 2011
    (JMLR 12, algorithm 1); Hyvarinen and Smith 2013 (JMLR 14, eq. 3), with the entropies of `negentropy`.

    Args:
        rows: ``(n, d)`` complete.
        knowledge: required edges lead from earlier to later.

    Raises:
        DataError: not a table of finite numbers with two rows or more; a column that does not vary.
    """
    table = np.asarray(rows, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2 or not np.isfinite(table).all():
        raise DataError(f"lingam_order: rows have shape {table.shape}. Allowed: (n, d) finite numbers, n of 2 or more.")
    left = np.ascontiguousarray((table - table.mean(axis=0)).T)
    scale = left.std(axis=1)
    if not (scale > 0).all():
        raise DataError(f"lingam_order: column {int(np.argmin(scale))} does not vary. Leave it out.")
    left /= scale[:, None]
    d = len(left)
    waiting = np.ones(d, dtype=bool)
    order: list[int] = []
    while len(order) < d:
        active = np.flatnonzero(waiting)
        node = int(active[_most_exogenous(left[active], _ready(waiting, knowledge)[active])])
        order.append(node)
        waiting[node] = False
        others = active[active != node]
        residual = left[others] - (left[others] @ left[node] / left.shape[1])[:, None] * left[node]
        spread = residual.std(axis=1)
        # what a node explains entirely is of no further use, and rounding errors are not to be blown up
        left[others] = np.where(spread[:, None] > 1e-9, residual / np.maximum(spread, 1e-9)[:, None], 0.0)
    return np.asarray(order, dtype=np.int64)


def r2_order(covariance: Floats) -> Ints:
    r"""By rising :math:`R_j^2` of each node on all others; the same in any units.

    In simulated graphs with weights of one distribution, variance and with it R2 rise along the order (Reisach, Tami,
    Seiler, Chambaz and Weichwald 2023, *A scale-invariant sorting criterion to find a causal order in additive noise
    models*). It is a cheap place to begin; nothing in the data speaks for it.

    Args:
        covariance: ``(d, d)``, positive definite.
    """
    scale = np.sqrt(np.diag(covariance))
    # 1 / K_jj is 1 - R2 for the inverse K of the correlations; rounded so that ties do not depend on units
    unexplained = 1.0 / np.diag(np.linalg.inv(covariance / np.outer(scale, scale)))
    return np.argsort(-np.round(unexplained, 9), kind="stable")


def variance_order(covariance: Floats) -> Ints:
    """By rising variance in the given units (Reisach, Seiler and Weichwald 2021): a trivial baseline."""
    return np.argsort(np.diag(covariance), kind="stable")


def random_orders(nodes: int, count: int, rng: np.random.Generator) -> list[Ints]:
    """So many uniformly random orders."""
    return [rng.permutation(nodes) for _ in range(count)]


def order_of(weights: Floats | Bools) -> Ints:
    """A causal order of a graph, (d, d), by its edges i -> j; of weights with a cycle, by the largest without one.

    Among nodes that may come next, the first column is.

    Raises:
        DataError: not square, NaN.
    """
    size = np.abs(np.asarray(weights, dtype=np.float64))
    edges = (size != 0) & ~np.eye(len(size), dtype=bool)
    if not is_acyclic(edges):
        curve = EdgeCurve(np.where(edges, size, 0.0))
        edges &= curve.predicted_graphs(curve.most_edges_without_cycle())[0]
    order, waiting = [], np.ones(len(edges), dtype=bool)
    while waiting.any():
        node = int(np.flatnonzero(waiting & ~(edges & waiting[:, None]).any(axis=0))[0])
        waiting[node] = False
        order.append(node)
    return np.asarray(order, dtype=np.int64)


def checked_order(owner: str, name: str, order: object, nodes: int) -> Ints:
    """The order as (d,) ints.

    Raises:
        ConfigurationError: not a permutation of 0 ... d - 1.
    """
    given = np.asarray(order)
    if given.shape != (nodes,) or given.dtype.kind not in "iu" or (np.sort(given) != np.arange(nodes)).any():
        raise bad_argument(owner, name, order, f"orders of the nodes 0 to {nodes - 1}, each once, causes first")
    return given.astype(np.int64)


def _ready(waiting: Bools, knowledge: EdgeKnowledge | None) -> Bools:
    if knowledge is None:
        return waiting
    return waiting & ~(knowledge.required & waiting[:, None]).any(axis=0)


def _most_exogenous(columns: Floats, ready: Bools) -> int:
    count, n = columns.shape
    if count == 1:
        return 0
    correlation = columns @ columns.T / n
    gains = np.zeros((count, count))
    own = standardised_negentropy(columns)
    at_once = max(1, CHUNK // (n * count))
    for begin in range(0, count, at_once):
        some = slice(begin, begin + at_once)
        rho = correlation[some]
        # [x, y]: y given x
        residual = columns[None] - rho[:, :, None] * columns[some, None]
        residual /= np.sqrt(np.maximum(1.0 - rho**2, 1e-12))[:, :, None]
        gains[some] = standardised_negentropy(residual)
    # H = const - J, so R(x, y) = J(x) + J(y | x) - J(y) - J(x | y)
    ratio = own[:, None] + gains - own[None, :] - gains.T
    np.fill_diagonal(ratio, 0.0)
    against = (np.minimum(ratio, 0.0) ** 2).sum(axis=1)
    return int(np.argmin(np.where(ready, against, np.inf)))


def _tables(covariance: Floats) -> Floats:
    tables = np.asarray(covariance, dtype=np.float64)
    return tables[None] if tables.ndim == 2 else tables
