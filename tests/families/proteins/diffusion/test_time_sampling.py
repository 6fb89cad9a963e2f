from __future__ import annotations

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.proteins.diffusion.time_sampling import TIME_SAMPLERS, sample_uniform, times


def whole_step(method, batch_size, ranks, accumulate, **arguments):
    """What all ranks and micro-batches of one optimizer step draw, each rank from a generator of its own."""
    generators = [torch.Generator().manual_seed(rank) for rank in range(ranks)]
    return [
        sample_uniform(
            method, batch_size, generators[rank], part=micro * ranks + rank, n_parts=ranks * accumulate, **arguments
        )
        for micro in range(accumulate)
        for rank in range(ranks)
    ]


def test_every_stratum_is_hit_once_over_ranks_and_micro_batches():
    parts = whole_step("stratified", 8, ranks=3, accumulate=2)
    assert sorted((torch.cat(parts) * 48).long().tolist()) == list(range(48))
    for part in parts:
        assert sorted((part * 8).long().tolist()) == list(range(8))


def test_one_shift_spaces_the_numbers_of_all_ranks_evenly():
    parts = whole_step("low_discrepancy", 8, ranks=3, accumulate=2, shift=0.37)
    assert torch.cat(parts).sort().values.diff().numpy() == pytest.approx(1 / 48, abs=1e-6)
    for part in parts:
        assert part.sort().values.diff().numpy() == pytest.approx(1 / 8, abs=1e-6)


def test_decoupled_strata_are_those_of_the_micro_batch():
    for part in whole_step("decoupled", 8, ranks=2, accumulate=2):
        assert sorted((part * 8).long().tolist()) == list(range(8))


@pytest.mark.slow
@pytest.mark.parametrize("method", TIME_SAMPLERS)
def test_every_number_is_uniform_at_every_place_of_the_batch(method):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([sample_uniform(method, 4, generator) for _ in range(4000)])
    for place in range(4):
        counts = torch.histc(drawn[:, place], 10, 0, 1)
        assert float(((counts - 400) ** 2 / 400).sum()) < 9 + 4 * 18**0.5


def test_low_discrepancy_numbers_are_evenly_spaced():
    ordered = sample_uniform("low_discrepancy", 16, torch.Generator().manual_seed(0)).sort().values
    assert ordered.diff().numpy() == pytest.approx(1 / 16, abs=1e-6)


def test_strata_make_the_mean_of_a_batch_less_noisy():
    def spread(method):
        generator = torch.Generator().manual_seed(1)
        return float(torch.stack([sample_uniform(method, 16, generator).mean() for _ in range(300)]).std())

    assert spread("iid") == pytest.approx((1 / 12 / 16) ** 0.5, rel=0.15)
    assert spread("stratified") < spread("iid") / 8


def test_numbers_stay_below_one():
    for method in TIME_SAMPLERS:
        drawn = sample_uniform(method, 100_000, torch.Generator().manual_seed(0))
        assert float(drawn.max()) < 1
        assert float(drawn.min()) >= 0


def test_times_go_from_eps_to_one():
    assert times(torch.tensor([0.0, 0.5, 1.0]), 0.1).tolist() == pytest.approx([0.1, 0.55, 1.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "stratfied"}, "Did you mean 'stratified'"),
        ({"part": 2, "n_parts": 2}, "part=2.*from 0 to 1"),
        ({"n_parts": 0}, "n_parts=0"),
        ({"method": "low_discrepancy", "n_parts": 4}, "needs shift= with n_parts=4"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        sample_uniform(**{"method": "iid", "batch_size": 2, "generator": None, **arguments})


def test_an_eps_that_leaves_nothing_is_refused():
    with pytest.raises(ConfigurationError, match="eps=1.0"):
        times(torch.tensor([0.5]), 1.0)
