r"""Mean and covariance of rows with holes, and what to expect in the holes.

Expectation maximisation for a Gaussian (Dempster, Laird and Rubin 1977, section 4.1; Little and Rubin, *Statistical
Analysis with Missing Data*, 11.2). With M the missing and O the observed columns of a row and K the inverse of the
current covariance,

.. math:: \hat x_M = \mu_M - K_{MM}^{-1} K_{MO}\,(x_O - \mu_O), \qquad
          \operatorname{Cov}(x_M \mid x_O) = K_{MM}^{-1},

and the next covariance is that of the completed rows plus the mean of these conditional covariances. The estimate is
consistent where cells are missing at random (MAR: the chance may depend on what was observed), for any distribution
with finite moments whose regressions are linear; a mean over complete rows or pairs needs MCAR.

All rows with equally many holes are worked on at once, and those with the same holes share one inverse.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from stablelit.errors import DataError, bad_argument
from stablelit.families.causal.panel import Bools, Floats, Ints

METHODS = ("em", "pairwise")
MOST_STEPS = 450
# correlations: EM's are kept invertible, pairwise ones are often indefinite and need more
LEAST_EIGENVALUE = {"em": 1e-9, "pairwise": 1e-4}
CHUNK = 2**21


class Moments(NamedTuple):
    """What a Gaussian knows of a table.

    Args:
        mean: ``(d,)`` in the columns' units.
        covariance: ``(d, d)``, of n and not n - 1.
        effective_n: how many complete rows the pairs of observed cells amount to: their mean number over the pairs.
    """

    mean: Floats
    covariance: Floats
    effective_n: float


def gaussian_moments(
    values: Floats,
    mask: Bools | None = None,
    method: str = "em",
    tolerance: float = 1e-5,
    names: Sequence[str] | None = None,
) -> Moments:
    """Mean and covariance of a table, of which some cells may be missing.

    Args:
        values: ``(n, d)``; what stands in a missing cell is not looked at.
        mask: ``(n, d)`` True where observed. None is everywhere.
        method: "em"; or "pairwise": each covariance from the rows where both were observed, made positive definite.
            It is faster on very large tables, and biased where cells are not missing completely at random.
        tolerance: EM ends when no mean or correlation changes by more in one step.
        names: of the columns, for messages.

    Raises:
        DataError: other shapes, a column without an observed cell or that does not vary (named), a value that is not
            finite.
        ConfigurationError: another method, a tolerance that is not positive.

    Example:
        >>> values = np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [3.0, 0.0]])
        >>> moments = gaussian_moments(values, mask=np.array([[1, 1], [1, 1], [1, 1], [1, 0]], dtype=bool))
        >>> moments.mean.round(3).tolist()
        [1.5, 2.5]
    """
    if method not in METHODS:
        raise bad_argument("gaussian_moments", "method", method, " or ".join(METHODS))
    if not tolerance > 0:
        raise bad_argument("gaussian_moments", "tolerance", tolerance, "a positive number")
    values, observed = checked_table(values, mask, names)
    kept = observed.any(axis=1)
    if not kept.all():
        # a row without any cell says nothing, and would only slow EM down
        values, observed = values[kept], observed[kept]
    centre, scale = observed_scale(values, observed)
    table = np.where(observed, (values - centre) / scale, 0.0)
    pairs = observed.T.astype(np.float64) @ observed.astype(np.float64)
    n, d = table.shape
    off = ~np.eye(d, dtype=bool)
    effective_n = float(pairs[off].mean()) if d > 1 else float(pairs[0, 0])
    if observed.all():
        return Moments(centre, _exactly_symmetric(table.T @ table / n) * np.outer(scale, scale), effective_n)
    start = with_least_eigenvalue(table.T @ table / np.maximum(pairs, 1.0), LEAST_EIGENVALUE["pairwise"])
    if method == "pairwise":
        mean, correlation = np.zeros(d), start
    else:
        mean, correlation = _expectation_maximisation(table, observed, start, tolerance)
    return Moments(centre + scale * mean, correlation * np.outer(scale, scale), effective_n)


def impute(values: Floats, mask: Bools, mean: Floats, covariance: Floats) -> Floats:
    r"""The rows with every missing cell at its conditional mean given the observed cells of its row.

    Args:
        values: ``(n, d)``; what stands in a missing cell is not looked at.
        mask: ``(n, d)`` True where observed.
        mean: ``(d,)``.
        covariance: ``(d, d)``, positive definite.

    Returns:
        ``(n, d)``; a row without any observed cell is the mean.

    Raises:
        DataError: shapes that do not go together.
    """
    values, mask = np.asarray(values, dtype=np.float64), np.asarray(mask, dtype=bool)
    d = values.shape[-1]
    if values.ndim != 2 or mask.shape != values.shape or np.shape(mean) != (d,) or np.shape(covariance) != (d, d):
        raise DataError(
            f"impute: values {values.shape}, mask {mask.shape}, mean {np.shape(mean)}, covariance "
            f"{np.shape(covariance)}. Allowed: (n, d), (n, d), (d,) and (d, d)."
        )
    if mask.all():
        return values
    scale = np.sqrt(np.diag(covariance))
    rows = np.where(mask, (values - mean) / scale, 0.0)
    _complete(rows, np.linalg.inv(covariance / np.outer(scale, scale)), list(_groups_of_holes(mask)))
    return np.asarray(np.where(mask, values, mean + scale * rows))


def with_least_eigenvalue(correlation: Floats, least: float) -> Floats:
    """The matrix with eigenvalues raised to `least`, and with its own diagonal restored."""
    symmetric = _exactly_symmetric(correlation)
    eigenvalues, vectors = np.linalg.eigh(symmetric)
    if eigenvalues[0] >= least:
        return symmetric
    raised = (vectors * np.maximum(eigenvalues, least)) @ vectors.T
    shrink = np.sqrt(np.diag(symmetric) / np.diag(raised))
    return _exactly_symmetric(raised * np.outer(shrink, shrink))


def observed_scale(values: Floats, observed: Bools) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the observed cells of each column, ``(d,)`` each."""
    count = observed.sum(axis=0)
    mean = np.where(observed, values, 0.0).sum(axis=0) / count
    return mean, np.sqrt((np.where(observed, values - mean, 0.0) ** 2).sum(axis=0) / count)


def checked_table(
    values: Floats, mask: Bools | None, names: Sequence[str] | None, owner: str = "gaussian_moments"
) -> tuple[Floats, Bools]:
    """Values as float64 and the mask, both ``(n, d)``.

    Raises:
        DataError: other shapes, a column without an observed cell or that does not vary (named), a value that is not
            finite.
    """
    values = np.asarray(values, dtype=np.float64)
    observed = np.ones(values.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if values.ndim != 2 or observed.shape != values.shape or len(values) < 2:
        raise DataError(
            f"{owner}: values have shape {values.shape} and mask {observed.shape}. Allowed: (n, d) both, with n of 2 "
            f"or more."
        )
    called = [f"column {i}" for i in range(values.shape[1])] if names is None else list(names)
    bad = np.argwhere(observed & ~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        raise DataError(
            f"{owner}: row {row}, {called[column]} has {values[row, column]} ({len(bad)} observed cells are not "
            f"finite). Allowed: finite numbers. Set mask to False there."
        )
    unseen = [name for name, seen in zip(called, observed.any(axis=0), strict=True) if not seen]
    if unseen:
        raise DataError(f"{owner}: {', '.join(unseen)}: no cell was observed in {len(values)} rows. Leave it out.")
    low = np.where(observed, values, np.inf).min(axis=0)
    high = np.where(observed, values, -np.inf).max(axis=0)
    flat = [f"{name} (always {v:g})" for name, v, h in zip(called, low, high, strict=True) if v == h]
    if flat:
        raise DataError(f"{owner}: {', '.join(flat)}: does not vary, and has no cause that can be found. Leave it out.")
    return values, observed


class _Holes(NamedTuple):
    """Rows with equally many holes, k.

    Args:
        columns: ``(patterns, k)`` which columns are missing.
        rows: ``(n,)``.
        pattern: ``(n,)`` the pattern of each row.
        rows_of_pattern: ``(patterns,)`` how many rows each has.
    """

    columns: Ints
    rows: Ints
    pattern: Ints
    rows_of_pattern: Ints


def _groups_of_holes(observed: Bools) -> Iterator[_Holes]:
    packed = np.packbits(~observed, axis=1)
    _, first, pattern = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    pattern = pattern.ravel()
    holes = ~observed[first]
    number = holes.sum(axis=1)
    count = np.bincount(pattern, minlength=len(first))
    for k in np.unique(number[number > 0]):
        of_size = np.flatnonzero(number == k)
        # in chunks, so that the inverses of many different patterns do not fill the memory
        for some in np.array_split(of_size, max(1, int(len(of_size) * k * k // CHUNK))):
            place = np.full(len(first), -1)
            place[some] = np.arange(len(some))
            rows = np.flatnonzero(place[pattern] >= 0)
            yield _Holes(np.nonzero(holes[some])[1].reshape(len(some), k), rows, place[pattern[rows]], count[some])


def _complete(rows: Floats, precision: Floats, groups: list[_Holes]) -> Floats:
    """Fills the holes of centred `rows`, which hold 0, in place; the sum of their conditional covariances, (d, d)."""
    d = rows.shape[1]
    pull = rows @ precision
    spread = np.zeros(d * d)
    for columns, members, pattern, count in groups:
        inverse = np.linalg.inv(precision[columns[:, :, None], columns[:, None, :]])
        cells = columns[pattern]
        rows[members[:, None], cells] = -(inverse[pattern] @ pull[members[:, None], cells][:, :, None])[:, :, 0]
        places = columns[:, :, None] * d + columns[:, None, :]
        spread += np.bincount(places.ravel(), (inverse * count[:, None, None]).ravel(), minlength=d * d)
    return spread.reshape(d, d)


def _expectation_maximisation(table: Floats, observed: Bools, start: Floats, tolerance: float) -> tuple[Floats, Floats]:
    """EM, sped up by squared extrapolation: SQUAREM, Varadhan and Roland 2008, scheme S3."""
    groups = list(_groups_of_holes(observed))
    at = np.vstack([np.zeros(len(start)), start])
    change = np.inf
    for _ in range(MOST_STEPS // 3):
        once = _em_step(table, observed, groups, at)
        twice = _em_step(table, observed, groups, once)
        step, bend = once - at, twice - 2 * once + at
        change = float(np.abs(twice - once).max())
        if change < tolerance:
            return twice[0], twice[1:]
        length = max(1.0, float(np.linalg.norm(step) / max(np.linalg.norm(bend), 1e-300)))
        at = twice
        while length > 1.0:
            far = once - step + 2 * length * step + length**2 * bend
            if np.linalg.eigvalsh(far[1:])[0] > LEAST_EIGENVALUE["em"]:
                # an ordinary step from there puts right what the extrapolation has overshot
                at = _em_step(table, observed, groups, far)
                break
            length = (length + 1.0) / 2 if length > 1.5 else 1.0
    warnings.warn(
        f"gaussian_moments: after {MOST_STEPS} steps of EM a correlation still changes by {change:.2g} a step "
        f"({1 - observed.mean():.0%} of the cells are missing). The estimate is of little use where two columns were "
        f"hardly ever observed together; method='pairwise' says so by a correlation near 0.",
        stacklevel=3,
    )
    return at[0], at[1:]


def _em_step(table: Floats, observed: Bools, groups: list[_Holes], at: Floats) -> Floats:
    """The next (1 + d, d): the mean, and the covariance under it."""
    mean, covariance = at[0], at[1:]
    rows = np.where(observed, table - mean, 0.0)
    spread = _complete(rows, np.linalg.inv(covariance), groups)
    shift = rows.mean(axis=0)
    new = (rows.T @ rows + spread) / len(rows) - np.outer(shift, shift)
    return np.vstack([mean + shift, with_least_eigenvalue(new, LEAST_EIGENVALUE["em"])])


def _exactly_symmetric(matrix: Floats) -> Floats:
    return np.asarray((matrix + matrix.T) / 2)
