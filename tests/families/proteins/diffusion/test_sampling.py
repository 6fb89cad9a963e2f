from __future__ import annotations

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.proteins.diffusion.graphs import AbsorbingGraph, UniformGraph
from stablelit.families.proteins.diffusion.randomness import SampleKeys
from stablelit.families.proteins.diffusion.sampling import Reshaping, categorical, start
from tests.families.proteins.diffusion.enumerated import most_chi_square


class Fixed(SampleKeys):
    """Draws one given number everywhere."""

    def __init__(self, number):
        super().__init__(torch.zeros(1, dtype=torch.int64))
        self.number = number

    def uniform(self, shape):
        return torch.full(shape, self.number, dtype=torch.float64)


def test_states_are_drawn_in_proportion_to_their_weights():
    weights = torch.tensor([0.0, 3.0, 1.0, 0.0, 6.0, 0.0])
    drawn = categorical(weights.expand(100, 200, 6), torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn.flatten(), minlength=6).double()
    assert not counts[[0, 3, 5]].any()
    expected = 20_000 * weights[[1, 2, 4]].double() / 10
    assert float(((counts[[1, 2, 4]] - expected) ** 2 / expected).sum()) < most_chi_square(2)


@pytest.mark.parametrize("number", [0.0, 1 - 2.0**-53])
def test_no_rounding_draws_a_state_of_no_weight(number):
    weights = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.1, 0.0])
    for scale in (1.0, 1 / 3, 7e-9, 1.1e11, *torch.rand(200, generator=torch.Generator().manual_seed(0)).tolist()):
        state = int(categorical((weights * scale)[None, None], Fixed(number)))
        assert state == (1 if number == 0 else 4)


def test_the_tail_is_kept_that_float32_would_cut():
    weights = torch.tensor([1.0, 1e-12], dtype=torch.float64)[None, None]
    assert int(categorical(weights, Fixed(1 - 1e-13))) == 1
    assert int(categorical(weights, Fixed(1 - 1e-11))) == 0


def test_temperature_is_a_power_of_the_law():
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    expected = p**2 / (p**2).sum()
    torch.testing.assert_close(Reshaping(temperature=0.5)(p.log() + 7.0), expected)
    torch.testing.assert_close(Reshaping()(p.log() - 3.0), p)
    assert float(Reshaping(temperature=0.01)(p.log())[0]) > 1 - 1e-12


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.01, [2]), (0.4, [2]), (0.41, [2, 0]), (0.7, [2, 0]), (0.71, [2, 0, 3]), (1.0, [0, 1, 2, 3])]
)
def test_the_nucleus_is_the_fewest_states_that_reach_it(top_p, kept):
    p = torch.tensor([0.3, 0.1, 0.4, 0.2], dtype=torch.float64)
    found = Reshaping(top_p=top_p)(p.log())
    expected = torch.zeros(4, dtype=torch.float64)
    expected[kept] = p[kept] / p[kept].sum()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"temperature": 0.0}, "temperature=0.0"), ({"top_p": 1.1}, "top_p=1.1"), ({"top_p": 0}, "top_p=0")],
)
def test_a_reshaping_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Reshaping(**arguments)


@pytest.mark.parametrize("graph", [AbsorbingGraph(4), UniformGraph(4)], ids=["absorb", "uniform"])
def test_a_sampler_starts_from_the_prior_and_from_the_template_elsewhere(graph):
    template = torch.tensor([[3, 9, 9, 21], [9, 9, 1, 20]])
    free = torch.tensor([[False, True, True, False], [True, True, False, False]])
    xt, found = start(graph, (2, 4), torch.Generator().manual_seed(0), template, free)
    assert torch.equal(found, free)
    assert torch.equal(xt[~free], template[~free])
    assert (xt[free] <= graph.n_codes - 1).all()
    xt, everywhere = start(graph, (2, 3), torch.Generator().manual_seed(0))
    assert xt.shape == (2, 3)
    assert everywhere.all()


def test_free_sites_without_a_template_or_of_another_shape_are_refused():
    free = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(ConfigurationError, match="free= is given without template="):
        start(AbsorbingGraph(4), (1, 2), None, free=free)
    with pytest.raises(ConfigurationError, match=r"template=\(1, 3\).*\(1, 2\)"):
        start(AbsorbingGraph(4), (1, 2), None, template=torch.zeros(1, 3, dtype=torch.int64), free=free)
