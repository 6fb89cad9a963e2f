from __future__ import annotations

import itertools
import math

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.proteins.diffusion.graphs import AbsorbingGraph, UniformGraph, build_graph
from tests.families.proteins.diffusion.enumerated import most_chi_square

BOTH = pytest.mark.parametrize("graph", [AbsorbingGraph(4), UniformGraph(4)], ids=["absorb", "uniform"])


def rates(graph):
    """Q[to, from], written down again."""
    n = graph.n_states
    if isinstance(graph, UniformGraph):
        return torch.full((n, n), 1 / n, dtype=torch.float64) - torch.eye(n, dtype=torch.float64)
    q = torch.zeros(n + 1, n + 1, dtype=torch.float64)
    for x in range(n):
        q[n, x], q[x, x] = 1, -1
    return q


def every_pair(graph):
    """All (xt, x0) that noise can lead to, as rows of length 1."""
    clean = range(graph.n_states)
    codes = clean if isinstance(graph, UniformGraph) else [None, graph.mask]
    pairs = [(x0 if xt is None else xt, x0) for xt, x0 in itertools.product(codes, clean)]
    xt, x0 = torch.tensor(pairs).T
    return xt[:, None], x0[:, None]


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize("kind", ["absorb", "uniform"])
@pytest.mark.parametrize("sigma", [1e-4, 0.3, 2.0, 20.0])
def test_transition_probabilities_are_the_matrix_exponential(kind, n, sigma):
    graph = build_graph(kind, n)
    torch.testing.assert_close(graph.matrix(sigma), torch.linalg.matrix_exp(sigma * rates(graph)), rtol=1e-9, atol=0)


@BOTH
@pytest.mark.parametrize("sigma", [1e-3, 0.3, 2.0, 20.0])
def test_ratios_are_those_of_the_matrix_exponential(graph, sigma):
    moved = torch.linalg.matrix_exp(sigma * rates(graph))
    xt, x0 = every_pair(graph)
    found = graph.log_ratio(xt, x0, torch.full((len(xt),), sigma, dtype=torch.float64)).exp()
    for row in range(len(xt)):
        a, b = int(xt[row]), int(x0[row])
        if isinstance(graph, AbsorbingGraph) and a != graph.mask:
            assert not found[row].any()
            continue
        expected = moved[: graph.n_states, b] / moved[a, b]
        torch.testing.assert_close(found[row, 0], expected, rtol=1e-9, atol=0)


@BOTH
@pytest.mark.parametrize("sigma", [1e-3, 0.3, 2.0, 15.0])
def test_score_entropy_is_the_sum_with_its_constant_written_out(graph, sigma):
    q, moved = rates(graph), torch.linalg.matrix_exp(sigma * rates(graph))
    xt, x0 = every_pair(graph)
    log_s = torch.randn(len(xt), 1, graph.n_states, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = graph.score_entropy(log_s, torch.full((len(xt),), sigma, dtype=torch.float64), xt, x0)
    for row in range(len(xt)):
        a, b = int(xt[row]), int(x0[row])
        expected = 0.0
        for y in range(graph.n_states):
            weight = float(q[a, y]) if y != a else 0.0
            r, ls = float(moved[y, b] / moved[a, b]), float(log_s[row, 0, y])
            expected += weight * (math.exp(ls) - r * ls + (r * (math.log(r) - 1) if r > 0 else 0.0))
        assert float(found[row]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@BOTH
@pytest.mark.parametrize("sigma", [1e-4, 0.5, 20.0])
def test_score_entropy_is_never_negative_and_flat_exactly_at_the_true_ratios(graph, sigma):
    xt, x0 = every_pair(graph)
    told = torch.full((len(xt),), sigma)
    true = graph.log_ratio(xt, x0, told).clamp(min=-80)
    for scale in (0.0, 1e-4, 1.0, 8.0):
        noise = torch.randn(true.shape, generator=torch.Generator().manual_seed(2))
        assert (graph.score_entropy(true + scale * noise, told, xt, x0) >= 0).all()
    at_truth = true.clone().requires_grad_()
    value = graph.score_entropy(at_truth, told, xt, x0)
    assert float(value.detach().max()) < 1e-5 * float(true.exp().max())
    value.sum().backward()
    assert float(at_truth.grad.abs().max()) <= 2e-5 * float(true.exp().max())


@BOTH
@pytest.mark.parametrize("sigma", [1e-6, 1e-4, 30.0])
def test_float32_agrees_with_float64_at_the_ends_of_noise(graph, sigma):
    xt, x0 = every_pair(graph)
    # deviations of order one: a float32 log score of 14 has no digits for a deviation of 1e-3
    noise = torch.rand(len(xt), 1, graph.n_states, generator=torch.Generator().manual_seed(3)) + 0.5
    wide = torch.full((len(xt),), sigma, dtype=torch.float64)
    true = graph.log_ratio(xt, x0, wide)
    # a model that is e^noise from the truth; of impossible states it believes something, at the scale of the others
    scale = true.amax(-1, keepdim=True).clamp(min=-40)
    log_s = torch.where(true.isinf(), scale - 1, true) + noise
    single = graph.score_entropy(log_s.float(), wide.float(), xt, x0)
    double = graph.score_entropy(log_s.float().double(), wide, xt, x0)
    assert single.isfinite().all()
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=0)


def test_the_uniform_ratio_does_not_cancel_at_a_vocabulary_of_fifty_thousand():
    graph, sigma = UniformGraph(50257), 1e-4
    found = graph.log_ratio(torch.tensor([[5]]), torch.tensor([[5]]), torch.tensor([sigma]))[0, 0, 6]
    expm1 = math.expm1(sigma)
    assert float(found) == pytest.approx(math.log(expm1 / (expm1 + 50257)), rel=1e-6)


@BOTH
def test_corrupted_residues_follow_the_matrix_exponential(graph):
    sigma, n = 0.7, 20_000
    generator = torch.Generator().manual_seed(0)
    x0 = torch.arange(graph.n_states).repeat(n)[None]
    xt = graph.corrupt(x0, torch.tensor([sigma]), generator)
    moved = torch.linalg.matrix_exp(sigma * rates(graph))
    for start in range(graph.n_states):
        counts = torch.bincount(xt[x0 == start], minlength=graph.n_codes).double()
        possible = moved[:, start] > 0
        assert not counts[~possible].any()
        expected = n * moved[possible, start]
        assert float(((counts[possible] - expected) ** 2 / expected).sum()) < most_chi_square(int(possible.sum()) - 1)


@BOTH
def test_every_sequence_is_corrupted_by_its_own_noise(graph):
    x0 = torch.zeros(2, 4000, dtype=torch.int64)
    xt = graph.corrupt(x0, torch.tensor([[1e-9], [30.0]]), torch.Generator().manual_seed(0))
    assert (xt[0] == 0).all()
    assert float((xt[1] == 0).double().mean()) == pytest.approx(float(graph.matrix(30.0)[0, 0]), abs=0.03)


@BOTH
def test_what_is_no_site_is_neither_touched_nor_counted(graph):
    x0 = torch.tensor([[0, 21, 3, 20]])
    sites = torch.tensor([[True, False, True, False]])
    xt = graph.corrupt(x0, torch.tensor([30.0]), torch.Generator().manual_seed(0), sites)
    assert xt[0, 1] == 21
    assert xt[0, 3] == 20
    xt = torch.tensor([[1, 21, 2, graph.n_states]]) if isinstance(graph, UniformGraph) else torch.full((1, 4), 4)
    log_s = torch.zeros(1, 4, 4)
    log_s[0, 1], log_s[0, 3] = 50.0, -50.0
    log_s.requires_grad_()
    value = graph.score_entropy(log_s, torch.tensor([1.0]), xt, x0, sites)
    assert value[0, 1] == 0
    assert value[0, 3] == 0
    assert (value[0, [0, 2]] > 0).all()
    value.sum().backward()
    assert log_s.grad.isfinite().all()
    assert not log_s.grad[0, [1, 3]].any()


@pytest.mark.parametrize("unrestrained", [200.0, -torch.inf])
def test_scores_of_clean_residues_which_nothing_restrains_leave_the_gradient_finite(unrestrained):
    log_s = torch.zeros(1, 2, 4)
    log_s[0, 1, 1:] = unrestrained
    log_s.requires_grad_()
    xt, x0 = torch.tensor([[4, 0]]), torch.tensor([[2, 0]])
    AbsorbingGraph(4).score_entropy(log_s, torch.tensor([1.0]), xt, x0).sum().backward()
    assert log_s.grad.isfinite().all()
    assert log_s.grad[0, 0].any()


@BOTH
def test_bf16_scores_are_scored_in_float32(graph):
    xt, x0 = every_pair(graph)
    log_s = torch.randn(len(xt), 1, 4, generator=torch.Generator().manual_seed(4)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = graph.score_entropy(log_s, torch.full((len(xt),), 1e-4), xt, x0)
    assert value.dtype == torch.float32
    assert torch.equal(value, graph.score_entropy(log_s.float(), torch.full((len(xt),), 1e-4), xt, x0))


def test_prior_of_absorbing_is_all_masks_and_of_uniform_every_state_alike():
    generator = torch.Generator().manual_seed(0)
    assert (AbsorbingGraph(4).prior((2, 3), generator) == 4).all()
    counts = torch.bincount(UniformGraph(4).prior((200, 200), generator).flatten(), minlength=4).double()
    assert len(counts) == 4
    assert float(((counts - 1e4) ** 2 / 1e4).sum()) < most_chi_square(3)


@pytest.mark.parametrize("sigma", [1e-3, 0.5, 2.0, 12.0])
def test_prior_divergence_of_uniform_is_the_sum_over_states(sigma):
    law = UniformGraph(4).matrix(sigma)[:, 0]
    expected = float((law * (4 * law).log()).sum())
    found = UniformGraph(4).prior_kl(torch.tensor(sigma, dtype=torch.float64))
    # the sum written out has rounding errors of 1e-17, the divergence at sigma = 12 is 6e-11
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert float(UniformGraph(4).prior_kl(torch.tensor(sigma))) == pytest.approx(float(found), rel=1e-5)


def test_prior_term_of_absorbing_is_the_leftover_guessed():
    assert float(AbsorbingGraph(20).prior_kl(torch.tensor(0.5))) == pytest.approx(math.exp(-0.5) * math.log(20))


@pytest.mark.parametrize(
    ("kind", "n", "message"), [("absorbing", 4, "Did you mean 'absorb'"), ("uniform", 1, "n_states=1")]
)
def test_a_graph_that_cannot_be_is_refused(kind, n, message):
    with pytest.raises(ConfigurationError, match=message):
        build_graph(kind, n)
