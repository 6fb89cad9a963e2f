from __future__ import annotations

import pytest
import torch

from stablelit.families.jets.coordinates import JetCoordinates
from stablelit.families.jets.jet_level import JetLevelHeads
from stablelit.families.jets.metrics import jet_mass
from stablelit.families.jets.scaler import JetScaler, quantile_levels


@pytest.fixture
def jets(toy_jets):
    return [torch.from_numpy(getattr(toy_jets, name).copy()) for name in ("particles", "mask", "jet")]


@pytest.fixture
def coordinates(jets):
    made = JetCoordinates(30)
    made.set_scaler(JetScaler.fit(*jets))
    return made


def ignoring(code_dim: int) -> JetLevelHeads:
    """Heads as they begin, but for the last weights."""
    heads = JetLevelHeads(code_dim, 30)
    for head in (heads.mass, heads.ptrel_sum):
        torch.nn.init.zeros_(head[-1].weight)
    return heads


def test_heads_that_ignore_the_code_pay_the_entropy_of_the_bins(jets, coordinates):
    found = ignoring(3).nll(torch.randn(len(jets[0]), 3), jets[0], jets[1], coordinates)
    entropy = sum(-(share * share.log()).sum() for share in (quantile_levels(n).diff() for n in (64, 32)))
    assert float(entropy) == pytest.approx(7.34, abs=0.005)
    assert float(found.detach().mean()) == pytest.approx(float(entropy), abs=0.06)


def test_draws_of_heads_that_ignore_the_code_are_the_training_jets(jets, coordinates):
    particles, mask, _ = jets
    many = mask.repeat(40, 1)
    mass, ptrel_sum = ignoring(3).draw(torch.zeros(len(many), 3), many, coordinates, torch.Generator().manual_seed(0))
    real_mass, real_sum = jet_mass(particles, mask), particles[..., 2].sum(1).double()
    for drawn, real in ((mass, real_mass), (ptrel_sum, real_sum)):
        assert drawn.min() >= real.min() - 1e-6
        assert drawn.max() <= real.max() + 1e-6
        for share in (0.02, 0.1, 0.5, 0.9, 0.98):
            assert float(drawn.double().quantile(share)) == pytest.approx(float(real.quantile(share)), rel=0.06)


def test_codes_get_no_gradient_and_the_heads_do(jets, coordinates):
    heads, z = JetLevelHeads(3, 30), torch.randn(len(jets[0]), 3, requires_grad=True)
    heads.nll(z, jets[0], jets[1], coordinates).mean().backward()
    assert z.grad is None
    assert all(parameter.grad.abs().max() > 0 for parameter in heads.parameters())


@pytest.mark.slow
def test_heads_learn_what_the_code_says(jets, coordinates):
    particles, mask, _ = jets
    torch.manual_seed(0)
    heads = JetLevelHeads(1, 30)
    code = jet_mass(particles, mask).float().clamp_min(1e-3).log()[:, None]
    optimizer = torch.optim.Adam(heads.parameters(), 2e-2)
    for _ in range(150):
        optimizer.zero_grad()
        heads.nll(code, particles, mask, coordinates).mean().backward()
        optimizer.step()
    mass, _ = heads.draw(code, mask, coordinates, torch.Generator().manual_seed(0))
    assert float((mass.log() - code[:, 0]).abs().median()) < 0.1


def test_one_particle_has_bins_too(coordinates, batch):
    heads = JetLevelHeads(2, 30)
    assert heads.nll(torch.zeros(12, 2), batch["particles"], batch["mask"], coordinates).isfinite().all()
