r"""Rows that remember: what is left of a row when the rows before it have been taken into account.

With lags :math:`1 \dots p` and noise that is independent in time, a structural vector autoregression

.. math:: x_t = x_t W + \sum_l x_{t-l} A_l + e_t \quad\Longrightarrow\quad
          x_t = \sum_l x_{t-l} B_l + u_t,\; B_l = A_l (I - W)^{-1},\; u_t = e_t (I - W)^{-1},

so that the residuals u of the regression on the past obey the graph W with noise e (Hyvarinen, Zhang, Shimizu and Hoyer
2010, section 3). Noise with a memory of its own, :math:`e_t = \rho e_{t-1} + \eta_t`, is of this form, and the
residuals then have the noise :math:`\eta`, which is further from Gaussian than e.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stablelit.errors import DataError, bad_argument
from stablelit.families.causal.moments import Moments, checked_table, gaussian_moments, impute, observed_scale
from stablelit.families.causal.panel import Bools, Floats, Ints


class LaggedMoments(NamedTuple):
    """Rows without their past.

    Args:
        covariance: ``(d, d)`` of the residuals u.
        effective_n: as in `gaussian_moments`, of the cells at time t.
        lag_coefficients: ``(p, d, d)`` B of the module's formula; ``[l - 1, i, j]`` is from i at t - l to j at t.
        windows: of the whole windows, ``((1 + p) d,)`` newest first.
    """

    covariance: Floats
    effective_n: float
    lag_coefficients: Floats
    windows: Moments

    def residuals(self, windows: Floats, mask: Bools) -> Floats:
        """``(n, d)`` u of windows ``(n, 1 + p, d)``, with conditional means in place of what was not observed."""
        d = len(self.covariance)
        flat, seen = windows.reshape(len(windows), -1), mask.reshape(len(windows), -1)
        rows = impute(flat, seen, self.windows.mean, self.windows.covariance) - self.windows.mean
        return np.asarray(rows[:, :d] - rows[:, d:] @ self.lag_coefficients.reshape(-1, d))

    def structural_lags(self, weights: Floats) -> Floats:
        """``(p, d, d)`` A = B (I - W): the lagged edges that go with the edges W within a row."""
        return np.asarray(self.lag_coefficients @ (np.eye(len(weights)) - weights))


def windows_of(values: Floats, mask: Bools, lags: int, recordings: Ints | None = None) -> tuple[Floats, Bools]:
    """Every row with the `lags` rows before it, newest first, and its mask: ``(n, 1 + lags, d)`` each.

    Args:
        values: ``(T, d)`` in the order of time.
        mask: ``(T, d)``.
        lags: p.
        recordings: ``(T,)`` number of the stretch that a row belongs to; no window reaches over its edge.

    Raises:
        ConfigurationError: `lags` negative or not an int.
        DataError: no stretch is long enough.
    """
    if isinstance(lags, bool) or not isinstance(lags, int | np.integer) or lags < 0:
        raise bad_argument("windows_of", "lags", lags, "a whole number of 0 or more")
    now = np.arange(lags, len(values))
    if recordings is not None:
        now = now[recordings[now] == recordings[now - lags]]
    if not len(now):
        raise DataError(f"windows_of: none of {len(values)} rows has {lags} rows of its recording before it.")
    back = now[:, None] - np.arange(1 + lags)
    return values[back], mask[back]


def lagged_moments(windows: Floats, mask: Bools | None = None, names: Sequence[str] | None = None) -> LaggedMoments:
    """Residuals of the newest row on the rows before it, and their covariance, by EM where cells are missing.

    Args:
        windows: ``(n, 1 + p, d)``, newest first, as the datamodule's batches are.
        mask: ``(n, 1 + p, d)`` True where observed. None is everywhere.
        names: of the d columns, for messages.

    Raises:
        DataError: another shape; as `gaussian_moments`; fewer windows than 2 (1 + p) d.
    """
    windows = np.asarray(windows, dtype=np.float64)
    if windows.ndim != 3:
        raise DataError(f"lagged_moments: windows have shape {windows.shape}. Allowed: (n, 1 + lags, d).")
    n, depth, d = windows.shape
    observed = np.ones(windows.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if n < 2 * depth * d and depth > 1:
        raise DataError(
            f"lagged_moments: {n} windows for {depth * d} columns ({d} at {depth} times). Allowed: at least twice as "
            f"many. Give more rows or fewer lags."
        )
    called = [f"column {i}" for i in range(d)] if names is None else list(names)
    every = [name if lag == 0 else f"{name} at lag {lag}" for lag in range(depth) for name in called]
    flat, seen = windows.reshape(n, depth * d), observed.reshape(n, depth * d)
    moments = gaussian_moments(flat, seen, names=every)
    covariance = moments.covariance
    scale = np.sqrt(np.diag(covariance)[d:])
    # on the scale of correlations: units that differ by 10^6 would spoil the solution
    past = covariance[d:, d:] / np.outer(scale, scale)
    coefficients = np.linalg.lstsq(past, covariance[d:, :d] / scale[:, None], rcond=None)[0] / scale[:, None]
    left = covariance[:d, :d] - covariance[:d, d:] @ coefficients
    now = seen[:, :d].astype(np.float64)
    pairs = (now.T @ now)[~np.eye(d, dtype=bool)]
    return LaggedMoments((left + left.T) / 2, float(pairs.mean()), coefficients.reshape(depth - 1, d, d), moments)


def effective_rows(values: Floats, mask: Bools | None = None, recordings: Ints | None = None) -> Floats:
    r"""How many independent rows those of each column amount to, :math:`T (1 - \rho) / (1 + \rho)`, ``(d,)``.

    :math:`\rho` is the column's autocorrelation from one row to the next, of the pairs of which both were observed. It
    is the rule for means of first-order autoregressions; a negative :math:`\rho` counts as 0, and at least two rows
    remain. For rows whose past has been taken away (`lagged_moments`) it is not needed.

    Args:
        values: ``(T, d)`` in the order of time.
        mask: ``(T, d)``.
        recordings: as in `windows_of`.

    Raises:
        DataError: as `gaussian_moments`.
    """
    values, observed = checked_table(values, mask, None, "effective_rows")
    mean, scale = observed_scale(values, observed)
    table = np.where(observed, (values - mean) / scale, 0.0)
    both = observed[1:] & observed[:-1]
    if recordings is not None:
        both &= (recordings[1:] == recordings[:-1])[:, None]
    rho = (table[1:] * table[:-1] * both).sum(axis=0) / np.maximum(both.sum(axis=0), 1)
    rho = np.clip(rho, 0.0, 1.0)
    return np.asarray(np.maximum(observed.sum(axis=0) * (1 - rho) / (1 + rho), 2.0))
