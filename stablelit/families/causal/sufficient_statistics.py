"""What the search over orders needs of the data: covariances, how many rows they are worth, and, if any, the rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stablelit.errors import DataError
from stablelit.families.causal.moments import with_least_eigenvalue
from stablelit.families.causal.panel import Bools, Floats

OWNER = "SufficientStatistics"
# below what long chains of strong edges reach (1e-8 at 100 nodes), above what rounding makes of 0
LEAST_CORRELATION_EIGENVALUE = 1e-12


@dataclass(frozen=True, eq=False)
class SufficientStatistics:
    """Second moments of d columns, and the rows where a score looks at more than these.

    Args:
        covariance: ``(d, d)``, or ``(d, d, d)``: ``[j]`` is that of the rows in which node j may be scored, where rows
            in which j was set from outside are left out.
        n: how many independent rows that is, or ``(d,)`` of them for each node.
        names: of the nodes; x0, x1, ... where None.
        rows: ``(n, d)`` for scores that look at more than second moments; complete, see `observed`.
        observed: ``(n, d)`` True where a cell of `rows` was observed and not filled in; None is everywhere.
        scored: ``(n, d)`` True where the node's own mechanism made the value; None is everywhere.

    Raises:
        DataError: shapes that do not go together, a value that is not finite, a covariance that is not symmetric, a
            column that does not vary (named), n that is not positive, a node that no row scores.
    """

    covariance: Floats
    n: float | Floats
    names: tuple[str, ...] = ()
    rows: Floats | None = None
    observed: Bools | None = None
    scored: Bools | None = None

    def __post_init__(self) -> None:
        covariance = np.asarray(self.covariance, dtype=np.float64)
        d = covariance.shape[-1] if covariance.ndim else 0
        if covariance.shape not in ((d, d), (d, d, d)) or d < 2:
            raise DataError(f"{OWNER}: covariance has shape {covariance.shape}. Allowed: (d, d) or (d, d, d), d >= 2.")
        names = tuple(self.names) or tuple(f"x{i}" for i in range(d))
        if len(names) != d:
            raise DataError(f"{OWNER}: {len(names)} names for {d} columns. Allowed: one for each.")
        n = np.asarray(self.n, dtype=np.float64)
        if n.shape not in ((), (d,)) or not (np.isfinite(n).all() and (n >= 1).all()):
            raise DataError(f"{OWNER}: n={self.n!r}. Allowed: 1 or more, one number or {d}.")
        object.__setattr__(self, "covariance", covariance)
        object.__setattr__(self, "n", n if n.ndim else float(n))
        object.__setattr__(self, "names", names)
        self._check_covariance()
        self._check_rows()

    @property
    def nodes(self) -> int:
        """How many nodes there are, d."""
        return int(self.covariance.shape[-1])

    @property
    def covariances(self) -> Floats:
        """``(1, d, d)`` or ``(d, d, d)``."""
        return self.covariance if self.covariance.ndim == 3 else self.covariance[None]

    @property
    def rows_of_nodes(self) -> Floats:
        """``(d,)`` n of each node."""
        return np.broadcast_to(np.asarray(self.n, dtype=np.float64), (self.nodes,))

    @property
    def scales(self) -> Floats:
        """``(d,)`` standard deviation of each column, in the rows in which it is scored."""
        d = self.nodes
        return np.asarray(
            np.sqrt(np.diagonal(self.covariance) if self.covariance.ndim == 2 else self._own_variances(d))
        )

    @property
    def pooled_covariance(self) -> Floats:
        """``(d, d)``; of node-wise covariances, their mean with the weights n."""
        if self.covariance.ndim == 2:
            return self.covariance
        return np.average(self.covariance, axis=0, weights=self.rows_of_nodes)

    def standardised(self) -> SufficientStatistics:
        """The same in units in which every column has variance 1, and of correlations that can be inverted.

        Where there are fewer than 2 d rows, correlations are shrunk towards 0 by the oracle approximating share of
        Chen, Wiesel, Eldar and Hero 2010 (eq. 23), for which the covariance and n are enough.
        """
        scales = self.scales
        correlations = self.covariance / np.outer(scales, scales)
        wanted = correlations if correlations.ndim == 3 else correlations[None]
        rows_of_nodes = self.rows_of_nodes if len(wanted) > 1 else [float(np.min(self.n))]
        mended = np.stack([_invertible(c, float(n)) for c, n in zip(wanted, rows_of_nodes, strict=True)])
        return replace(
            self,
            covariance=mended if correlations.ndim == 3 else mended[0],
            rows=None if self.rows is None else self.rows / scales,
        )

    def _own_variances(self, d: int) -> Floats:
        return self.covariance[np.arange(d), np.arange(d), np.arange(d)]

    def _check_covariance(self) -> None:
        covariances = self.covariances
        bad = np.argwhere(~np.isfinite(covariances))
        if len(bad):
            i, j = (self.names[k] for k in bad[0][1:])
            raise DataError(f"{OWNER}: {len(bad)} covariances are not finite, the first of {i} and {j}.")
        scale = np.sqrt(np.abs(np.diagonal(covariances, axis1=1, axis2=2)))
        bound = 1e-8 * scale[:, :, None] * scale[:, None, :]
        if (np.abs(covariances - covariances.swapaxes(1, 2)) > bound).any():
            raise DataError(f"{OWNER}: the covariance is not symmetric. Give (x - mean).T @ (x - mean) / n.")
        variances = np.diagonal(self.covariance) if self.covariance.ndim == 2 else self._own_variances(self.nodes)
        flat = [name for name, variance in zip(self.names, variances, strict=True) if not variance > 0]
        if flat:
            raise DataError(
                f"{OWNER}: {', '.join(flat)}: the variance is not positive. A column that does not vary has no cause "
                f"that can be found. Leave it out."
            )

    def _check_rows(self) -> None:
        if self.rows is None:
            if self.observed is not None or self.scored is not None:
                raise DataError(f"{OWNER}: observed and scored say something about rows, and there are none.")
            return
        rows = np.asarray(self.rows, dtype=np.float64)
        object.__setattr__(self, "rows", rows)
        if rows.ndim != 2 or rows.shape[1] != self.nodes or not np.isfinite(rows).all():
            raise DataError(
                f"{OWNER}: rows have shape {rows.shape}, {int((~np.isfinite(rows)).sum())} values not finite. Allowed: "
                f"(n, {self.nodes}) finite. Fill holes with moments.impute and say where by observed."
            )
        for name in ("observed", "scored"):
            mask = getattr(self, name)
            if mask is not None and np.shape(mask) != rows.shape:
                raise DataError(f"{OWNER}: {name} has shape {np.shape(mask)}. Allowed: that of rows, {rows.shape}.")


def _invertible(correlation: Floats, n: float) -> Floats:
    d = len(correlation)
    if n < 2 * d:
        diagonal = np.diag(correlation).copy()
        square, trace = float((correlation**2).sum()), float(diagonal.sum())
        share = ((1 - 2 / d) * square + trace**2) / ((n + 1 - 2 / d) * max(square - trace**2 / d, 1e-300))
        correlation = correlation * (1.0 - min(1.0, share))
        np.fill_diagonal(correlation, diagonal)
    return with_least_eigenvalue(correlation, LEAST_CORRELATION_EIGENVALUE)
