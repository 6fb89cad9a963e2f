from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.causal import moments
from stablelit.families.causal.moments import gaussian_moments, impute, with_least_eigenvalue


def _holed(rng, n=300, d=5, missing=0.25):
    values = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)
    return values, rng.random((n, d)) > missing


def _em_step_row_by_row(values, mask, mean, covariance):
    """The textbook step, one row at a time and by the observed block."""
    rows, spread = [], np.zeros_like(covariance)
    for row, seen in zip(values, mask, strict=True):
        full, unseen = row.copy(), ~seen
        if unseen.any():
            slopes = covariance[np.ix_(unseen, seen)] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
            full[unseen] = mean[unseen] + slopes @ (row[seen] - mean[seen])
            spread[np.ix_(unseen, unseen)] += (
                covariance[np.ix_(unseen, unseen)] - slopes @ covariance[np.ix_(seen, unseen)]
            )
        rows.append(full)
    table = np.array(rows)
    new = table.mean(axis=0)
    return new, (table - new).T @ (table - new) / len(table) + spread / len(table), table


def test_complete_rows_have_their_plain_covariance(rng):
    values = rng.normal(size=(50, 4)) * [1, 10, 0.1, 1e4] + 5
    mean, covariance, n = gaussian_moments(values)
    assert mean == pytest.approx(values.mean(axis=0))
    assert covariance == pytest.approx(np.cov(values.T, bias=True))
    assert n == 50


def test_em_ends_where_the_textbook_step_does_not_move(rng):
    values, mask = _holed(rng)
    mean, covariance, _ = gaussian_moments(values, mask, tolerance=1e-9)
    again_mean, again, table = _em_step_row_by_row(values, mask, mean, covariance)
    assert again_mean == pytest.approx(mean, abs=1e-6)
    assert again == pytest.approx(covariance, abs=1e-5)
    assert impute(values, mask, mean, covariance) == pytest.approx(table)


def test_holes_in_one_column_have_a_closed_form(rng):
    """Anderson 1957: regress on the complete rows, and apply that to the moments of all rows."""
    values = rng.normal(size=(400, 2)) @ np.array([[1.0, 2.0], [0.0, 0.7]])
    mask = np.ones_like(values, dtype=bool)
    mask[:, 1] = values[:, 0] < 0.5
    first, complete = values[:, 0], values[mask[:, 1]]
    slope = np.cov(complete.T, bias=True)[0, 1] / complete[:, 0].var()
    left = complete[:, 1].var() - slope**2 * complete[:, 0].var()
    mean, covariance, n = gaussian_moments(values, mask, tolerance=1e-10)
    assert mean[1] == pytest.approx(complete[:, 1].mean() + slope * (first.mean() - complete[:, 0].mean()))
    assert covariance[0, 1] == pytest.approx(slope * first.var())
    assert covariance[1, 1] == pytest.approx(left + slope**2 * first.var())
    assert n == len(complete)


def test_em_is_consistent_where_pairs_are_biased(rng):
    values = rng.normal(size=(20_000, 2)) @ np.array([[1.0, 1.0], [0.0, 1.0]])
    mask = np.ones_like(values, dtype=bool)
    mask[:, 1] = rng.random(len(values)) < 1 / (1 + np.exp(3 * values[:, 0]))
    em, pairs = (gaussian_moments(values, mask, method=method) for method in ("em", "pairwise"))
    assert em.mean[1] == pytest.approx(0.0, abs=0.05)
    assert em.covariance[1, 1] == pytest.approx(2.0, abs=0.1)
    assert pairs.mean[1] < -0.3
    assert pairs.covariance[1, 1] < 1.8


def test_units_are_carried_through(rng):
    values, mask = _holed(rng)
    factor, shift = 10.0 ** np.array([-3, 3, 0, 2, -1]), np.array([0.0, 5.0, -1e3, 1.0, 0.0])
    plain, scaled = gaussian_moments(values, mask), gaussian_moments(values * factor + shift, mask)
    assert scaled.mean == pytest.approx(plain.mean * factor + shift)
    assert scaled.covariance == pytest.approx(plain.covariance * np.outer(factor, factor))


def test_what_stands_in_a_hole_is_not_looked_at(rng):
    values, mask = _holed(rng)
    other = np.where(mask, values, np.nan)
    assert (gaussian_moments(other, mask).covariance == gaussian_moments(values, mask).covariance).all()


def test_a_row_without_any_cell_changes_nothing(rng):
    values, mask = _holed(rng)
    kept = mask.any(axis=1)
    longer, holes = np.vstack([values[kept], np.zeros((7, 5))]), np.vstack([mask[kept], np.zeros((7, 5), dtype=bool)])
    assert gaussian_moments(longer, holes).covariance == pytest.approx(
        gaussian_moments(values[kept], mask[kept]).covariance
    )
    mean, covariance, _ = gaussian_moments(longer, holes)
    assert impute(longer, holes, mean, covariance)[-1] == pytest.approx(mean)


def test_pairs_give_a_positive_definite_matrix(rng):
    values, mask = _holed(rng, n=30, d=8, missing=0.6)
    values[:, 1] = values[:, 0] + 0.01 * values[:, 1]
    mask[:2] = True
    covariance = gaussian_moments(values, mask, method="pairwise").covariance
    scale = np.sqrt(np.diag(covariance))
    assert np.linalg.eigvalsh(covariance / np.outer(scale, scale))[0] > 1e-5


def test_many_patterns_of_holes_are_worked_on_in_parts(rng, monkeypatch):
    values, mask = _holed(rng, d=7)
    whole = gaussian_moments(values, mask).covariance
    monkeypatch.setattr(moments, "CHUNK", 20)
    assert gaussian_moments(values, mask).covariance == pytest.approx(whole)


def test_em_that_has_not_settled_says_so(rng, monkeypatch):
    values, mask = _holed(rng, missing=0.6)
    monkeypatch.setattr(moments, "MOST_STEPS", 3)
    with pytest.warns(UserWarning, match="after 3 steps of EM a correlation still changes"):
        gaussian_moments(values, mask)


def test_raised_eigenvalues_leave_the_diagonal():
    matrix = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    raised = with_least_eigenvalue(matrix, 1e-3)
    assert np.diag(raised) == pytest.approx(1.0)
    assert np.linalg.eigvalsh(raised)[0] > 5e-4
    assert (with_least_eigenvalue(np.eye(3), 1e-3) == np.eye(3)).all()


@pytest.mark.parametrize(
    ("values", "mask", "words"),
    [
        (np.array([[1.0, 2.0], [2.0, 2.0], [3.0, 2.0]]), None, r"flow \(always 2\): does not vary"),
        (np.array([[1.0, 2.0], [2.0, 3.0]]), [[True, False], [True, False]], "flow: no cell was observed in 2 rows"),
        (np.array([[1.0, np.nan], [2.0, 3.0]]), None, "row 0, flow has nan"),
        (np.ones((1, 2)), None, r"shape \(1, 2\)"),
        (np.ones(4), None, r"shape \(4,\)"),
        (np.ones((3, 2)), np.ones((2, 2)), r"mask \(2, 2\)"),
    ],
)
def test_bad_tables_are_named(values, mask, words):
    with pytest.raises(DataError, match=words):
        gaussian_moments(values, None if mask is None else np.array(mask), names=["pump", "flow"])


@pytest.mark.parametrize(("argument", "value"), [("method", "mean"), ("tolerance", 0.0), ("tolerance", np.nan)])
def test_bad_arguments_are_named(argument, value):
    with pytest.raises(ConfigurationError, match=f"gaussian_moments: {argument}="):
        gaussian_moments(np.eye(3), **{argument: value})


def test_shapes_that_do_not_go_together_are_told():
    with pytest.raises(DataError, match=r"impute: values \(3, 3\), mask \(3, 3\), mean \(2,\)"):
        impute(np.eye(3), np.eye(3, dtype=bool), np.zeros(2), np.eye(3))
