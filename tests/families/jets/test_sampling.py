from __future__ import annotations

import pytest
import torch

from stablelit.families.jets.metrics import jet_mass
from stablelit.families.jets.network import HypergraphVAE
from stablelit.families.jets.sampling import calibrated, draw_jets, evaluating
from stablelit.families.jets.scaler import JetScaler


def test_samples_follow_the_decoder_they_are_drawn_from(batch):
    network = HypergraphVAE(
        latent_dim=4, particle_hidden=16, decoder={"name": "mixture", "n_components": 3, "hidden": 16}
    )
    network.set_scaler(JetScaler.fit(batch["particles"], batch["mask"], batch["jet"]))
    decoded = network.decoder(torch.zeros(1, 4))
    drawn = draw_jets(
        network,
        torch.zeros(4000, 4),
        torch.zeros(4000, dtype=torch.long),
        torch.full((4000,), 1000.0),
        torch.Generator().manual_seed(0),
        calibrate=False,
    )
    x = network.standardise(drawn["particles"], drawn["mask"])
    count = decoded.count_logits.softmax(-1)[0] @ torch.arange(1.0, 31.0)
    assert float(drawn["jet"][:, 3].mean()) == pytest.approx(float(count.detach()), rel=0.03)
    # ln ptrel is not wrapped, so its mean over particles is the mixture's
    mean = (decoded.log_weight.exp()[0] * decoded.mean[0, :, 0]).sum()
    assert float(x[..., 0][drawn["mask"]].mean()) == pytest.approx(float(mean.detach()), abs=0.03)


def cone(n, seed=0):
    """Jets of unequal size within a small cone, hardest first."""
    draws = torch.Generator().manual_seed(seed)
    mask = torch.arange(8) < torch.randint(2, 9, (n, 1), generator=draws)
    angles = 0.1 * torch.randn(n, 8, 2, generator=draws)
    ptrel = torch.rand(n, 8, 1, generator=draws).sort(dim=1, descending=True).values
    return torch.cat([angles, ptrel], dim=-1).masked_fill(~mask[..., None], 0.0), mask


def test_calibrated_jets_have_the_mass_and_the_sum_that_were_asked_for():
    particles, mask = cone(200)
    mass, ptrel_sum = torch.full((200,), 0.1), torch.linspace(0.8, 1.0, 200)
    moved = calibrated(particles, mask, mass, ptrel_sum, torch.tensor(3.0))
    torch.testing.assert_close(moved[..., 2].sum(1), ptrel_sum)
    # a jet whose angles would have to change by more than a factor of 5 is not moved all the way
    found = jet_mass(moved, mask)
    assert float((found - 0.1).abs().median()) < 1e-4
    assert float(((found - 0.1).abs() < 2e-3).double().mean()) > 0.95
    axis = (moved[..., 2:] * moved[..., :2]).sum(1) / ptrel_sum[:, None]
    assert axis.abs().max() < 1e-5


def test_calibration_keeps_shares_of_momentum_and_what_is_absent():
    particles, mask = cone(50)
    moved = calibrated(particles, mask, torch.full((50,), 0.2), torch.ones(50), torch.tensor(3.0))
    shares = particles[..., 2] / particles[..., 2].sum(1, keepdim=True)
    torch.testing.assert_close(moved[..., 2], shares)
    assert not moved[~mask].any()


def test_no_particle_leaves_the_cone():
    particles, mask = cone(50)
    particles[:, 0, :2] *= 10.0
    moved = calibrated(particles, mask, torch.full((50,), 0.4), torch.ones(50), torch.tensor(0.8))
    assert moved[..., :2].norm(dim=-1).max() <= 0.8 + 1e-5


def test_one_particle_and_particles_in_one_place_stay_finite():
    particles, mask = cone(2)
    mask[0, 1:] = False
    particles[0, 1:] = 0.0
    particles[1, :, :2] = 0.0
    moved = calibrated(particles, mask, torch.tensor([0.1, 0.1]), torch.ones(2), torch.tensor(0.8))
    assert moved.isfinite().all()
    assert not moved[0, :, :2].any()


def test_calibrated_masses_are_those_that_the_heads_draw(batch):
    network = HypergraphVAE(latent_dim=4, particle_hidden=16, decoder={"name": "mixture", "hidden": 16})
    network.set_scaler(JetScaler.fit(batch["particles"], batch["mask"], batch["jet"]))
    # heads that always say the last bin
    for head in (network.jet_level.mass, network.jet_level.ptrel_sum):
        torch.nn.init.zeros_(head[-1].weight)
        head[-1].bias.data = 50.0 * torch.arange(len(head[-1].bias))
    arguments = (torch.zeros(100, 4), torch.zeros(100, dtype=torch.long), torch.full((100,), 500.0))
    jets = {c: draw_jets(network, *arguments, torch.Generator().manual_seed(0), calibrate=c) for c in (True, False)}
    assert torch.equal(jets[True]["mask"], jets[False]["mask"])
    total = jets[True]["particles"][..., 2].sum(1)
    assert (total >= network.ptrel_sum_quantiles[-2] - 1e-5).all()
    assert (total <= network.ptrel_sum_quantiles[-1] + 1e-5).all()
    assert (jets[True]["particles"][..., :2].norm(dim=-1) <= network.max_delta_r + 1e-5).all()
    assert jets[True]["jet"][:, 0].eq(500.0).all()


def test_dropout_sleeps_inside_the_block_and_wakes_after_an_error():
    network = torch.nn.Dropout(0.5)

    def fail():
        with evaluating(network):
            assert not network.training
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert network.training
