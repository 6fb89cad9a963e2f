from __future__ import annotations

import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.jets.metrics import JetCoverageMMD, coverage, coverage_and_mmd, energy_movers_distance
from stablelit.families.jets.metrics.coverage import nearest_jets


def all_distances(rows, columns):
    i = torch.arange(rows.n_jets).repeat_interleave(columns.n_jets)
    j = torch.arange(columns.n_jets).repeat(rows.n_jets)
    return energy_movers_distance(*rows.take(i), *columns.take(j)).view(rows.n_jets, columns.n_jets)


def test_nearest_jets_are_those_of_the_whole_matrix(real, generated):
    rows, columns = generated.take(torch.arange(25)), real.take(torch.arange(18))
    distances = all_distances(rows, columns)
    nearest, to_nearest = nearest_jets(rows, columns)
    assert torch.equal(nearest, distances.argmin(1))
    assert torch.allclose(to_nearest, distances.amin(0), atol=1e-9)


def test_no_distance_is_below_its_bound(real, generated):
    rows, columns = generated.take(torch.arange(25)), real.take(torch.arange(25))
    bounds, distances = coverage._lower_bounds(rows, columns), all_distances(rows, columns)
    assert (bounds <= distances).all()
    # near enough to be of use
    assert float((bounds / distances).median()) > 0.9


def test_an_overflow_bounds_nothing_and_hides_no_jet(real):
    # angles of several units at a temperature of 0.02: nothing of the kernel is left in float32
    far = real.take(torch.arange(8))
    far = type(far)(far.particles * torch.tensor([40.0, 0.0, 1.0]), far.mask)
    near = real.take(torch.arange(8))
    nearest, to_nearest = nearest_jets(far, near)
    distances = all_distances(far, near)
    assert torch.equal(nearest, distances.argmin(1))
    assert torch.allclose(to_nearest, distances.amin(0), atol=1e-9)


def test_published_protocol_gives_the_figures_of_jetnet(real, generated):
    # `jetnet.evaluation.cov_mmd(..., num_eval_samples=25, num_batches=3)`; see conftest.py
    found, mmd = coverage_and_mmd(real, generated, n_jets=25, n_batches=3, replace=True, floor=False)
    assert found.value == pytest.approx(0.5333333333333333, rel=1e-12)
    assert mmd.value == pytest.approx(0.12243364866610602, abs=1e-9)


@pytest.mark.slow
def test_a_generator_of_one_jet_covers_one_jet(real):
    one = real.take(torch.zeros(40, dtype=torch.long))
    found, mmd = coverage_and_mmd(real, one, n_jets=20, n_batches=2)
    assert found.value == 1 / 20
    assert found.floor > 0.3
    assert mmd.value > mmd.floor


def test_jets_against_themselves_are_all_covered(real):
    few = real.take(torch.arange(15))
    found, mmd = coverage_and_mmd(few, few, n_jets=100, n_batches=2, floor=False)
    assert found.value == 1.0
    assert mmd.value == pytest.approx(0.0, abs=1e-9)


@pytest.mark.slow
def test_error_is_that_of_the_mean_and_seeds_decide(real, generated):
    first = coverage_and_mmd(real, generated, 10, 4, seed=1)
    assert first == coverage_and_mmd(real, generated, 10, 4, seed=1)
    assert first != coverage_and_mmd(real, generated, 10, 4, seed=2)
    batches = coverage._batches(real, generated, 10, 4, np.random.default_rng(1), False)
    assert [e.std for e in first] == pytest.approx((batches.std(0) / 2).tolist())


def test_wrong_input_is_refused(real):
    with pytest.raises(DataError, match="3 generated jets. Allowed: at least 4"):
        coverage_and_mmd(real, real.take(torch.arange(3)))
    with pytest.raises(ConfigurationError, match="n_jets=1"):
        coverage_and_mmd(real, real, n_jets=1)
    with pytest.raises(DataError, match="negative pT"):
        coverage_and_mmd(real, type(real)(-real.particles, real.mask), n_jets=4, n_batches=1)


def test_metric_returns_both_scores(real, generated):
    metric = JetCoverageMMD(n_jets=8, n_batches=2, seed=5)
    for jets, is_real in ((real, True), (generated, False)):
        metric.update(*jets, real=is_real)
    scores = metric.compute()
    found, mmd = coverage_and_mmd(real, generated, 8, 2, seed=5)
    assert (float(scores["coverage"]), float(scores["mmd_floor"])) == (found.value, mmd.floor)
