from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.jets.metrics import (
    PerJet,
    bootstrap_w1,
    jet_mass,
    real_against_real,
    w1_estimate,
    wasserstein_1d,
)


def brute_force(a, b):
    """The area between the two cumulative distributions, by walking along the values."""
    a, b = sorted(a.tolist()), sorted(b.tolist())
    values = sorted(a + b)
    area = 0.0
    for low, high in itertools.pairwise(values):
        below_a = sum(v <= low for v in a) / len(a)
        below_b = sum(v <= low for v in b) / len(b)
        area += abs(below_a - below_b) * (high - low)
    return area


@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 5), (7, 3), (2, 31), (24, 36)])
def test_distance_is_the_area_between_the_cumulative_distributions(n, m):
    a, b = torch.randn(n), 0.5 + 2 * torch.randn(m)
    assert float(wasserstein_1d(a, b)) == pytest.approx(brute_force(a, b), abs=1e-6)


def test_distance_of_a_shifted_sample_is_the_shift():
    a = torch.randn(50, dtype=torch.double)
    assert float(wasserstein_1d(a, a + 0.3)) == pytest.approx(0.3)
    assert float(wasserstein_1d(a, a[torch.randperm(50)])) == 0.0
    assert float(wasserstein_1d(a, a.repeat(3))) == pytest.approx(0.0, abs=1e-12)


def test_an_empty_sample_is_refused():
    with pytest.raises(DataError, match="0 and 3"):
        wasserstein_1d(torch.zeros(0), torch.zeros(3))


def test_floor_predicts_what_real_jets_score_against_as_many_others():
    draws = torch.Generator().manual_seed(5)
    scores = [wasserstein_1d(*torch.randn(2, 400, generator=draws)) for _ in range(60)]
    floors = [real_against_real(torch.randn(400, generator=draws)) for _ in range(60)]
    assert float(torch.stack(floors).mean() / torch.stack(scores).mean()) == pytest.approx(1.0, abs=0.15)
    assert real_against_real(torch.randn(1)).isnan()


def test_floor_of_particles_halves_jets():
    # particles of one jet are copies: halving particles would give a floor that is far too low
    values = torch.randn(100).repeat_interleave(6).reshape(100, 6)
    mask = torch.ones(100, 6, dtype=torch.bool)
    assert float(real_against_real(PerJet.of(values, mask))) == pytest.approx(
        float(real_against_real(PerJet.of(values[:, 0]))), rel=1e-12
    )


def test_resampling_by_weights_is_resampling(real, generated):
    def resampled(jets, chosen):
        return torch.cat([jets.particles[jet, jets.mask[jet], 2] for jet in chosen.tolist()])

    draws = np.random.default_rng(9)
    scores = [
        brute_force(*(resampled(jets, draws.integers(0, jets.n_jets, 20)) for jets in (real, generated)))
        for _ in range(3)
    ]
    values = [PerJet.of(jets.particles[..., 2], jets.mask) for jets in (real, generated)]
    mean, std = bootstrap_w1(*values, n_samples=20, n_batches=3, seed=9)
    assert (mean, std) == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-9)


def test_published_protocol_gives_the_figures_of_jetnet(real, generated):
    protocol = {"n_samples": 1000, "n_batches": 5, "seed": 42}
    mass = bootstrap_w1(*(PerJet.of(jet_mass(*jets)) for jets in (real, generated)), **protocol)
    assert mass == pytest.approx((0.048779009206665405, 0.0024987787358988567), rel=1e-6)
    recorded = [
        (0.05503818756090402, 0.0015653280197146817),
        (0.05085138782126666, 0.0010775461933176613),
        (0.010371782412925435, 0.003919771632296002),
    ]
    for feature, found in enumerate(recorded):
        values = [PerJet.of(jets.particles[..., feature], jets.mask) for jets in (real, generated)]
        assert bootstrap_w1(*values, **protocol) == pytest.approx(found, rel=1e-6)


@pytest.mark.slow
def test_bootstrap_error_is_how_much_the_distance_varies():
    draws = torch.Generator().manual_seed(3)
    pairs = [(torch.randn(300, generator=draws), 0.5 + torch.randn(300, generator=draws)) for _ in range(40)]
    varies = torch.stack([wasserstein_1d(a, b) for a, b in pairs]).std()
    estimates = [w1_estimate(PerJet.of(a), PerJet.of(b), n_bootstrap=30) for a, b in pairs]
    assert np.mean([e.std for e in estimates]) == pytest.approx(float(varies), rel=0.3)
    assert estimates[0].value == pytest.approx(float(wasserstein_1d(*pairs[0])))


def test_a_known_floor_and_no_bootstrap_are_taken_as_told():
    a, b = PerJet.of(torch.randn(30)), PerJet.of(torch.randn(20))
    estimate = w1_estimate(a, b, n_bootstrap=0, floor=0.25)
    assert np.isnan(estimate.std)
    assert estimate.floor == 0.25


def test_jets_without_a_particle_have_no_values():
    nothing = PerJet.of(torch.zeros(4, 3), torch.zeros(4, 3, dtype=torch.bool))
    with pytest.raises(DataError, match="0 values of 4 real jets and 5 values of 5 generated"):
        w1_estimate(nothing, PerJet.of(torch.randn(5)))


@pytest.mark.parametrize("arguments", [{"n_batches": 0}, {"n_samples": 0}, {"n_samples": 2.5}])
def test_arguments_are_checked(arguments):
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        bootstrap_w1(PerJet.of(torch.randn(5)), PerJet.of(torch.randn(5)), **arguments)
