from __future__ import annotations

import itertools
import math

import pytest
import torch

from stablelit.families.proteins.corpora import build_corpus
from stablelit.families.proteins.diffusion import bounds
from stablelit.families.proteins.diffusion.graphs import AbsorbingGraph, UniformGraph
from stablelit.families.proteins.diffusion.noise import CosineNoise, GeometricNoise, LogLinearNoise
from stablelit.families.proteins.diffusion.randomness import SampleKeys
from stablelit.families.proteins.diffusion.score_entropy import (
    cross_entropy,
    denoising_cost,
    log_score_of_probabilities,
)
from stablelit.families.proteins.diffusion.time_sampling import sample_uniform
from tests.families.proteins.diffusion.enumerated import Joint, gauss_legendre, most_chi_square

TRUTH, WRONG = Joint(3, 2, seed=0), Joint(3, 2, seed=9)
ABSORB = AbsorbingGraph(3)


def masks_written_out(joint, length):
    """Every sequence with every choice of masks: x0, masked (float64 law of x0 alongside)."""
    patterns = torch.tensor(list(itertools.product([False, True], repeat=length)))
    x0 = joint.sequences.repeat_interleave(len(patterns), 0)
    return x0, patterns.repeat(len(joint.sequences), 1), joint.p.repeat_interleave(len(patterns))


def t_form(model, noise, score_entropy, n_nodes=200):
    """The mean over t, x0 and masks, without drawing: quadrature and enumeration."""
    x0, masked, law = masks_written_out(TRUTH, 2)
    xt = torch.where(masked, 3, x0)
    log_p = model.masked_posterior(xt)
    everywhere = torch.ones_like(masked)
    total = 0.0
    for t, weight in zip(*gauss_legendre(n_nodes), strict=True):
        sigma, rate = noise.sigma(t).expand(len(x0)), noise.rate(t).expand(len(x0))
        mask_rate = noise.mask_probability(t)
        chance = torch.where(masked, mask_rate, 1 - mask_rate).prod(1)
        if score_entropy:
            log_s = log_score_of_probabilities(log_p, sigma)
            bound = bounds.weighted_score_entropy(ABSORB, log_s, sigma, rate, xt, x0, everywhere)
        else:
            drawn = bounds.Masking(xt, masked, bounds.t_weight(sigma, rate), sigma)
            bound = bounds.masked_sum(cross_entropy(log_p, x0), drawn)
        total += float(weight * (law * chance * bound).sum())
    return total


@pytest.mark.parametrize("score_entropy", [True, False], ids=["dwdse", "dce"])
@pytest.mark.parametrize("noise", [LogLinearNoise(1e-9), CosineNoise(1e-9), GeometricNoise(1e-9, 22.0)], ids=repr)
@pytest.mark.parametrize("model", [TRUTH, WRONG], ids=["true", "wrong"])
def test_the_t_form_is_the_cross_entropy_to_a_consistent_model(model, noise, score_entropy):
    assert t_form(model, noise, score_entropy) == pytest.approx(TRUTH.cross_entropy(model), abs=1e-6)


@pytest.mark.parametrize("model", [TRUTH, WRONG], ids=["true", "wrong"])
def test_the_k_form_is_the_cross_entropy_to_a_consistent_model(model):
    x0, masked, law = masks_written_out(TRUTH, 2)
    xt = torch.where(masked, 3, x0)
    k = masked.sum(1)
    cost = cross_entropy(model.masked_posterior(xt), x0)
    choices = torch.tensor([math.comb(2, int(c)) for c in k])
    chance = torch.where(k > 0, 1 / (2 * choices), 0.0)
    drawn = bounds.Masking(xt, masked, 2 / k.clamp(min=1), k)
    assert float((law * chance * bounds.masked_sum(cost, drawn)).sum()) == pytest.approx(TRUTH.cross_entropy(model))


def test_the_four_forms_agree_as_drawn():
    generator = torch.Generator().manual_seed(0)
    n = 20_000
    x0 = TRUTH.sample(n, generator)
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    noise = LogLinearNoise(1e-6)
    t = torch.rand(n, generator=generator, dtype=torch.float64)
    by_t = bounds.mask_by_sigma(ABSORB, x0, everywhere, noise.sigma(t), noise.rate(t), generator)
    by_rate = bounds.mask_by_rate(ABSORB, x0, everywhere, torch.rand(n, generator=generator), generator)
    by_k = bounds.mask_k(ABSORB, x0, everywhere, bounds.draw_k(everywhere, generator), generator)
    found = []
    for masking in (by_t, by_rate, by_k):
        log_p = WRONG.masked_posterior(masking.xt)
        assert torch.equal(masking.masked, masking.xt == 3)
        for cost in (cross_entropy, denoising_cost):
            found.append(bounds.masked_sum(cost(log_p, x0), masking))
    log_s = log_score_of_probabilities(WRONG.masked_posterior(by_t.xt), by_t.sigma)
    found.append(bounds.weighted_score_entropy(ABSORB, log_s, noise.sigma(t), noise.rate(t), by_t.xt, x0, everywhere))
    expected = TRUTH.cross_entropy(WRONG)
    for bound in found:
        assert abs(float(bound.mean()) - expected) < 4 * float(bound.std()) / n**0.5
    torch.testing.assert_close(found[0], found[-1])
    assert found[4].std() < 0.8 * min(found[0].std(), found[2].std())


def uniform_form(noise, sigma_told=1.0, sigma_drawn=1.0, tilt=0.0):
    """The mean of score entropy over t, x0 and xt of the uniform graph, by quadrature and enumeration."""
    graph = UniformGraph(3)
    pairs = list(itertools.product(range(9), range(9)))
    x0, xt = (TRUTH.sequences[list(index)] for index in zip(*pairs, strict=True))
    law = TRUTH.p[[a for a, _ in pairs]]
    total = 0.0
    for t, weight in zip(*gauss_legendre(160), strict=True):
        sigma, rate = noise.sigma(t).expand(81), noise.rate(t).expand(81)
        drawn = graph.matrix(float(sigma[0]) * sigma_drawn)
        log_s = TRUTH.uniform_log_score(xt, graph.matrix(float(sigma[0]) * sigma_told)) + tilt
        chance = drawn[xt, x0].prod(1)
        bound = bounds.weighted_score_entropy(graph, log_s, sigma, rate, xt, x0, torch.ones_like(x0, dtype=torch.bool))
        total += float(weight * (law * chance * bound).sum())
    return total


def ends(noise):
    """What the prior costs, and by how much the noise misses it."""
    graph = UniformGraph(3)
    law = TRUTH.noisy_law(graph.matrix(noise.sigma_at_end))
    missed = float((law * (9 * law).log()).sum())
    return 2 * float(graph.prior_kl(torch.tensor(noise.sigma_at_end, dtype=torch.float64))), missed


@pytest.mark.parametrize("noise", [GeometricNoise(1e-9, 1.0), GeometricNoise(1e-9, 12.0)], ids=repr)
def test_uniform_score_entropy_and_the_prior_term_are_the_entropy(noise):
    prior, missed = ends(noise)
    assert uniform_form(noise) + prior - missed == pytest.approx(TRUTH.entropy, abs=2e-6)
    assert missed >= 0


def test_a_score_that_is_not_the_true_one_costs_more():
    noise = GeometricNoise(1e-9, 12.0)
    assert uniform_form(noise, tilt=0.2) > TRUTH.entropy + 1e-2


def test_corrupting_at_one_noise_and_weighing_at_another_is_no_bound():
    noise = GeometricNoise(1e-9, 12.0)
    prior, _ = ends(noise)
    assert uniform_form(noise, sigma_drawn=0.3) + prior < TRUTH.entropy - 0.05


def test_the_leftover_of_the_absorbing_noise_completes_its_bound():
    # independent uniform residues: what is left alone costs exactly log N
    noise = LogLinearNoise(0.1)
    even = Joint(3, 2, sharpness=0.0)
    x0 = even.sequences
    t = gauss_legendre(20)
    masked_cost = (
        sum(
            float(w * bounds.t_weight(noise.sigma(t), noise.rate(t)) * noise.mask_probability(t))
            for t, w in zip(*t, strict=True)
        )
        * 2
        * math.log(3)
    )
    left = 2 * float(ABSORB.prior_kl(torch.tensor(noise.sigma_at_end, dtype=torch.float64)))
    assert masked_cost + left == pytest.approx(even.entropy)
    assert len(x0) == 9


def test_weight_of_the_t_form_overflows_nowhere():
    sigma = torch.tensor([1e-6, 30.0, 200.0])
    found = bounds.t_weight(sigma, torch.ones(3))
    assert found.isfinite().all()
    assert float(found[0]) == pytest.approx(1e6, rel=1e-5)
    assert float(found[1]) == pytest.approx(math.exp(-30), rel=1e-5)


def test_exactly_k_of_the_allowed_residues_are_masked_and_every_choice_is_alike():
    allowed = torch.tensor([True, False, True, True, False, True, True]).expand(20_000, 7)
    k = torch.full((20_000,), 2)
    chosen = bounds.choose_k(allowed, k, torch.Generator().manual_seed(0))
    assert (chosen.sum(1) == 2).all()
    assert not (chosen & ~allowed).any()
    code = (chosen * 2 ** torch.arange(7)).sum(1)
    counts = torch.unique(code, return_counts=True)[1].double()
    assert len(counts) == math.comb(5, 2)
    assert float(((counts - 2000) ** 2 / 2000).sum()) < most_chi_square(9)


def test_numbers_of_masks_are_uniform_in_one_to_each_sequences_own_length():
    loss_mask = torch.arange(6) < torch.tensor([1, 3, 6])[:, None]
    drawn = bounds.draw_k(loss_mask.repeat(12_000, 1), torch.Generator().manual_seed(0)).reshape(-1, 3)
    for column, n in enumerate([1, 3, 6]):
        counts = torch.bincount(drawn[:, column], minlength=n + 1).double()
        assert counts[0] == 0
        assert len(counts) == n + 1
        assert float(((counts[1:] - 12_000 / n) ** 2 / (12_000 / n)).sum()) < most_chi_square(max(n - 1, 0)) + 1e-9


def test_a_sequence_without_residues_gets_no_mask_and_costs_nothing():
    loss_mask = torch.tensor([[False, False], [True, True]])
    x0 = torch.tensor([[21, 21], [0, 1]])
    k = bounds.draw_k(loss_mask, torch.Generator().manual_seed(0))
    masking = bounds.mask_k(ABSORB, x0, loss_mask, k, torch.Generator().manual_seed(0))
    cost = bounds.masked_sum(torch.full((2, 2), math.log(3)), masking)
    assert torch.equal(masking.xt[0], x0[0])
    assert float(cost[0]) == 0.0
    assert float(cost[1]) == pytest.approx(2 * math.log(3))


def test_the_k_form_has_no_noise_where_every_residue_costs_the_same():
    loss_mask = torch.rand(50, 9, generator=torch.Generator().manual_seed(1)) < 0.7
    x0 = torch.randint(0, 3, (50, 9), generator=torch.Generator().manual_seed(2))
    even = lambda xt, sigma: torch.full((*xt.shape, 3), -math.log(3))  # noqa: E731
    bound = bounds.k_bound(even, ABSORB, x0, loss_mask, torch.Generator().manual_seed(3))
    torch.testing.assert_close(bound, loss_mask.sum(1) * math.log(3))
    nats, residues = bounds.per_residue(bound, loss_mask)
    assert float(nats / residues) == pytest.approx(math.log(3))


def test_the_model_is_told_the_noise_that_goes_with_the_share_of_masks():
    loss_mask = torch.ones(3, 4, dtype=torch.bool)
    x0 = torch.zeros(3, 4, dtype=torch.int64)
    masking = bounds.mask_k(ABSORB, x0, loss_mask, torch.tensor([1, 2, 4]), None, largest_sigma=6.0)
    assert masking.sigma.tolist() == pytest.approx([-math.log(0.75), -math.log(0.5), 6.0])


def test_padding_and_company_change_no_bit_of_a_keyed_bound():
    generator = torch.Generator().manual_seed(0)
    x0 = TRUTH.sample(6, generator)
    ids = torch.tensor([4, 9, 1, 0, 2, 7])
    denoiser = lambda xt, sigma: TRUTH.masked_posterior(xt[:, :2])  # noqa: E731
    plain = bounds.k_bound(denoiser, ABSORB, x0, torch.ones_like(x0, dtype=torch.bool), SampleKeys(ids, 3))
    padded = torch.cat([x0, torch.full((6, 5), 21)], 1)
    padded_denoiser = lambda xt, sigma: torch.cat(  # noqa: E731
        [denoiser(xt, sigma), torch.zeros(len(xt), 5, 3, dtype=torch.float64)], 1
    )
    order = torch.tensor([3, 1, 0])
    again = bounds.k_bound(
        padded_denoiser, ABSORB, padded[order], padded[order] < 3, SampleKeys(ids[order], 3), LogLinearNoise()
    )
    assert torch.equal(plain[order], again)


def test_gradients_survive_a_denoiser_that_excludes_what_it_sees():
    x0 = torch.tensor([[0, 1, 2]])
    h = torch.zeros(1, 3, 3, requires_grad=True)
    sees = torch.tensor([[[0.0, -torch.inf, -torch.inf]]]).expand(1, 3, 3)
    masked = torch.tensor([[False, True, True]])
    log_p = torch.where(masked[..., None], torch.log_softmax(h, -1), sees)
    masking = bounds.Masking(torch.where(masked, 3, x0), masked, torch.ones(1), torch.ones(1))
    bounds.masked_sum(cross_entropy(log_p, x0), masking).sum().backward()
    assert h.grad.isfinite().all()
    assert h.grad[0, 1:].any()


@pytest.mark.parametrize("form", ["t", "lambda", "k"])
def test_the_bound_of_a_law_that_is_known_is_its_own_likelihood_of_every_length(form):
    corpus, graph, noise = build_corpus("motif_hmm"), AbsorbingGraph(20), LogLinearNoise(1e-6)
    generator = torch.Generator().manual_seed(0)
    x0 = torch.from_numpy(corpus.sample(400, length=24, seed=0)).long()
    lengths = torch.arange(400) % 20 + 5
    loss_mask = torch.arange(24) < lengths[:, None]
    u = sample_uniform("stratified", 400, generator)
    if form == "t":
        masking = bounds.mask_by_sigma(graph, x0, loss_mask, noise.sigma(u), noise.rate(u), generator)
    elif form == "lambda":
        masking = bounds.mask_by_rate(graph, x0, loss_mask, 1 - u, generator)
    else:
        masking = bounds.mask_k(graph, x0, loss_mask, bounds.draw_k(loss_mask, generator), generator)
    log_p = corpus.posterior(x0, ~masking.masked, lengths).clamp(min=1e-300).log()
    difference = bounds.masked_sum(cross_entropy(log_p, x0), masking) + corpus.log_prob(x0, lengths)
    error = float(difference.std()) / 20
    assert abs(float(difference.mean())) < 4 * error
    # of about 33 nats a sequence
    assert error < (0.7 if form == "k" else 3.0)
