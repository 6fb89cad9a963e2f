from __future__ import annotations

import math

import pytest
import torch

from stablelit.errors import DataError
from stablelit.families.jets.features import rotate_about_axis
from stablelit.families.jets.network import HypergraphVAE
from stablelit.families.jets.scaler import JetScaler


def test_statistics_are_those_of_present_particles(batch):
    scaler = JetScaler.fit(batch["particles"], batch["mask"], batch["jet"])
    values = [
        p
        for jet, m in zip(batch["particles"].tolist(), batch["mask"].tolist(), strict=True)
        for p, t in zip(jet, m, strict=True)
        if t
    ]
    n = len(values)
    logs = [math.log(v[2]) for v in values]
    mean = sum(logs) / n
    assert float(scaler.particle_mean[0]) == pytest.approx(mean, abs=1e-5)
    assert float(scaler.particle_std[0]) == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in logs) / n), abs=1e-5)
    variances = []
    for feature in (0, 1):
        centre = sum(v[feature] for v in values) / n
        variances.append(sum((v[feature] - centre) ** 2 for v in values) / n)
    assert scaler.particle_std[1:].tolist() == pytest.approx([math.sqrt(sum(variances) / 2)] * 2, abs=1e-6)
    assert scaler.particle_mean[1:].tolist() == [0.0, 0.0]


def test_scaling_and_rotation_commute(batch):
    network = HypergraphVAE()
    network.set_scaler(JetScaler.fit(batch["particles"], batch["mask"], batch["jet"]))
    angle = torch.linspace(0, 6, len(batch["mask"]))
    first = network.standardise(rotate_about_axis(batch["particles"], angle), batch["mask"])
    x = network.standardise(batch["particles"], batch["mask"])
    second = rotate_about_axis(torch.roll(x, -1, dims=-1), angle)
    assert torch.allclose(torch.roll(first, -1, dims=-1), second, atol=1e-5)


def test_a_single_particle_has_no_standard_deviation():
    particles, mask = torch.zeros(1, 3, 3), torch.tensor([[True, False, False]])
    particles[0, 0, 2] = 1.0
    with pytest.raises(DataError, match="1 particle"):
        JetScaler.fit(particles, mask, torch.ones(1, 4))


@pytest.mark.parametrize(("feature", "name"), [("ptrel", "ln ptrel"), ("angles", "etarel and phirel")])
def test_a_feature_that_does_not_vary_is_named(feature, name):
    particles = torch.rand(4, 3, 3) + 0.1
    if feature == "ptrel":
        particles[..., 2] = 0.3
    else:
        particles[..., :2] = 0.0
    with pytest.raises(DataError, match=name):
        JetScaler.fit(particles, torch.ones(4, 3, dtype=torch.bool), torch.ones(4, 4))


def test_jets_of_one_particle_still_have_a_scaler():
    particles, mask = torch.rand(20, 2, 3) + 0.1, torch.tensor([True, False]).expand(20, 2)
    scaler = JetScaler.fit(particles, mask, torch.ones(20, 4))
    assert scaler.pair_std.tolist() == [1.0] * 5


def test_multiplicities_are_counted_with_half_a_jet_added_to_each():
    particles = torch.rand(3, 4, 3) + 0.1
    mask = torch.arange(4) < torch.tensor([2, 2, 4])[:, None]
    scaler = JetScaler.fit(particles, mask, torch.ones(3, 4))
    assert (scaler.log_count_prob.exp() * 5).tolist() == pytest.approx([0.5, 2.5, 0.5, 1.5])
