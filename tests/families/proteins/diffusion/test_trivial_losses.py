from __future__ import annotations

import math

import pytest
import torch

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.proteins.diffusion.graphs import AbsorbingGraph, UniformGraph
from stablelit.families.proteins.diffusion.noise import GeometricNoise, HalfCosineNoise, LogLinearNoise
from stablelit.families.proteins.diffusion.noise_curriculum import MODES, NoiseCurriculum
from stablelit.families.proteins.diffusion.score_entropy import log_score_from, log_score_of_probabilities
from stablelit.families.proteins.diffusion.trivial_losses import (
    InterpolatedLoss,
    describe_difficulty,
    residue_share,
    trivial_loss,
    trivial_score_entropy,
    untrained_cost,
    untrained_loss,
)

P = torch.tensor([0.5, 0.3, 0.2])
ENTROPY = float(torch.special.entr(P.double()).sum())


def by_training(graph, curriculum, difficulty, noise, score, n=60_000, length=4):
    """The loss of a training step that nobody optimises: its mean a residue, and the error of it."""
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(n, generator=generator)
    x0 = torch.multinomial(P, n * length, replacement=True, generator=generator).reshape(n, length)
    drawn = curriculum.draw(difficulty, u, noise, generator)
    xt = graph.corrupt(x0, drawn.corruption_sigma, generator)
    entropy = graph.score_entropy(score(xt, drawn.sigma), drawn.sigma, xt, x0)
    loss = (drawn.weight * drawn.rate)[:, None] * entropy
    loss = loss.mean(1).double()
    return float(loss.mean()), float(loss.std()) / n**0.5


@pytest.mark.parametrize("replay", [0.0, 0.25])
@pytest.mark.parametrize("mode", MODES)
def test_the_loss_of_the_unigram_is_what_training_measures(mode, replay):
    curriculum, noise, graph = NoiseCurriculum(mode=mode, replay=replay), LogLinearNoise(), AbsorbingGraph(3)
    unigram = lambda xt, sigma: log_score_of_probabilities(P.log().expand(*xt.shape, 3), sigma)  # noqa: E731
    mean, error = by_training(graph, curriculum, 0.4, noise, unigram)
    expected = trivial_loss(curriculum, 0.4, noise, ENTROPY)
    assert abs(mean - expected) < 4 * error
    assert error < 0.05 * expected
    assert trivial_score_entropy(graph, curriculum, 0.4, noise, P, n_nodes=4096) == pytest.approx(expected)


@pytest.mark.parametrize("mode", ["truncate", "sigma_scale", "corrupt_only"])
def test_the_loss_of_the_unigram_under_uniform_noise_is_what_training_measures(mode):
    curriculum, noise, graph = NoiseCurriculum(mode=mode), GeometricNoise(1e-3, 10.0), UniformGraph(3)

    def unigram(xt, sigma):
        kept = torch.exp(-sigma)[:, None]
        law = kept * P + (1 - kept) / 3
        return law.log()[:, None, :] - law.log().gather(1, xt)[..., None]

    mean, error = by_training(graph, curriculum, 0.4, noise, unigram)
    assert abs(mean - trivial_score_entropy(graph, curriculum, 0.4, noise, P)) < 4 * error
    assert error < 0.05 * mean


def test_at_full_difficulty_the_unigram_loses_its_entropy():
    for noise in (LogLinearNoise(), GeometricNoise()):
        assert trivial_loss(NoiseCurriculum(), 1.0, noise, ENTROPY) == pytest.approx(ENTROPY, rel=2e-3)
        # independent residues are all that their frequencies say: the score is the true one, the loss the entropy
        found = trivial_score_entropy(UniformGraph(3), NoiseCurriculum(eps=0.0), 1.0, noise, P)
        missed = UniformGraph(3).prior_kl(torch.tensor(noise.sigma_at_end))
        assert found == pytest.approx(ENTROPY, abs=2e-3 + float(missed))


@pytest.mark.parametrize("sigma_max", [0.8, 0.5])
@pytest.mark.parametrize("difficulty", [0.1, 0.333, 1.0])
def test_the_post_mortems_share_is_an_integral_over_sigma(sigma_max, difficulty):
    sigma = torch.linspace(1e-4, sigma_max, 100_001, dtype=torch.float64)
    expected = torch.trapezoid(-torch.expm1(-difficulty * sigma) / torch.expm1(sigma), sigma)
    found = residue_share(NoiseCurriculum(mode="corrupt_only"), difficulty, HalfCosineNoise(sigma_max=sigma_max))
    assert found == pytest.approx(float(expected), rel=2e-3)


def test_the_post_mortems_table_is_a_network_before_its_first_step():
    curriculum, noise = NoiseCurriculum(mode="corrupt_only"), HalfCosineNoise()
    # difficulties of its ramp at steps 0, 500, 1000, 2500, 5000, and none: f = 0.1 + 0.9 (1 - e^(-3 step / 5000))
    steps = {0: 0.2584, 500: 0.7816, 1000: 1.1741}
    for step, reported in steps.items():
        f = 0.1 + 0.9 * -math.expm1(-3 * step / 5000)
        assert untrained_loss(curriculum, f, noise, 36) == pytest.approx(reported, rel=0.08)
    derived = [0.241, 0.770, 1.138, 1.71, 1.99, 2.07]
    found = [untrained_loss(curriculum, f, noise, 36) for f in (0.1, 0.333, 0.506, 0.799, 0.955, 1.0)]
    assert found == pytest.approx(derived, rel=0.01)
    # the entropy of UniRef50's residues at sigma_max = 0.5: what is "converged" there is worse
    assert trivial_loss(curriculum, 1.0, HalfCosineNoise(sigma_max=0.5), 2.8888) == pytest.approx(1.137, rel=1e-3)


def test_the_cost_of_an_untrained_head_is_that_of_a_drawn_one():
    assert untrained_cost(36) == pytest.approx(math.log(36) + math.exp(1 / 6) - 1)
    assert untrained_cost(20, 0.0) == pytest.approx(math.log(20))
    generator = torch.Generator().manual_seed(0)
    head = torch.empty(4000, 36, 64).uniform_(-1 / 8, 1 / 8, generator=generator)
    features = torch.nn.functional.layer_norm(torch.randn(4000, 64, generator=generator), (64,))
    h = torch.einsum("bvd,bd->bv", head, features)[:, None]
    x0, sigma = torch.zeros(4000, 1, dtype=torch.int64), torch.full((4000,), 0.7)
    entropy = AbsorbingGraph(36).score_entropy(log_score_from(h, sigma), sigma, torch.full_like(x0, 36), x0)
    cost = entropy * math.expm1(0.7)
    assert abs(float(cost.mean()) - untrained_cost(36)) < 4 * float(cost.std()) / 4000**0.5


@pytest.mark.parametrize("mode", MODES)
def test_what_a_difficulty_means_is_said_in_numbers(mode):
    curriculum, noise = NoiseCurriculum(mode=mode), LogLinearNoise()
    easy, full = (describe_difficulty(curriculum, d, noise) for d in (0.3, 1.0))
    assert easy["mask_rate_mean"] < full["mask_rate_mean"]
    assert full["mask_rate_mean"] == pytest.approx(0.5, abs=2e-3)
    assert full["loss_share"] == pytest.approx(1.0)
    assert easy["t_max"] <= full["t_max"] <= 1.0
    if mode == "truncate":
        assert easy["t_max"] == pytest.approx(0.3, abs=2e-3)
        assert easy["loss_share"] == pytest.approx(0.3, abs=2e-3)


def test_frequencies_that_are_none_and_numbers_out_of_range_are_refused():
    curriculum, noise = NoiseCurriculum(), LogLinearNoise()
    for wrong in (torch.tensor([0.5, 0.5]), torch.tensor([5.0, 3.0, 2.0]), torch.tensor([1.2, -0.1, -0.1])):
        with pytest.raises(DataError, match="probabilities of the 3 states"):
            trivial_score_entropy(UniformGraph(3), curriculum, 0.5, noise, wrong)
    with pytest.raises(ConfigurationError, match="difficulty=2"):
        trivial_loss(curriculum, 2, noise, 1.0)
    with pytest.raises(ConfigurationError, match="unigram_entropy=-1"):
        trivial_loss(curriculum, 1, noise, -1.0)
    with pytest.raises(ConfigurationError, match="logit_variance=-1"):
        untrained_cost(36, -1.0)


@pytest.mark.parametrize("mode", ["truncate", "corrupt_only", "sigma_scale"])
def test_between_a_few_difficulties_the_loss_is_interpolated(mode):
    asked = []

    def loss(d):
        asked.append(d)
        return trivial_loss(NoiseCurriculum(mode), d, LogLinearNoise(), 2.83)

    quick = InterpolatedLoss(loss)
    difficulties = [0.005, 0.1, 0.25, 0.5037, 0.8, 0.999, 1.0]
    for d in difficulties:
        assert quick(d) == pytest.approx(trivial_loss(NoiseCurriculum(mode), d, LogLinearNoise(), 2.83), rel=2e-3)
    assert quick(1.0) == trivial_loss(NoiseCurriculum(mode), 1.0, LogLinearNoise(), 2.83)
    once = len(asked)
    for d in difficulties[1:]:
        quick(d)
    assert len(asked) == once
