from __future__ import annotations

import os

import pytest
import torch

from stablelit.functional.gradients import clip_coefficient, group_norms, share_above, tensor_norms, total_norm


def reference(tensors, p=2.0):
    """Every element in float64, one tensor after the other."""
    flat = torch.cat([t.to_dense().double().flatten() for t in tensors])
    return float(flat.abs().max() if p == float("inf") else flat.abs().pow(p).sum().pow(1 / p))


def some(seed=0, dtype=torch.float32, scale=1.0):
    g = torch.Generator().manual_seed(seed)
    shapes = [(3, 4), (), (7,), (2, 3, 5), (0,), (200, 300)]
    return [(scale * torch.randn(shape, generator=g)).to(dtype) for shape in shapes]


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_total_norm_equals_the_sum_over_elements(p, dtype):
    tensors = some(dtype=dtype)
    norm = total_norm(tensors, p)
    assert norm.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert float(norm) == pytest.approx(reference(tensors, p), rel=1e-6)


def test_total_norm_of_a_large_tensor_keeps_its_digits_where_torchs_does_not():
    tensors = [torch.randn(3_000_001, generator=torch.Generator().manual_seed(0)), torch.ones(5)]
    assert float(total_norm(tensors)) == pytest.approx(reference(tensors), rel=1e-6)
    assert float(total_norm([tensors[0].view(-1, 1).T.expand(1, -1)])) == pytest.approx(
        reference(tensors[:1]), rel=1e-6
    )
    transposed = torch.randn(400, 300, generator=torch.Generator().manual_seed(0)).T
    assert float(total_norm([transposed])) == pytest.approx(reference([transposed]), rel=1e-6)


def test_total_norm_does_not_overflow_in_half_precision():
    tensors = [torch.full((100_000,), 300.0, dtype=torch.float16), torch.full((8,), 300.0, dtype=torch.float16)]
    assert torch.isinf(torch.nn.utils.get_total_norm(tensors))
    assert float(total_norm(tensors)) == pytest.approx(300.0 * 100_008**0.5, rel=1e-6)


def test_total_norm_of_nothing_is_zero_and_of_a_nan_is_nan():
    assert float(total_norm([])) == 0.0
    assert float(total_norm([torch.zeros(0)])) == 0.0
    assert torch.isnan(total_norm([torch.ones(3), torch.tensor([1.0, float("nan")])]))
    assert torch.isinf(total_norm([torch.ones(3), torch.tensor([1.0, float("-inf")])]))


def test_total_norm_of_a_sparse_gradient_adds_up_its_repeated_rows():
    embedding = torch.nn.Embedding(50, 4, sparse=True)
    embedding(torch.tensor([3, 3, 7])).square().sum().backward()
    gradient = embedding.weight.grad
    assert not gradient.is_coalesced()
    assert float(total_norm([gradient, torch.ones(2)])) == pytest.approx(reference([gradient, torch.ones(2)]), rel=1e-6)


def test_tensor_norms_keep_the_order():
    tensors = [torch.full((n,), float(n)) for n in (1, 40_000, 3, 0, 2)]
    expected = torch.tensor([n**1.5 for n in (1, 40_000, 3, 0, 2)])
    torch.testing.assert_close(tensor_norms(tensors), expected)


@pytest.mark.parametrize("scale", [1.0, 1e-15, 1e15])
def test_group_norms_are_the_norms_of_each_groups_tensors(scale):
    tensors = some(scale=scale)
    groups = [2, 0, 2, 0, 2, 0]
    norms = group_norms(tensors, groups, 4)
    for group in range(4):
        of_group = [t for t, g in zip(tensors, groups, strict=True) if g == group]
        assert float(norms[group]) == pytest.approx(reference(of_group) if of_group else 0.0, rel=1e-5)
    assert group_norms([], [], 3).tolist() == [0.0, 0.0, 0.0]


def test_a_group_with_a_nan_or_an_infinity_does_not_spoil_the_others():
    bad = [torch.tensor([float("nan")]), torch.tensor([float("inf")]), torch.tensor([3.0, 4.0])]
    norms = group_norms(bad, [0, 1, 2], 3)
    assert torch.isnan(norms[0])
    assert torch.isinf(norms[1])
    assert float(norms[2]) == pytest.approx(5.0)


@pytest.mark.parametrize("c", [0.1, 10.0])
def test_clip_coefficient_is_what_torchs_clip_multiplies_with(c):
    parameter = torch.nn.Parameter(torch.zeros(9))
    parameter.grad = torch.arange(9.0)
    norm = torch.nn.utils.clip_grad_norm_([parameter], c)
    assert torch.equal(parameter.grad, torch.arange(9.0) * clip_coefficient(norm, c))


def test_clip_coefficient_of_what_is_not_finite():
    norms = torch.tensor([float("nan"), float("inf"), 0.0])
    coefficients = clip_coefficient(norms, 1.0)
    assert torch.isnan(coefficients[0])
    assert coefficients[1:].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1e3])
def test_share_above_counts_elements(dtype, threshold, monkeypatch):
    import stablelit.functional.gradients as room

    monkeypatch.setattr(room, "_CHUNK", 10_000)  # several chunks
    tensors = [*some(1, dtype), *some(2, dtype), torch.full((4,), threshold, dtype=dtype)]
    flat = torch.cat([t.flatten() for t in tensors])
    expected = sum(abs(v) > threshold for v in flat.tolist()) / len(flat)
    assert float(share_above(tensors, threshold)) == pytest.approx(expected, rel=1e-6)


def test_share_above_of_nothing_and_of_what_is_not_finite():
    assert float(share_above([], 1.0)) == 0.0
    assert float(share_above([torch.tensor([1.0, float("nan"), float("inf"), 2.0])], 1.5)) == 0.5


def _on_two_ranks(rank, path, queue):
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    try:
        torch.manual_seed(0)
        whole = torch.nn.Sequential(torch.nn.Linear(7, 30), torch.nn.Linear(30, 5))
        torch.manual_seed(0)
        sharded = torch.nn.Sequential(torch.nn.Linear(7, 30), torch.nn.Linear(30, 5))
        fully_shard(sharded, mesh=init_device_mesh("cpu", (2,)))
        batch = torch.randn(8, 7, generator=torch.Generator().manual_seed(1))
        for module in (whole, sharded):
            module(batch).square().sum().backward()
        expected = reference([p.grad for p in whole.parameters()])
        found = [float(total_norm([p.grad for p in sharded.parameters()]))]
        each = tensor_norms([p.grad for p in sharded.parameters()])
        expected_each = [reference([p.grad]) for p in whole.parameters()]
        queue.put((rank, found[0], expected, each.tolist(), expected_each))
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_a_norm_of_sharded_gradients_is_the_whole_on_every_rank(tmp_path):
    context = torch.multiprocessing.get_context("fork")
    queue = context.Queue()
    ranks = [context.Process(target=_on_two_ranks, args=(r, os.fspath(tmp_path / "store"), queue)) for r in range(2)]
    for process in ranks:
        process.start()
    found = [queue.get(timeout=60) for _ in ranks]
    for process in ranks:
        process.join(timeout=60)
    for _, norm, expected, each, expected_each in found:
        assert norm == pytest.approx(expected, rel=1e-6)
        assert each == pytest.approx(expected_each, rel=1e-6)
