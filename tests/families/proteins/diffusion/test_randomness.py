from __future__ import annotations

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.proteins.diffusion.randomness import SampleKeys, uniform


def test_numbers_of_a_sample_do_not_depend_on_order_company_or_padding():
    many = SampleKeys(torch.tensor([7, 2, 9]), seed=5)
    alone = SampleKeys(torch.tensor([9]), seed=5)
    for _ in range(3):
        assert torch.equal(many.uniform((3, 12))[2, :4], alone.uniform((1, 4))[0])


def test_draws_samples_seeds_and_positions_all_differ():
    ids = torch.arange(50)
    keys, other = SampleKeys(ids, seed=0), SampleKeys(ids, seed=1)
    drawn = torch.cat([keys.uniform((50, 40)).flatten() for _ in range(2)] + [other.uniform((50, 40)).flatten()])
    assert len(drawn.unique()) == len(drawn)


def test_numbers_are_uniform_and_those_of_neighbours_are_independent():
    x = SampleKeys(torch.arange(400), seed=3).uniform((400, 500))
    counts = torch.histc(x, 20, 0, 1)
    expected = x.numel() / 20
    assert float(((counts - expected) ** 2 / expected).sum()) < 19 + 4 * 38**0.5
    n = x.numel()
    for a, b in ((x[1:], x[:-1]), (x[:, 1:], x[:, :-1])):
        correlation = float(((a - 0.5) * (b - 0.5)).mean() * 12)
        assert abs(correlation) < 4 / n**0.5


def test_float32_numbers_stay_below_one():
    class Last(SampleKeys):
        def uniform(self, shape):
            return torch.full(shape, 1 - 2.0**-53, dtype=torch.float64)

    assert float(uniform((1, 1), Last(torch.tensor([0])), torch.device("cpu")).max()) < 1


def test_a_generator_is_followed():
    a, b = (uniform((2, 3), torch.Generator().manual_seed(4), torch.device("cpu")) for _ in range(2))
    assert torch.equal(a, b)


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_a_seed_that_is_no_count_is_refused(seed):
    with pytest.raises(ConfigurationError, match=f"SampleKeys: seed={seed}"):
        SampleKeys(torch.tensor([0]), seed=seed)


@pytest.mark.slow
def test_draws_of_any_number_of_samples_compile_once():
    compiled = torch.compile(lambda x: uniform(x.shape, None, x.device), backend="eager", dynamic=True, fullgraph=True)
    for n in (5, 9):
        torch.manual_seed(n)
        drawn = compiled(torch.zeros(n, 3))
        torch.manual_seed(n)
        assert torch.equal(drawn, torch.rand(n, 3))
