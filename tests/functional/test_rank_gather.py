"""Two processes over gloo beside one process that has the whole batch."""

from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from stablelit.errors import DataError
from stablelit.functional.contrastive import nt_xent
from stablelit.functional.rank_gather import gather_rows, rank_and_world

# in one matrix, in blocks, and in blocks of a low temperature
WAYS = [(0.2, None), (0.2, 3), (0.02, 5)]
PAIRS = 6


def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 2 * PAIRS, 7, generator=generator, dtype=torch.float64)


def network():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(7, 9), torch.nn.Tanh(), torch.nn.Linear(9, 4)).double()


def step(model, x, temperature, chunk_size):
    """The loss and the parameters' gradients; both views in one forward."""
    model.zero_grad()
    loss = nt_xent(*model(x.flatten(0, 1)).chunk(2), temperature, chunk_size=chunk_size)
    loss.backward()
    return [float(loss.detach()), *(p.grad.clone() for p in model.parameters())]


def _averaged(rank, queue):
    mine, model = batch()[:, rank * PAIRS : (rank + 1) * PAIRS], network()
    told = {"steps": []}
    for way in WAYS:
        loss, *gradients = step(model, mine, *way)
        for gradient in gradients:
            dist.all_reduce(gradient)
        told["steps"].append([loss, *(gradient.div(2).tolist() for gradient in gradients)])
    told["local"] = float(nt_xent(*mine, gather=False))
    told["gathered"] = gather_rows(torch.tensor([[float(rank)]])).tolist()
    try:
        nt_xent(*mine[:, : PAIRS - rank])
    except DataError as error:
        told["unequal"] = str(error)
    queue.put((rank, told))


def _under_ddp(rank, queue):
    mine, model = batch()[:, rank * PAIRS : (rank + 1) * PAIRS], DistributedDataParallel(network())
    steps = [step(model, mine, *way) for way in WAYS]
    queue.put((rank, {"steps": [[loss, *(g.tolist() for g in gradients)] for loss, *gradients in steps]}))


def _on_a_rank(work, rank, store, queue):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        work(rank, queue)
    finally:
        dist.destroy_process_group()


def on_two_ranks(work, store):
    context = torch.multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_on_a_rank, args=(work, r, os.fspath(store), queue)) for r in range(2)]
    for process in processes:
        process.start()
    told = dict(queue.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(timeout=60)
    return told


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return on_two_ranks(_averaged, tmp_path_factory.mktemp("gloo") / "store")


def assert_same_step(ranks, way):
    loss, *gradients = step(network(), batch(), *WAYS[way])
    assert (ranks[0]["steps"][way][0] + ranks[1]["steps"][way][0]) / 2 == pytest.approx(loss, rel=1e-12)
    for rank in range(2):
        for told, expected in zip(ranks[rank]["steps"][way][1:], gradients, strict=True):
            assert (torch.tensor(told, dtype=torch.float64) - expected).norm() <= 1e-12 * expected.norm()


@pytest.mark.slow
@pytest.mark.parametrize("way", range(len(WAYS)))
def test_the_mean_of_two_ranks_is_the_step_of_one_with_the_whole_batch(ranks, way):
    assert_same_step(ranks, way)


@pytest.mark.slow
def test_two_ranks_under_ddp_take_the_step_of_one_with_the_whole_batch(tmp_path):
    ranks = on_two_ranks(_under_ddp, tmp_path / "store")
    for way in range(len(WAYS)):
        assert_same_step(ranks, way)


def test_without_gathering_a_rank_has_its_own_negatives_only(ranks):
    for rank in range(2):
        own = batch()[:, rank * PAIRS : (rank + 1) * PAIRS]
        assert ranks[rank]["local"] == pytest.approx(float(nt_xent(*own)), rel=1e-12)


def test_rows_come_in_order_of_rank(ranks):
    assert ranks[0]["gathered"] == ranks[1]["gathered"] == [[0.0], [1.0]]


def test_ranks_with_batches_of_different_sizes_are_told_of_both(ranks):
    for rank in range(2):
        assert "different numbers of rows to gather: [12, 10]" in ranks[rank]["unequal"]
        assert "drop_last=True" in ranks[rank]["unequal"]


def test_one_process_gathers_nothing():
    rows = torch.ones(3, 2)
    assert gather_rows(rows) is rows
    assert rank_and_world() == (0, 1)
