from __future__ import annotations

import pytest
import torch

from stablelit.families.jets.metrics import EFPW1, JetMassW1, JetPtW1, MultiplicityW1, ParticleW1, wasserstein_1d


def scored(metric, real, generated):
    metric.update(*real, real=True)
    metric.update(*generated, real=False)
    return {name: float(value) for name, value in metric.compute().items()}


def test_a_larger_scale_is_a_distance_of_the_mean(real):
    # all quantiles move by the factor: the distance is the mean times the factor's excess
    louder = type(real)(real.particles * torch.tensor([1.0, 1.0, 1.25]), real.mask)
    means = {
        "mass_w1": JetMassW1.quantities(real)["mass_w1"].values.mean(),
        "pt_w1": JetPtW1.quantities(real)["pt_w1"].values.mean(),
        "ptrel_w1": real.particles[..., 2][real.mask].mean(),
    }
    for metric in (JetMassW1(), JetPtW1(), ParticleW1()):
        for name, value in scored(metric, real, louder).items():
            if name in means:
                assert value == pytest.approx(0.25 * float(means[name]), rel=1e-6)


def test_multiplicity_counts_particles(real):
    fewer = type(real)(real.particles, real.mask & (torch.arange(8) > 0))
    assert scored(MultiplicityW1(), real, fewer)["multiplicity_w1"] == pytest.approx(1.0)


def test_every_feature_of_particles_is_compared(real, generated):
    scores = scored(ParticleW1(n_bootstrap=0), real, generated)
    assert set(scores) == {f"{n}_w1{e}" for n in ("etarel", "phirel", "ptrel", "delta_r") for e in ("", "_floor")}
    radius = [jets.particles[jets.mask][:, :2].norm(dim=1) for jets in (real, generated)]
    assert scores["delta_r_w1"] == pytest.approx(float(wasserstein_1d(*radius)), rel=1e-6)


def test_polynomials_are_averaged(real, generated):
    scores = scored(EFPW1(), real, generated)
    single = [scores[f"efp_{place}_w1"] for place in (12, 14, 15, 16, 17)]
    assert scores["efp_w1"] == pytest.approx(sum(single) / 5)
    # the mean of `jetnet.evaluation.w1efp` is over resampled jets and lies a little above; see conftest.py
    assert single == pytest.approx([4.78e-3, 3.77e-3, 3.89e-3, 1.26e-3, 3.15e-3], rel=0.1)
