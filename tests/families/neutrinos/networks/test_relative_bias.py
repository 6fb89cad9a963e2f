from __future__ import annotations

import math

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.neutrinos.networks.relative_bias import SpaceTimeBias, signed_interval


def _points(n: int, length: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(n, length, 4) * torch.tensor([300.0, 300.0, 300.0, 500.0])


def test_the_interval_is_that_of_special_relativity():
    points = _points(2, 5)
    interval = signed_interval(points)
    for b in range(2):
        for i in range(5):
            for j in range(5):
                x = (points[b, i] - points[b, j]).double()
                s = float(x[:3].square().sum() - x[3].square())
                expected = math.copysign(math.sqrt(abs(s)), s)
                assert float(interval[b, i, j]) == pytest.approx(expected, abs=0.01, rel=1e-4)


def test_a_point_is_nowhere_but_at_itself():
    # at the detector's edge, ten microseconds of light's way after the event's start
    points = _points(1, 200) + torch.tensor([500.0, 500.0, 500.0, 3000.0])
    interval = signed_interval(points)[0]
    assert not interval.diagonal().any()
    assert torch.equal(interval, interval.T)


def test_the_bias_is_a_sum_of_chebyshev_polynomials_of_the_interval():
    bias = SpaceTimeBias(layers=2, heads=3, functions=4, scale=80.0)
    torch.nn.init.normal_(bias.weight)
    points, counts = _points(2, 4), torch.tensor([4, 2])
    planes = bias.planes(points, counts)
    d = signed_interval(points)
    for layer in range(2):
        added = bias(layer, planes).detach()
        assert added.shape == (2, 3, 5, 5)
        for b in range(2):
            for h in range(3):
                weight = bias.weight[layer, h].tolist()
                for i in range(int(counts[b])):
                    assert float(added[b, h, i + 1, 0]) == pytest.approx(weight[4], abs=1e-6)
                    for j in range(int(counts[b])):
                        u = float(d[b, i, j]) / (abs(float(d[b, i, j])) + 80.0)
                        expected = sum(weight[k - 1] * math.cos(k * math.acos(u)) for k in range(1, 5))
                        assert float(added[b, h, i + 1, j + 1]) == pytest.approx(expected, abs=1e-4)
                assert float(added[b, h, 0, 0]) == pytest.approx(weight[5], abs=1e-6)
                assert not added[b, h, 0, 1 : int(counts[b]) + 1].any()


def test_absent_keys_get_no_weight_and_leave_finite_gradients():
    bias = SpaceTimeBias(layers=1, heads=2)
    added = bias(0, bias.planes(_points(2, 4), torch.tensor([1, 4])))
    weight = added.softmax(-1)
    assert not weight[0, :, :, 2:].any()
    assert (weight[1] > 0).all()
    (weight * torch.randn_like(weight)).sum().backward()
    assert bias.weight.grad.isfinite().all()
    assert bias.weight.grad.abs().sum() > 0


def test_there_is_no_bias_before_training():
    bias = SpaceTimeBias(layers=1, heads=2)
    assert not bias(0, bias.planes(_points(1, 3), torch.tensor([3]))).any()


@pytest.mark.parametrize("bad", [{"layers": 0}, {"heads": 0}, {"functions": 33}, {"functions": 0}, {"scale": 0.0}])
def test_arguments_out_of_range_are_refused_by_name(bad):
    with pytest.raises(ConfigurationError, match=f"SpaceTimeBias: {next(iter(bad))}="):
        SpaceTimeBias(**({"layers": 1, "heads": 1} | bad))
