"""Sufficient statistics of rows with holes, with interventions, and with a past."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stablelit.errors import DataError
from stablelit.families.causal.lagged import lagged_moments
from stablelit.families.causal.moments import checked_table, gaussian_moments, impute
from stablelit.families.causal.panel import Bools, Floats, Ints
from stablelit.families.causal.sufficient_statistics import SufficientStatistics


def statistics_of_rows(
    values: Floats,
    mask: Bools | None = None,
    intervened: Bools | None = None,
    names: Sequence[str] = (),
) -> SufficientStatistics:
    """The statistics of a table, by EM where cells are missing.

    Args:
        values: ``(n, d)``; what stands in a missing cell is not looked at.
        mask: ``(n, d)`` True where observed. None is everywhere.
        intervened: ``(n, d)`` True where a node was set from outside. Such a row is left out where that node is scored,
            and still tells of the nodes that it drives. Of a batch of the datamodule it is
            ``mask[:, 0] & ~scored``. None is nowhere.
        names: of the columns.

    Raises:
        DataError: as `gaussian_moments`; a node that was set from outside in all rows, or is constant in the others.
    """
    owner = "statistics_of_rows"
    values, observed = checked_table(values, mask, list(names) or None, owner)
    called = list(names) or [f"x{i}" for i in range(values.shape[1])]
    everywhere = gaussian_moments(values, observed, names=called)
    covariance, n = everywhere.covariance, np.asarray(everywhere.effective_n)
    made = _own_mechanism(intervened, values, owner)
    if made is not None:
        covariance, n = _moments_of_nodes(values, observed, made, called)
    rows = impute(values, observed, everywhere.mean, everywhere.covariance) - everywhere.mean
    return SufficientStatistics(covariance, n, tuple(called), rows, None if observed.all() else observed, made)


def statistics_of_windows(
    windows: Floats,
    mask: Bools | None = None,
    intervened: Bools | None = None,
    names: Sequence[str] = (),
) -> SufficientStatistics:
    """The statistics of what is left of the newest rows when the rows before them are taken into account.

    Args:
        windows: ``(n, 1 + p, d)``, newest first; with p = 0 it is `statistics_of_rows`.
        mask: ``(n, 1 + p, d)`` True where observed. None is everywhere.
        intervened: ``(n, d)`` of the newest rows, as there. The regression on the past is then taken from windows in
            which no node was set from outside, and it must have enough of them.
        names: of the d columns.

    Raises:
        DataError: as `statistics_of_rows` and `lagged_moments`.
    """
    windows = np.asarray(windows, dtype=np.float64)
    if windows.ndim != 3:
        raise DataError(f"statistics_of_windows: windows have shape {windows.shape}. Allowed: (n, 1 + lags, d).")
    observed = np.ones(windows.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if windows.shape[1] == 1:
        return statistics_of_rows(windows[:, 0], observed[:, 0], intervened, names)
    made = _own_mechanism(intervened, windows[:, 0], "statistics_of_windows")
    untouched = slice(None) if made is None else made.all(axis=1)
    past = lagged_moments(windows[untouched], observed[untouched], list(names) or None)
    rows = past.residuals(windows, observed)
    if made is not None:
        return statistics_of_rows(rows, observed[:, 0], intervened, names)
    now = observed[:, 0]
    called = tuple(names) or tuple(f"x{i}" for i in range(windows.shape[2]))
    return SufficientStatistics(past.covariance, past.effective_n, called, rows, None if now.all() else now)


def _own_mechanism(intervened: Bools | None, values: Floats, owner: str) -> Bools | None:
    """True where a node's own mechanism made the value; None where it did everywhere."""
    if intervened is None:
        return None
    touched = np.asarray(intervened, dtype=bool)
    if touched.shape != values.shape:
        raise DataError(f"{owner}: intervened has shape {touched.shape}. Allowed: that of the rows, {values.shape}.")
    return ~touched if touched.any() else None


def _moments_of_nodes(values: Floats, observed: Bools, scored: Bools, names: list[str]) -> tuple[Floats, Floats]:
    n, d = values.shape
    covariances, rows = np.zeros((d, d, d)), np.empty(d)
    patterns, which = np.unique(scored, axis=1, return_inverse=True)
    for number in range(patterns.shape[1]):
        members, kept = np.flatnonzero(which.ravel() == number), patterns[:, number]
        own = _of_columns_that_vary(values[kept], observed[kept])
        constant = [names[j] for j in members if j not in own]
        if constant:
            raise DataError(
                f"statistics_of_rows: {', '.join(constant)}: constant or unobserved in the {int(kept.sum())} of {n} "
                f"rows in which it was not set from outside. Nothing can be learned of its causes. Leave it out."
            )
        moments = gaussian_moments(values[kept][:, own], observed[kept][:, own], names=[names[j] for j in own])
        for j in members:
            covariances[j][np.ix_(own, own)] = moments.covariance
        rows[members] = moments.effective_n
    return covariances, rows


def _of_columns_that_vary(values: Floats, observed: Bools) -> Ints:
    """A column that was held at one value has the variance 0 in these rows, and is nobody's parent there."""
    low = np.where(observed, values, np.inf).min(axis=0, initial=np.inf)
    high = np.where(observed, values, -np.inf).max(axis=0, initial=-np.inf)
    return np.flatnonzero(low < high)
