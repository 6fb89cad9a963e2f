from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from stablelit.errors import ConfigurationError
from stablelit.families.jets.decoders.hardest_first import HardestFirstDecoder, hardest_first

N_MAX, HARDEST = 7, 3


def decoder(**arguments):
    torch.manual_seed(2)
    settings = {"hidden": 16, "n_components": 3, "n_hardest": HARDEST, "hardest_hidden": 8, "n_hardest_components": 2}
    made = HardestFirstDecoder(4, N_MAX, **{**settings, **arguments})
    # the densities must depend on what came before, as they would after training
    for parameter in made.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return made


def jets(*counts):
    draws = torch.Generator().manual_seed(5)
    x = torch.randn(len(counts), N_MAX, 3, generator=draws)
    return x, torch.arange(N_MAX) < torch.tensor(counts)[:, None]


def split(outputs):
    """Outputs (..., 7 K) to torch's own mixture and the distribution function of its first feature, in float64."""
    k = outputs.shape[-1] // 7
    weight, mean, log_sigma = outputs.detach().double().split([k, 3 * k, 3 * k], dim=-1)
    mean, sigma = mean.unflatten(-1, (k, 3)), log_sigma.unflatten(-1, (k, 3)).clamp(-4, 2).exp()
    density = MixtureSameFamily(Categorical(logits=weight), Independent(Normal(mean, sigma), 1))

    def below(x):
        pull = (x[..., None] - mean[..., 0]) / sigma[..., 0]
        # torch's Normal.cdf is (1 + erf) / 2, which is zero in the tail
        return (weight.softmax(-1) * 0.5 * torch.erfc(-pull * math.sqrt(0.5))).sum(-1)

    return density, below


@torch.no_grad()
def written_out(made, z, particles):
    """log p of one jet, particle by particle."""
    n = len(particles)
    particles = sorted(particles.tolist(), reverse=True)
    hard = torch.zeros(HARDEST, 3)
    total = float(made.count(z[None])[0].double().log_softmax(-1)[n - 1])
    for place, particle in enumerate(particles[:HARDEST]):
        density, below = split(made.hardest.one(z[None], hard[None], place)[0])
        total += float(density.log_prob(torch.tensor(particle).double()))
        if place:
            total -= float(below(hard[place - 1, 0].double()).log())
        hard[place] = torch.tensor(particle)
    if n > HARDEST:
        inputs = torch.cat([z, hard.flatten(), torch.ones(HARDEST)])
        density, below = split(made.rest(inputs[None])[0])
        for particle in particles[HARDEST:]:
            total += float(density.log_prob(torch.tensor(particle).double()))
            total -= float(below(hard[-1, 0].double()).log())
    for place in range(min(n, HARDEST)):
        total -= math.log(n - place)
    return total


def test_likelihood_equals_the_sum_written_out():
    made, z = decoder(), torch.randn(6, 4)
    x, mask = jets(1, 2, 3, 4, 6, 7)
    x[~mask] = 1e6
    found = made.recon_terms(z, x, mask)
    for b in range(6):
        assert float(-found["recon"][b].detach()) == pytest.approx(written_out(made, z[b], x[b][mask[b]]), abs=2e-4)
    assert torch.allclose(found["recon"], found["count"] + found["hardest"] + found["rest"])


def test_a_jet_of_one_particle_has_the_plain_mixtures_density():
    made, z = decoder(), torch.randn(1, 4)
    x, mask = jets(1)
    density, _ = split(made.hardest.one(z, torch.zeros(1, HARDEST, 3), 0)[0])
    expected = -density.log_prob(x[0, 0].double()) - made.count(z)[0].log_softmax(-1)[0]
    assert torch.allclose(made.recon_terms(z, x, mask)["recon"].double(), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
def test_all_lists_of_n_particles_together_have_the_probability_of_n(n):
    torch.manual_seed(0)
    made = HardestFirstDecoder(2, 3, 16, 2, n_hardest=1, hardest_hidden=8, n_hardest_components=2)
    n_draws, wide = 100_000, Normal(0.0, 1.6)
    x = torch.zeros(n_draws, 3, 3)
    x[:, :n] = wide.sample((n_draws, n, 3))
    mask = (torch.arange(3) < n).expand(n_draws, 3)
    z = torch.zeros(n_draws, 2)
    with torch.no_grad():
        ratio = torch.exp(-made.recon_terms(z, x, mask)["recon"] - wide.log_prob(x[:, :n]).sum((1, 2)))
        expected = float(made.count(z[:1])[0].softmax(-1)[n - 1])
    error = float(ratio.std()) / math.sqrt(n_draws)
    assert error < 0.05 * expected
    assert abs(float(ratio.mean()) - expected) < 4 * error


def test_draws_have_the_density_that_is_scored():
    made, n = decoder(), 4000
    z = torch.randn(1, 4).expand(n, 4)
    x, mask = made.draw(z, torch.Generator().manual_seed(0))
    share = made.count(z[:1])[0].softmax(-1).detach()
    counts = torch.bincount(mask.sum(1), minlength=N_MAX + 1)[1:]
    assert torch.allclose(counts / n, share, atol=0.03)
    hard = x[:, :HARDEST] * mask[:, :HARDEST, None]
    # a draw's own distribution function is uniform, whatever came before it
    for place in range(HARDEST + 1):
        if place < HARDEST:
            outputs = made.hardest.one(z, hard, place)
        else:
            outputs = made.rest(torch.cat([z, hard.flatten(1), mask[:, :HARDEST].float()], 1))
        chosen = mask[:, place]
        _, below = split(outputs[chosen])
        limit = x[chosen, place - 1, 0] if place else torch.full((int(chosen.sum()),), math.inf)
        uniform = (below(x[chosen, place, 0].double()) / below(limit.double())).sort().values
        steps = torch.arange(1, len(uniform) + 1) / len(uniform)
        assert float((uniform - steps).abs().max()) < 1.95 / math.sqrt(len(uniform)), place


def test_no_particle_that_is_drawn_is_harder_than_one_before_the_rest():
    x, mask = decoder().draw(torch.randn(500, 4), torch.Generator().manual_seed(1))
    ln_ptrel = x[..., 0].masked_fill(~mask, -torch.inf)
    assert (ln_ptrel[:, 1:HARDEST] <= ln_ptrel[:, : HARDEST - 1]).all()
    assert (ln_ptrel[:, HARDEST:].amax(1) <= ln_ptrel[:, HARDEST - 1]).all()
    assert mask[:, 0].all()


def test_an_order_does_not_matter_not_even_among_equals():
    made, z = decoder(), torch.randn(3, 4)
    x, mask = jets(2, 5, 7)
    x[..., 0] = x[..., 0].round()
    first = made.recon_terms(z, x, mask)["recon"]
    for _ in range(4):
        order = torch.randperm(N_MAX)
        assert torch.allclose(first, made.recon_terms(z, x[:, order], mask[:, order])["recon"], atol=1e-5)


def test_gradients_are_finite_and_padding_gets_none():
    made, z = decoder(), torch.randn(4, 4, requires_grad=True)
    x, mask = jets(1, 2, 3, 7)
    x[3] *= 40.0  # far outside what the mixtures expect
    x[2, :3] = x[2, :1]  # all in one place
    x.requires_grad_()
    made.recon_terms(z, x, mask)["recon"].sum().backward()
    gradients = [z.grad, x.grad, *(parameter.grad for parameter in made.parameters())]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not x.grad[~mask].any()


def test_a_jet_padded_to_fewer_particles_than_the_hardest_has_no_others():
    made = HardestFirstDecoder(4, 2, n_hardest=4)
    x, mask = made.draw(torch.randn(20, 4), torch.Generator().manual_seed(0))
    assert x.shape == (20, 2, 3)
    assert made.recon_terms(torch.randn(20, 4), x, mask)["recon"].isfinite().all()


def test_the_density_is_computed_in_float32_under_autocast():
    made, z = decoder(), torch.randn(3, 4)
    x, mask = jets(2, 5, 7)
    with torch.autocast("cpu", torch.bfloat16):
        terms = made.recon_terms(z, x, mask)
    assert all(term.dtype == torch.float32 for term in terms.values())


def test_particles_are_ordered_by_hardness_and_then_by_place():
    x = torch.tensor([[[1.0, 0.5, 0.0], [2.0, 0.0, 0.0], [1.0, -0.5, 0.0], [9.0, 0.0, 0.0]]])
    ordered, mask = hardest_first(x, torch.tensor([[True, True, True, False]]))
    assert ordered[0].tolist() == [[2.0, 0.0, 0.0], [1.0, -0.5, 0.0], [1.0, 0.5, 0.0], [0.0, 0.0, 0.0]]
    assert mask.tolist() == [[True, True, True, False]]


@pytest.mark.parametrize("arguments", [{"n_hardest": 0}, {"hidden": 1.5}, {"n_hardest_components": -1}])
def test_settings_are_checked(arguments):
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        decoder(**arguments)
