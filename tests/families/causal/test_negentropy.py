from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.families.causal.negentropy import gaussian_p_value, negentropy, standardised_negentropy


def test_any_shape_but_the_gaussian_has_some(rng):
    n = 50_000
    gaussian = negentropy(rng.normal(size=n))
    assert gaussian < 3e-4
    for values in (rng.laplace(size=n), rng.uniform(size=n), rng.exponential(size=n), rng.gumbel(size=n)):
        assert negentropy(values) > 20 * gaussian


def test_units_and_offset_do_not_matter(rng):
    values = rng.exponential(size=500)
    assert negentropy(1e6 * values - 3e5) == pytest.approx(negentropy(values))
    # a mirror image is as far from Gaussian
    assert negentropy(-values) == pytest.approx(negentropy(values))


def test_it_is_the_formula_written_out(rng):
    values = rng.laplace(size=200)
    u = (values - values.mean()) / values.std()
    expected = 79.047 * (np.log(np.cosh(u)).mean() - 0.37457) ** 2 + 7.4129 * (u * np.exp(-(u**2) / 2)).mean() ** 2
    assert negentropy(values) == pytest.approx(expected)
    assert standardised_negentropy(np.stack([u, -u])) == pytest.approx([expected, expected])


def test_values_far_out_do_not_overflow():
    assert np.isfinite(negentropy(np.array([0.0] * 1000 + [1e9])))


def test_what_does_not_vary_has_none():
    assert negentropy(np.ones(9)) == 0.0
    assert negentropy(np.array([1.0, 2.0])) == 0.0


def test_gaussian_values_reach_a_p_value_as_often_as_it_says(rng):
    n, columns = 400, 3
    statistics = [sum(2 * n * negentropy(column) for column in rng.normal(size=(columns, n))) for _ in range(600)]
    assert np.mean(statistics) == pytest.approx(2 * columns, rel=0.1)
    p_values = np.array([gaussian_p_value(s, columns) for s in statistics])
    # three standard errors of a share of 600
    assert np.mean(p_values < 0.5) == pytest.approx(0.5, abs=0.07)
    assert np.mean(p_values < 0.05) == pytest.approx(0.05, abs=0.03)


def test_the_p_value_is_the_tail_of_chi_squared():
    assert gaussian_p_value(3.0, 1) == pytest.approx(math.exp(-1.5))
    assert gaussian_p_value(7.0, 2) == pytest.approx(math.exp(-3.5) * 4.5)
    assert gaussian_p_value(0.0, 5) == 1.0
    assert gaussian_p_value(1e6, 5) == 0.0
    # far from 0 and 1 the law is nearly normal
    assert gaussian_p_value(400.0, 200) == pytest.approx(0.5, abs=0.02)
