from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.jets.metrics import JetResiduals, jet_momentum


def test_a_louder_and_moved_reconstruction_has_known_residuals(real):
    moved = real.particles + torch.tensor([0.03, -0.02, 0.0])
    moved[..., 2] *= 1.1
    metric = JetResiduals()
    for part in (slice(0, 150), slice(150, 400)):
        metric.update(real.particles[part], real.mask[part], moved[part], real.mask[part])
    scores = {name: float(value) for name, value in metric.compute().items()}
    # the pseudorapidity of a massive jet moves by a little more than those of its particles
    for name, expected, within in (("mass", 0.1, 1e-9), ("pt", 0.1, 1e-9), ("phi", -0.02, 1e-9), ("eta", 0.03, 5e-4)):
        assert scores[f"{name}_residual_median"] == pytest.approx(expected, abs=within)
        assert scores[f"{name}_residual_iqr"] < 2 * within
        assert scores[f"{name}_residual_iqr_baseline"] > 0.01
    assert scores["massless_jets"] == int((real.mask.sum(1) == 1).sum()) > 0


def test_median_and_range_are_those_of_all_jets(real):
    noise = 1 + 0.2 * torch.randn(400, 1)
    metric = JetResiduals()
    metric.update(*real, real.particles * torch.stack([noise * 0 + 1, noise * 0 + 1, noise], dim=-1), real.mask)
    scores = metric.compute()
    expected = np.percentile((noise - 1).numpy(), [25, 50, 75])
    assert float(scores["pt_residual_median"]) == pytest.approx(expected[1], rel=1e-5)
    assert float(scores["pt_residual_iqr"]) == pytest.approx(expected[2] - expected[0], rel=1e-5)


def test_lost_particles_are_a_residual_of_the_number(real):
    fewer = real.mask & (torch.arange(8) < 6)
    metric = JetResiduals("multiplicity")
    metric.update(*real, real.particles, fewer)
    mine, others = metric.per_jet()
    count = real.mask.sum(1)
    torch.testing.assert_close(mine[:, 0], (count.clamp_max(6) / count - 1).double())
    assert others.shape == (400, 1)
    assert set(metric.compute()) == {f"multiplicity_residual_{end}" for end in ("median", "iqr", "iqr_baseline")}


def test_one_jet_has_no_other(real):
    metric = JetResiduals(["mass"])
    metric.update(real.particles[1:2], real.mask[1:2], real.particles[1:2], real.mask[1:2])
    scores = metric.compute()
    assert scores["mass_residual_median"] == 0
    assert scores["mass_residual_iqr_baseline"].isnan()


def test_directions_across_the_seam_are_near():
    particles = torch.tensor([[[0.0, 3.1, 1.0]]])
    metric = JetResiduals()
    there = torch.ones(1, 1, dtype=torch.bool)
    metric.update(particles, there, -particles.abs() * torch.tensor([0.0, 1.0, -1.0]), there)
    assert float(metric.compute()["phi_residual_median"]) == pytest.approx(2 * (math.pi - 3.1), abs=1e-6)
    assert float(jet_momentum(particles, there).phi) == pytest.approx(3.1)


def test_wrong_input_is_refused(real):
    with pytest.raises(ConfigurationError, match="Did you mean 'mass'"):
        JetResiduals(["mas"])
    with pytest.raises(ConfigurationError, match="at least one"):
        JetResiduals([])
    metric = JetResiduals()
    with pytest.warns(UserWarning, match="before the"), pytest.raises(DataError, match="no jets"):
        metric.compute()
    with pytest.raises(DataError, match="400 jets and 2 reconstructions"):
        metric.update(*real, real.particles[:2], real.mask[:2])
    metric.update(*real, real.particles * torch.inf, real.mask)
    with pytest.raises(DataError, match="400 of 400 reconstructed"):
        metric.compute()
