from __future__ import annotations

import math

import pytest
import torch

from stablelit.errors import ConfigurationError, DataError
from stablelit.functional.contrastive import NTXentLoss, nt_xent
from stablelit.functional.contrastive_levels import chance_nt_xent, floor_nt_xent

# one matrix; blocks that divide the rows, do not, and hold all of them
CHUNKS = [None, 6, 7, 64]
# the last is below what a fixed shift of the exponential allows
TEMPERATURES = [1.0, 0.2, 0.01]


def views(n=9, d=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(n)
    z0 = torch.randn(n, d, generator=generator, dtype=torch.float64)
    z1 = z0 + 0.7 * torch.randn(n, d, generator=generator, dtype=torch.float64)
    return z0.to(dtype).requires_grad_(), z1.to(dtype).requires_grad_()


def by_its_definition(z0, z1, temperature):
    """Anchor by anchor; rows i and i + N are views of one sample."""
    n, total = len(z0), 0.0
    u = [row / row.norm() for row in torch.cat([z0, z1])]
    for i in range(2 * n):
        scores = torch.stack([u[i] @ u[j] / temperature for j in range(2 * n) if j != i])
        total = total - u[i] @ u[(i + n) % (2 * n)] / temperature + torch.logsumexp(scores, dim=0)
    return total / (2 * n)


def value_and_gradient(loss, *z):
    value = loss(*z)
    return value.detach(), torch.cat(torch.autograd.grad(value, z))


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_value_and_gradient_are_those_of_the_definition(chunk_size, temperature):
    z = views()
    expected, slope = value_and_gradient(lambda a, b: by_its_definition(a, b, temperature), *z)
    told, told_slope = value_and_gradient(lambda a, b: nt_xent(a, b, temperature, chunk_size=chunk_size), *z)
    assert told.dtype == torch.float64
    assert float(told) == pytest.approx(float(expected), rel=1e-12)
    assert (told_slope - slope).norm() <= 1e-12 * slope.norm()


@pytest.mark.parametrize("kept", [0, 2**20])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_many_rows_are_taken_in_blocks_and_agree_with_one_matrix(temperature, kept, monkeypatch):
    monkeypatch.setattr("stablelit.functional.contrastive._SCORES_KEPT", kept)
    z = views(n=300, d=16)
    expected, slope = value_and_gradient(lambda a, b: nt_xent(a, b, temperature, chunk_size=None), *z)
    told, told_slope = value_and_gradient(lambda a, b: nt_xent(a, b, temperature), *z)
    assert type(nt_xent(*z, temperature).grad_fn).__name__ == "_InBlocksBackward"
    assert float(told) == pytest.approx(float(expected), rel=1e-12)
    assert (told_slope - slope).norm() <= 1e-12 * slope.norm()


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_an_upstream_factor_reaches_the_gradient(chunk_size):
    z = views()
    _, slope = value_and_gradient(lambda a, b: nt_xent(a, b, chunk_size=chunk_size), *z)
    _, tripled = value_and_gradient(lambda a, b: 3 * nt_xent(a, b, chunk_size=chunk_size), *z)
    assert torch.allclose(tripled, 3 * slope, rtol=1e-12)


@pytest.mark.parametrize("chunk_size", CHUNKS)
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_one_point_for_all_is_at_chance_and_a_simplex_at_the_floor(chunk_size, temperature):
    one, corners = torch.ones(6, 3).double(), torch.eye(6).double() - 1 / 6
    at_chance = float(nt_xent(one, one, temperature, chunk_size=chunk_size))
    at_floor = float(nt_xent(corners, corners, temperature, chunk_size=chunk_size))
    assert at_chance == pytest.approx(chance_nt_xent(6), abs=1e-12)
    assert at_floor == pytest.approx(floor_nt_xent(6, temperature), rel=1e-9)


def test_the_order_of_samples_and_of_views_says_nothing():
    z0, z1 = (z.detach() for z in views())
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    value = float(nt_xent(z0, z1))
    assert float(nt_xent(z0[order], z1[order])) == pytest.approx(value, rel=1e-12)
    assert float(nt_xent(z1, z0)) == pytest.approx(value, rel=1e-12)
    assert float(nt_xent(z0[order], z1)) > value + 0.1


def test_the_mean_over_parts_is_not_the_loss_of_the_whole():
    z0, z1 = views(n=16, d=8)
    whole, slope = value_and_gradient(nt_xent, z0, z1)
    parts, mean_slope = value_and_gradient(
        lambda a, b: sum(nt_xent(x, y) for x, y in zip(a.chunk(4), b.chunk(4), strict=True)) / 4, z0, z1
    )
    # 6 negatives an anchor and not 30: about ln(31/7) less
    assert 0.5 < float(whole - parts) < 2 * math.log(31 / 7)
    assert torch.cosine_similarity(slope.flatten(), mean_slope.flatten(), dim=0) < 0.99


@pytest.mark.parametrize("chunk_size", CHUNKS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_are_computed_in_float32(dtype, chunk_size):
    z = views(dtype=dtype)
    # aligned views at a temperature whose exponential overflows float16
    expected = nt_xent(*(z[0].detach().float(),) * 2, 0.07, chunk_size=chunk_size)
    with torch.autocast("cpu", torch.bfloat16):
        told = nt_xent(z[0], z[0], 0.07, chunk_size=chunk_size)
    told.backward()
    assert told.dtype == torch.float32
    assert z[0].grad.dtype == dtype
    assert told == expected


@pytest.mark.parametrize("chunk_size", CHUNKS)
@pytest.mark.parametrize("temperature", [0.01, 0.05, 0.2])
def test_single_precision_keeps_its_digits_where_no_row_is_near(chunk_size, temperature):
    # two opposite points, views crossed: the largest score of an anchor is 1, and its positive's -1
    z0 = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    z1 = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0]])
    exact = float(by_its_definition(z0.double(), z1.double(), temperature))
    assert float(nt_xent(z0, z1, temperature, chunk_size=chunk_size)) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_a_row_of_zeros_has_a_gradient_that_is_finite(chunk_size):
    z0, z1 = (z.detach().float() for z in views())
    z0[2] = 0
    value, slope = value_and_gradient(
        lambda a, b: nt_xent(a, b, chunk_size=chunk_size), z0.requires_grad_(), z1.requires_grad_()
    )
    assert value.isfinite()
    assert slope.isfinite().all()


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_what_is_not_finite_shows_in_the_loss(chunk_size):
    z0, z1 = (z.detach() for z in views())
    z0[2, 1] = math.nan
    assert nt_xent(z0, z1, chunk_size=chunk_size).isnan()


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_one_view_may_need_no_gradient(temperature):
    z0, z1 = views()
    slope = torch.autograd.grad(nt_xent(z0, z1, temperature, chunk_size=None), z0)[0]
    told = torch.autograd.grad(nt_xent(z0, z1.detach(), temperature, chunk_size=7), z0)[0]
    assert torch.allclose(told, slope, rtol=1e-10)


def test_second_derivatives_exist_in_one_matrix_and_are_refused_in_blocks():
    z = views(n=4, d=3)
    assert torch.autograd.gradgradcheck(lambda a, b: nt_xent(a, b, 0.5, chunk_size=None), z)
    with pytest.raises(ConfigurationError, match=r"no second derivatives. Set chunk_size=None"):
        torch.autograd.grad(nt_xent(*z, chunk_size=3), z[0], create_graph=True)


def test_the_module_is_the_function_and_its_temperature_can_be_set():
    z, loss = views(), NTXentLoss(0.5, chunk_size=4)
    assert loss(*z) == nt_xent(*z, 0.5, chunk_size=4)
    loss.temperature = 0.1
    assert loss(*z) == nt_xent(*z, 0.1, chunk_size=4)
    assert repr(loss) == "NTXentLoss(temperature=0.1, gather=True, chunk_size=4)"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda z: nt_xent(z[:1], z[:1]), DataError, "1 pair has no negatives"),
        (lambda z: nt_xent(z, z[:-1]), DataError, r"shapes \(9, 5\) and \(8, 5\).*both \(N, d\)"),
        (lambda z: nt_xent(z[:, :, None], z[:, :, None]), DataError, r"\(9, 5, 1\)"),
        (lambda z: nt_xent(z, z, 0.0), ConfigurationError, "temperature=0.0 is not allowed.*above 0"),
        (lambda z: nt_xent(z, z, chunk_size=0), ConfigurationError, "chunk_size=0 is not allowed"),
        (lambda z: nt_xent(z, z, chunk_size="all"), ConfigurationError, "chunk_size='all' is not allowed.*'auto'"),
        (lambda z: NTXentLoss(-1), ConfigurationError, "NTXentLoss: temperature=-1"),
        (lambda z: NTXentLoss(gather="no"), ConfigurationError, "NTXentLoss: gather='no'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call(views()[0].detach())


@pytest.mark.slow
@pytest.mark.parametrize("chunk_size", [None, 5])
def test_it_can_be_compiled(chunk_size):
    torch._dynamo.reset()
    z0, z1 = (torch.randn(6, 4, generator=torch.Generator().manual_seed(k), requires_grad=True) for k in range(2))
    # what a real backend is given, without the minute that it takes
    compiled = torch.compile(lambda a, b: nt_xent(a, b, chunk_size=chunk_size), backend="aot_eager")
    expected, found = (torch.autograd.grad(loss(z0, z1), z0)[0] for loss in (nt_xent, compiled))
    torch.testing.assert_close(found, expected)
