from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.causal.sem import SyntheticSEM, filtered
from stablelit.families.causal.sortability import r2_sortability, varsortability


def residuals(draw) -> np.ndarray:
    """e of every row that has all its lags, by the model's own equation."""
    clean, lags = draw.clean, len(draw.lag_weights)
    rows = clean - clean @ draw.weights
    for lag in range(1, lags + 1):
        rows[lags:] -= clean[lags - lag : len(clean) - lag] @ draw.lag_weights[lag - 1]
    return rows[lags:] - rows[lags:].mean(axis=0)


def test_what_is_left_of_the_equation_is_independent_noise_of_the_scale_that_was_asked_for():
    draw = SyntheticSEM(nodes=8, rows=20_000, noise_scale=[0.5, 3.0], seed=1).draw()
    noise = residuals(draw)
    covariance = np.cov(noise.T)
    assert np.sqrt(np.diag(covariance)) == pytest.approx(draw.noise_scale, rel=0.03)
    off = np.corrcoef(noise.T)[~np.eye(8, dtype=bool)]
    assert np.abs(off).max() < 4 / np.sqrt(20_000)
    assert draw.noise_scale.min() >= 0.5
    assert draw.noise_scale.max() <= 3.0
    assert len(set(draw.noise_scale.round(6))) == 8


def test_a_row_is_its_equation_solved_by_recursion():
    draw = SyntheticSEM(nodes=6, rows=50, seed=2).draw()
    noise = draw.clean - draw.clean @ draw.weights
    order, done = [], set()
    while len(order) < 6:
        order += [n for n in range(6) if n not in done and set(np.flatnonzero(draw.weights[:, n])) <= done]
        done = set(order)
    row = np.zeros(6)
    for node in order:
        row[node] = noise[7, node] + sum(row[i] * draw.weights[i, node] for i in range(6))
    assert draw.clean[7] == pytest.approx(row)


def test_an_edge_points_from_row_to_column():
    draw = SyntheticSEM(nodes=2, rows=20_000, edges=1, seed=3).draw()
    cause, effect = (int(i) for i in np.argwhere(draw.panel.truth)[0])
    assert draw.weights[cause, effect] != 0
    # with equal variances the effect varies more: Var = 1 + w^2
    assert draw.clean[:, effect].var() == pytest.approx(1 + draw.weights[cause, effect] ** 2, rel=0.05)
    assert draw.clean[:, cause].var() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
    ("noise", "skew", "excess"), [("gaussian", 0, 0), ("laplace", 0, 3), ("gumbel", 1.14, 2.4), ("student", 0, None)]
)
def test_noises_have_mean_zero_variance_one_and_their_own_shape(noise, skew, excess):
    draw = SyntheticSEM(nodes=2, rows=200_000, edges=0, noise=noise, seed=4).draw()
    values = draw.clean[:, 0]
    assert values.mean() == pytest.approx(0, abs=0.02)
    assert values.var() == pytest.approx(1, abs=0.05)
    assert (values**3).mean() == pytest.approx(skew, abs=0.6 if noise == "student" else 0.15)
    if excess is not None:
        assert (values**4).mean() - 3 == pytest.approx(excess, abs=0.4)
    else:
        assert (values**4).mean() - 3 > 2


@pytest.mark.slow
@pytest.mark.parametrize("a", [0.6, -0.9])
def test_autoregression_keeps_the_scale_of_the_noise(a):
    draw = SyntheticSEM(nodes=5, rows=50_000, noise_scale=2.0, autoregression=a, seed=5).draw()
    noise = residuals(draw)
    assert noise.std(axis=0) == pytest.approx(np.full(5, 2.0), rel=0.06)
    after, before = noise[1:, 0], noise[:-1, 0]
    assert np.corrcoef(after, before)[0, 1] == pytest.approx(a, abs=0.02)
    # what is left of it is white
    white = after - a * before
    assert np.corrcoef(white[1:], white[:-1])[0, 1] == pytest.approx(0, abs=0.02)
    # it begins in its stationary state
    many = [SyntheticSEM(nodes=5, rows=2, edges=0, autoregression=a, seed=s).draw().clean[0] for s in range(300)]
    assert np.std(many) == pytest.approx(1.0, rel=0.08)


def test_filtering_is_the_recursion():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((37, 3))
    transition = 0.5 * rng.standard_normal((3, 3)) / np.sqrt(3)
    for matrix in (transition, np.array([[0.7]]), np.array([[0.0]])):
        by_hand = np.zeros_like(inputs)
        full = matrix if matrix.size > 1 else matrix * np.eye(3)
        for row in range(37):
            by_hand[row] = inputs[row] + (by_hand[row - 1] @ full if row else 0.0)
        assert filtered(inputs, matrix) == pytest.approx(by_hand, abs=1e-12)


def test_lagged_edges_act_at_their_lag_and_never_blow_up():
    draw = SyntheticSEM(
        nodes=6, rows=20_000, lags=2, lag_degree=3.0, lag_weight_range=(0.5, 0.9), autoregression=0.0, seed=6
    ).draw()
    assert draw.lag_weights.shape == (2, 6, 6)
    noise = residuals(draw)
    assert noise.std(axis=0) == pytest.approx(np.ones(6), rel=0.05)
    assert abs(np.corrcoef(noise[1:, 0], noise[:-1, 0])[0, 1]) < 0.03
    inverse = np.linalg.inv(np.eye(6) - draw.weights)
    first, second = draw.lag_weights @ inverse
    companion = np.block([[first, np.eye(6)], [second, np.zeros((6, 6))]])
    assert np.abs(np.linalg.eigvals(companion)).max() == pytest.approx(0.95)
    half = len(draw.clean) // 2
    assert draw.clean[:half].std() == pytest.approx(draw.clean[half:].std(), rel=0.2)


def test_a_draw_depends_on_its_seed_alone():
    model = SyntheticSEM(nodes=7, rows=60, noise="gumbel", corruption={"mcar": 0.2, "spikes": 0.02}, seed=7)
    first, again = model.draw(), model.draw()
    assert (first.panel.values == again.panel.values).all()
    assert (first.panel.mask == again.panel.mask).all()
    other = SyntheticSEM(nodes=7, rows=60, noise="gumbel", seed=8).draw()
    assert not np.array_equal(first.clean, other.clean)


def test_corruption_units_and_rows_leave_the_graph_and_corruption_the_clean_signal():
    plain = SyntheticSEM(nodes=7, rows=60, seed=7).draw()
    spoilt = SyntheticSEM(nodes=7, rows=60, seed=7, corruption={"mcar": 0.2, "drift": 1, "stuck": 0.1}).draw()
    longer = SyntheticSEM(nodes=7, rows=90, seed=7, units="log_uniform").draw()
    assert (plain.clean == spoilt.clean).all()
    for other in (spoilt, longer):
        assert (plain.panel.truth == other.panel.truth).all()
    assert (plain.panel.truth == (plain.weights != 0)).all()
    assert spoilt.panel.missing_share == pytest.approx(spoilt.shares["mcar"])
    assert (spoilt.panel.values[~spoilt.panel.mask] == 0).all()


def test_units_multiply_the_columns_and_the_weights_follow():
    plain = SyntheticSEM(nodes=6, rows=500, seed=9).draw()
    scaled = SyntheticSEM(nodes=6, rows=500, seed=9, units="log_uniform").draw()
    unit = scaled.clean.std(axis=0) / plain.clean.std(axis=0)
    assert scaled.clean == pytest.approx(plain.clean * unit)
    assert np.log10(unit).min() >= -3
    assert np.log10(unit).max() <= 3
    assert np.ptp(np.log10(unit)) > 1
    assert scaled.weights == pytest.approx(np.diag(1 / unit) @ plain.weights @ np.diag(unit))
    assert residuals(scaled).std(axis=0) == pytest.approx(scaled.noise_scale, rel=0.2)


def test_a_range_of_units_holds_every_value_and_is_filled():
    draw = SyntheticSEM(nodes=13, rows=400, units=[0, 2775], seed=10).draw()
    assert draw.clean.min() == pytest.approx(0, abs=1e-9)
    assert draw.clean.max() == pytest.approx(2775)
    spans = np.ptp(draw.clean, axis=0)
    assert spans.max() / spans.min() > 10
    noise = residuals(draw)
    assert np.abs(np.corrcoef(noise.T)[~np.eye(13, dtype=bool)]).max() < 5 / np.sqrt(400)


def test_sortability_is_of_what_arrives():
    draw = SyntheticSEM(nodes=10, rows=500, corruption={"mcar": 0.2}, seed=11).draw()
    panel = draw.panel
    assert draw.varsortability == varsortability(panel.values, panel.truth, panel.mask) > 0.8
    assert draw.r2_sortability == r2_sortability(panel.values, panel.truth, panel.mask)


def test_settings_make_the_same_draw():
    model = SyntheticSEM(nodes=5, rows=30, units=[0, 10], noise_scale=[1, 2], corruption={"mcar": 0.1}, seed=12)
    again = SyntheticSEM(**model.settings())
    assert (model.draw().panel.values == again.draw().panel.values).all()
    assert again.settings() == model.settings()


@pytest.mark.parametrize(("nodes", "edges"), [(2, 1), (3, 3)])
def test_few_nodes_are_all_joined_where_nothing_is_said(nodes, edges):
    assert SyntheticSEM(nodes=nodes, rows=5).draw().panel.truth.sum() == edges


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nodes": 1}, "nodes=1"),
        ({"nodes": 3, "degree": 2.0}, "degree=2.0.*at most 1"),
        ({"rows": 1}, "rows=1"),
        ({"noise": "laplac"}, "noise='laplac'.*Did you mean 'laplace'"),
        ({"noise_scale": 0.0}, "noise_scale=0.0"),
        ({"noise_scale": [2.0, 1.0]}, r"noise_scale=\[2\.0, 1\.0\].*low not above high"),
        ({"weight_range": "0.5"}, "weight_range='0.5'"),
        ({"weight_range": [0.5]}, r"weight_range=\[0\.5\]"),
        ({"autoregression": 1.0}, "autoregression=1.0"),
        ({"lags": -1}, "lags=-1"),
        ({"units": "metres"}, "units='metres'.*log_uniform"),
        ({"units": [3, 3]}, r"units=\[3, 3\]"),
        ({"corruption": {"mcar": 2}}, r"corruption\.mcar\.rate=2"),
        ({"seed": None}, "seed=None"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        SyntheticSEM(**arguments)
