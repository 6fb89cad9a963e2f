from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from stablelit.errors import ConfigurationError
from stablelit.families.sketches.knn import WeightedKNN
from stablelit.functional.nearest_neighbours import chance_of_vote, leave_one_out_top1, weighted_vote


def rows(n, seed):
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(-1, 3, (n,), generator=generator)
    return torch.randn(n, 4, generator=generator) + 1.5 * torch.eye(4)[label.clamp(min=0)], label


BANK, QUERY = rows(50, 0), rows(30, 1)


def test_it_is_the_share_of_right_votes_of_the_bank():
    metric = WeightedKNN(k=7)
    metric.update(*BANK, bank=True)
    for part in zip(*(values.split(11) for values in QUERY), strict=True):
        metric.update(*part)
    known = QUERY[1] >= 0
    voted = weighted_vote(QUERY[0][known], *BANK, k=7)
    found = metric.compute()
    assert float(found["top1"]) == pytest.approx(float((voted == QUERY[1][known]).double().mean()))
    assert found["chance"] == chance_of_vote(QUERY[1], BANK[1])
    assert found["top1"] > found["chance"] + 0.1


def test_without_a_bank_the_queries_vote_for_each_other():
    metric = WeightedKNN(k=7)
    metric.update(*QUERY)
    found = metric.compute()
    assert found["top1"] == leave_one_out_top1(*QUERY, k=7)
    assert found["chance"] == chance_of_vote(QUERY[1], QUERY[1], leave_one_out=True)
    loops = []
    for i in range(30):
        others = torch.arange(30) != i
        voted = weighted_vote(QUERY[0][i : i + 1], QUERY[0][others], QUERY[1][others], k=7)
        loops += [float(voted == QUERY[1][i])] if QUERY[1][i] >= 0 else []
    assert float(found["top1"]) == pytest.approx(sum(loops) / len(loops))


@pytest.mark.parametrize("alone", [False, True])
def test_that_nobody_knows_a_label_and_nobody_votes_is_not_right(alone):
    metric = WeightedKNN()
    if not alone:
        metric.update(BANK[0], torch.full_like(BANK[1], -1), bank=True)
    # one known label, whose others are unknown
    metric.update(QUERY[0], torch.where(torch.arange(30) == 4, 2, -1))
    assert metric.compute()["top1"] == 0


def test_of_nothing_it_is_nan():
    metric = WeightedKNN()
    metric.update(QUERY[0][:0], QUERY[1][:0])
    assert metric.compute()["top1"].isnan()
    metric = WeightedKNN()
    metric.update(QUERY[0][:1], QUERY[1][:1])
    assert metric.compute()["chance"].isnan()


def _rank(rank, directory):
    dist.init_process_group("gloo", init_method=f"file://{directory}/store", rank=rank, world_size=2)
    metric = WeightedKNN(k=7)
    metric.update(*(values[rank::2] for values in BANK), bank=True)
    metric.update(*(values[rank::2] for values in QUERY))
    torch.save(metric.compute(), f"{directory}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_have_one_bank(tmp_path):
    mp.start_processes(_rank, args=(str(tmp_path),), nprocs=2, start_method="fork")
    whole = WeightedKNN(k=7)
    whole.update(*BANK, bank=True)
    whole.update(*QUERY)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), whole.compute())


def test_a_number_out_of_range_is_refused():
    with pytest.raises(ConfigurationError, match="temperature=-1 is not allowed"):
        WeightedKNN(temperature=-1)
