from __future__ import annotations

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.proteins.diffusion import samplers
from stablelit.families.proteins.diffusion.graphs import AbsorbingGraph, UniformGraph
from stablelit.families.proteins.diffusion.noise import GeometricNoise, LogLinearNoise
from stablelit.families.proteins.diffusion.randomness import SampleKeys
from stablelit.families.proteins.diffusion.samplers import sample_by_steps
from stablelit.families.proteins.diffusion.sampling import Reshaping
from stablelit.families.proteins.diffusion.score_entropy import log_score_of_probabilities
from tests.families.proteins.diffusion.enumerated import Joint, most_chi_square

pytestmark = pytest.mark.slow

ABSORB, UNIFORM = AbsorbingGraph(3), UniformGraph(3)
PAIR = Joint(3, 2, seed=0)


def absorbing_score(joint):
    return lambda xt, sigma: log_score_of_probabilities(joint.masked_posterior(xt), sigma.double())


def uniform_score(joint):
    def score(xt, sigma):
        return joint.uniform_log_score(xt, UniformGraph(joint.n).matrix(float(sigma[0])))

    return score


def total_variation(joint, tokens):
    counts = torch.bincount(joint.index(tokens), minlength=len(joint.p)).double() / len(tokens)
    return float((counts - joint.p).abs().sum()) / 2


def drawn(joint, graph, steps, method, n=20_000, noise=None, **arguments):
    score = absorbing_score(joint) if isinstance(graph, AbsorbingGraph) else uniform_score(joint)
    noise = GeometricNoise() if noise is None else noise
    generator = torch.Generator().manual_seed(steps)
    return sample_by_steps(score, graph, noise, (n, joint.length), steps, generator, method, **arguments)


@pytest.mark.parametrize("graph", [ABSORB, UNIFORM], ids=["absorb", "uniform"])
@pytest.mark.parametrize("steps", [1, 3])
def test_tau_leaping_is_exact_for_one_residue_in_any_number_of_steps(graph, steps):
    single = Joint(3, 1, seed=4)
    samples = drawn(single, graph, steps, "tau_leaping")
    assert single.chi_square(samples.tokens) < most_chi_square(2)
    assert samples.evaluations == steps + 1
    assert samples.clipped == 0


def test_euler_is_not_and_its_error_falls_with_the_step():
    single = Joint(3, 1, seed=4, sharpness=1.0)
    few, many = (total_variation(single, drawn(single, UNIFORM, n, "euler", n=30_000).tokens) for n in (8, 32))
    # drawing alone is 0.003 wrong
    assert few > 0.03
    assert 3 < few / many < 6


@pytest.mark.parametrize("graph", [ABSORB, UNIFORM], ids=["absorb", "uniform"])
@pytest.mark.parametrize(("method", "steps"), [("tau_leaping", 40), ("euler", 80)])
def test_many_steps_reproduce_a_joint_law(graph, method, steps):
    samples = drawn(PAIR, graph, steps, method, n=5000)
    # drawing alone is 0.017 wrong
    assert total_variation(PAIR, samples.tokens) < 0.03


def test_residues_that_move_in_one_step_do_not_know_of_each_other():
    # one step draws a product of marginals: an error that no score can repair
    tokens = drawn(PAIR, ABSORB, 1, "tau_leaping").tokens
    table = PAIR.p.reshape(3, 3)
    product = Joint(3, 2)
    product.p = (table.sum(1)[:, None] * table.sum(0)).flatten()
    assert product.chi_square(tokens) < most_chi_square(8)
    assert PAIR.chi_square(tokens) > 10 * most_chi_square(8)


def test_euler_and_tau_leaping_are_one_with_loglinear_masks_and_two_with_geometric():
    runs = {
        (type(noise), method): drawn(PAIR, ABSORB, 8, method, n=500, noise=noise).tokens
        for noise in (LogLinearNoise(), GeometricNoise())
        for method in ("euler", "tau_leaping")
    }
    assert torch.equal(runs[LogLinearNoise, "euler"], runs[LogLinearNoise, "tau_leaping"])
    assert not torch.equal(runs[GeometricNoise, "euler"], runs[GeometricNoise, "tau_leaping"])


def test_jumps_above_certainty_are_cut_back_and_counted():
    samples = drawn(PAIR, UNIFORM, 2, "euler", n=200)
    assert samples.clipped > 0
    assert int(samples.tokens.max()) < 3


@pytest.mark.parametrize("graph", [ABSORB, UNIFORM], ids=["absorb", "uniform"])
@pytest.mark.parametrize("method", ["euler", "tau_leaping"])
def test_given_residues_and_padding_are_never_touched_and_steer_the_rest(graph, method):
    n = 3000
    template = torch.tensor([[2, 9, 21]]).repeat(n, 1)
    free = torch.tensor([[False, True, False]]).expand(n, 3)
    score = absorbing_score(PAIR) if isinstance(graph, AbsorbingGraph) else uniform_score(PAIR)

    def padded(xt, sigma):
        # only this model is told that the first residue is clean: uniform noise cannot be seen
        if isinstance(graph, UniformGraph):
            moved = graph.matrix(float(sigma[0]))
            given = (PAIR.p.reshape(3, 3)[2] / PAIR.p.reshape(3, 3)[2].sum())[None]
            log_law = (given @ moved.T).log()
            inner = torch.zeros(len(xt), 2, 3, dtype=torch.float64)
            inner[:, 1] = log_law - log_law[0, xt[:, 1]][:, None]
        else:
            inner = score(xt[:, :2], sigma)
        return torch.cat([inner, torch.zeros(len(xt), 1, 3, dtype=torch.float64)], 1)

    samples = sample_by_steps(
        padded, graph, GeometricNoise(), (n, 3), 40, torch.Generator().manual_seed(0), method, template, free
    ).tokens
    assert (samples[:, 0] == 2).all()
    assert (samples[:, 2] == 21).all()
    expected = PAIR.p.reshape(3, 3)[2] / PAIR.p.reshape(3, 3)[2].sum()
    found = torch.bincount(samples[:, 1], minlength=3).double() / n
    assert float((found - expected).abs().sum()) / 2 < (0.03 if method == "tau_leaping" else 0.08)


def test_no_mask_is_left_whatever_the_steps():
    for steps in (1, 2, 7):
        assert int(drawn(PAIR, ABSORB, steps, "euler", n=500, noise=LogLinearNoise()).tokens.max()) < 3


def test_keyed_samples_do_not_depend_on_company():
    many = SampleKeys(torch.tensor([3, 5, 8]), 1)
    alone = SampleKeys(torch.tensor([8]), 1)
    a = sample_by_steps(absorbing_score(PAIR), ABSORB, LogLinearNoise(), (3, 2), 5, many).tokens
    b = sample_by_steps(absorbing_score(PAIR), ABSORB, LogLinearNoise(), (1, 2), 5, alone).tokens
    assert torch.equal(a[2], b[0])


def test_a_low_temperature_draws_the_most_probable_residue():
    single = Joint(3, 1, seed=4)
    modal = int(single.p.argmax())
    cold = Reshaping(temperature=0.01)
    assert (drawn(single, ABSORB, 4, "tau_leaping", n=200, reshaping=cold).tokens == modal).all()
    # uniform noise shows a residue that may be the true one, which a cold sampler believes once noise is low
    found = drawn(single, UNIFORM, 16, "tau_leaping", n=2000, reshaping=cold).tokens
    assert float((found == modal).double().mean()) > float(single.p.max()) + 0.04


@pytest.mark.parametrize("graph", [ABSORB, UNIFORM], ids=["absorb", "uniform"])
def test_a_score_that_is_made_again_from_its_own_posterior_is_the_same(graph):
    xt = torch.tensor([[0, 2], [1, 1]]) if graph is UNIFORM else torch.full((2, 2), 3)
    sigma = torch.tensor(0.8, dtype=torch.float64)
    score = absorbing_score(PAIR) if graph is ABSORB else uniform_score(PAIR)
    log_s = score(xt, sigma.expand(2))
    torch.testing.assert_close(samplers._reshaped(graph, log_s, xt, sigma, Reshaping()), log_s)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "eular"}, "Did you mean 'euler'"),
        ({"steps": 0}, "steps=0"),
        ({"t_min": 0.0}, "t_min=0.0"),
        ({"t_min": 1.0}, "t_min=1.0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        drawn(PAIR, ABSORB, **{"steps": 2, "method": "euler", "n": 2, **arguments})
