from __future__ import annotations

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.proteins.diffusion.graphs import AbsorbingGraph
from stablelit.families.proteins.diffusion.noise import CosineNoise, LogLinearNoise
from stablelit.families.proteins.diffusion.randomness import SampleKeys
from stablelit.families.proteins.diffusion.sampling import Reshaping
from stablelit.families.proteins.diffusion.unmasking import sample_ancestrally, sample_first_hitting
from tests.families.proteins.diffusion.enumerated import Joint, most_chi_square

GRAPH, NOISE = AbsorbingGraph(3), LogLinearNoise()
PAIR, TRIPLE = Joint(3, 2, seed=0), Joint(2, 3, seed=1)


class Watched:
    """A joint's denoiser that keeps what it was asked."""

    def __init__(self, joint):
        self.joint, self.seen = joint, []

    def __call__(self, xt, sigma):
        self.seen.append((xt.clone(), sigma))
        return self.joint.masked_posterior(xt)


@pytest.mark.parametrize("joint", [PAIR, TRIPLE], ids=["pair", "triple"])
def test_first_hitting_reproduces_a_joint_law_exactly(joint):
    watched = Watched(joint)
    graph = AbsorbingGraph(joint.n)
    generator = torch.Generator().manual_seed(0)
    samples = sample_first_hitting(watched, graph, NOISE, (20_000, joint.length), generator)
    assert joint.chi_square(samples.tokens) < most_chi_square(len(joint.p) - 1)
    assert samples.evaluations == joint.length == len(watched.seen)
    for event, (xt, _) in enumerate(watched.seen):
        assert ((xt == joint.n).sum(1) == joint.length - event).all()


def test_first_hitting_tells_the_noise_at_which_each_residue_is_revealed():
    watched = Watched(PAIR)
    sample_first_hitting(watched, GRAPH, NOISE, (20_000, 2), torch.Generator().manual_seed(0))
    first, second = (-torch.expm1(-sigma.double()) for _, sigma in watched.seen)
    # of two uniform mask rates the larger and the smaller, capped at sigma(1)
    assert float(first.mean()) == pytest.approx(2 / 3, abs=0.006)
    assert float(second.mean()) == pytest.approx(1 / 3, abs=0.006)
    assert (second <= first).all()
    assert float(watched.seen[0][1].max()) <= NOISE.sigma_at_end + 1e-6


def test_sequences_of_different_length_end_by_themselves():
    template = torch.tensor([[9, 9, 21], [9, 21, 21], [0, 9, 9], [1, 0, 21]])
    free = template == 9
    watched = Watched(TRIPLE)
    # padding is a mask to this model, which knows lengths of 3 only
    blind = lambda xt, sigma: watched(torch.where(xt > 2, 2, xt), sigma)  # noqa: E731
    for sampler in (sample_first_hitting, lambda *a: sample_ancestrally(*a[:4], 10, *a[4:])):
        samples = sampler(blind, AbsorbingGraph(2), NOISE, (4, 3), torch.Generator().manual_seed(0), template, free)
        assert torch.equal(samples.tokens[~free], template[~free])
        assert (samples.tokens[free] < 2).all()
    assert len(watched.seen) >= 2


def test_a_template_steers_what_is_drawn():
    n = 20_000
    template = torch.tensor([[9, 1]]).repeat(n, 1)
    free = template == 9
    generator = torch.Generator().manual_seed(0)
    for samples in (
        sample_first_hitting(PAIR.masked_posterior, GRAPH, NOISE, (n, 2), generator, template, free),
        sample_ancestrally(PAIR.masked_posterior, GRAPH, NOISE, (n, 2), 5, generator, template, free),
    ):
        column = PAIR.p.reshape(3, 3)[:, 1]
        expected = n * column / column.sum()
        counts = torch.bincount(samples.tokens[:, 0], minlength=3).double()
        assert float(((counts - expected) ** 2 / expected).sum()) < most_chi_square(2)
        assert (samples.tokens[:, 1] == 1).all()


def test_nothing_to_draw_asks_nothing():
    template = torch.tensor([[0, 1]])
    nowhere = torch.zeros(1, 2, dtype=torch.bool)
    watched = Watched(PAIR)
    samples = sample_first_hitting(watched, GRAPH, NOISE, (1, 2), None, template, nowhere)
    assert torch.equal(samples.tokens, template)
    assert torch.equal(sample_ancestrally(watched, GRAPH, NOISE, (1, 2), 9, None, template, nowhere).tokens, template)
    assert not watched.seen


def test_ancestral_sampling_of_many_steps_reproduces_a_joint_law():
    samples = sample_ancestrally(PAIR.masked_posterior, GRAPH, NOISE, (4000, 2), 60, torch.Generator().manual_seed(1))
    assert PAIR.chi_square(samples.tokens) < most_chi_square(8)


def test_ancestral_sampling_asks_only_where_something_is_revealed():
    watched = Watched(PAIR)
    samples = sample_ancestrally(watched, GRAPH, NOISE, (3, 2), 5000, torch.Generator().manual_seed(0))
    assert samples.evaluations == len(watched.seen) <= 6
    for (before, _), (after, _) in zip(watched.seen, watched.seen[1:], strict=False):
        assert not torch.equal(before, after)


@pytest.mark.parametrize("noise", [LogLinearNoise(), CosineNoise()], ids=repr)
def test_ancestral_steps_reveal_what_the_schedule_says(noise):
    n, steps = 20_000, 4
    watched = Watched(PAIR)
    sample_ancestrally(watched, GRAPH, noise, (n, 2), steps, torch.Generator().manual_seed(2))
    rates = noise.mask_probability(torch.linspace(1, 0, steps + 1, dtype=torch.float64))
    for step, (xt, sigma) in enumerate(watched.seen):
        expected = float(rates[step] / rates[0])
        assert float((xt == 3).double().mean()) == pytest.approx(expected, abs=4 * (0.25 / (2 * n)) ** 0.5)
        assert float(-torch.expm1(-sigma[0].double())) == pytest.approx(float(rates[step]), rel=1e-5)


def test_one_step_of_ancestral_sampling_is_a_product_of_marginals():
    samples = sample_ancestrally(PAIR.masked_posterior, GRAPH, NOISE, (20_000, 2), 1, torch.Generator().manual_seed(3))
    assert samples.evaluations == 1
    table = PAIR.p.reshape(3, 3)
    product = Joint(3, 2)
    product.p = (table.sum(1)[:, None] * table.sum(0)).flatten()
    assert product.chi_square(samples.tokens) < most_chi_square(8)


def test_padding_changes_no_keyed_sample():
    ids = torch.tensor([3, 5, 8])
    plain = sample_first_hitting(PAIR.masked_posterior, GRAPH, NOISE, (3, 2), SampleKeys(ids, 1)).tokens
    template = torch.tensor([[9, 9, 21, 21]]).repeat(3, 1)
    padded = lambda xt, sigma: torch.cat([PAIR.masked_posterior(xt[:, :2]), torch.zeros(3, 2, 3)], 1)  # noqa: E731
    again = sample_first_hitting(padded, GRAPH, NOISE, (3, 4), SampleKeys(ids, 1), template, template == 9).tokens
    assert torch.equal(plain, again[:, :2])


def test_a_low_temperature_and_a_small_nucleus_draw_the_most_probable():
    single = Joint(3, 1, seed=4)
    for reshaping in (Reshaping(temperature=0.01), Reshaping(top_p=0.01)):
        tokens = sample_first_hitting(
            single.masked_posterior, GRAPH, NOISE, (100, 1), torch.Generator().manual_seed(0), reshaping=reshaping
        ).tokens
        assert (tokens == int(single.p.argmax())).all()


def test_no_step_is_refused():
    with pytest.raises(ConfigurationError, match="steps=0"):
        sample_ancestrally(PAIR.masked_posterior, GRAPH, NOISE, (1, 2), 0, None)
