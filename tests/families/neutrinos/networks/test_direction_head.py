from __future__ import annotations

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.neutrinos.networks import DirectionHead, EnergyHead, TrackHead

HEADS = [DirectionHead, EnergyHead, TrackHead]


@pytest.mark.parametrize("head", HEADS)
def test_a_head_begins_near_zero(head):
    torch.manual_seed(0)
    network, x = head(64, 256), torch.randn(500, 64)
    answer = network(x)
    assert answer.abs().max() < 1.0
    assert network.layers[-1].weight.std().item() == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize("head", HEADS)
def test_no_hidden_unit_dies(head):
    torch.manual_seed(0)
    network = head(64, 256)
    torch.nn.init.constant_(network.layers[0].bias, -4.0)
    network(torch.randn(50, 64)).sum().backward()
    # of a unit that is off at all events, a ReLU's row would be zeros
    assert (network.layers[0].weight.grad.abs().sum(1) > 0).all()


def test_shapes_and_types_are_the_losses():
    x = torch.randn(5, 8)
    for head, shape in ((DirectionHead(8), (5, 3)), (EnergyHead(8), (5,)), (TrackHead(8), (5,))):
        exact = head(x)
        with torch.autocast("cpu", torch.bfloat16):
            same = head(x)
            rough = head(x.bfloat16())
        assert exact.shape == shape
        assert rough.dtype == torch.float32
        assert torch.equal(same, exact)


def test_directions_before_training_go_all_ways():
    torch.manual_seed(0)
    direction = torch.nn.functional.normalize(DirectionHead(64)(torch.randn(4000, 64)), dim=1)
    # uniform directions would have a mean of length 1 / sqrt(N); all the same way, 1
    assert direction.mean(0).norm() < 0.5


def test_the_energy_begins_where_it_is_told():
    head = EnergyHead(8, start=2.5)
    assert head(torch.zeros(1, 8)).item() == pytest.approx(2.5, abs=0.1)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("bad", [{"width": 0}, {"hidden": 0}, {"dropout": 1.0}])
def test_arguments_out_of_range_are_refused_by_name(head, bad):
    with pytest.raises(ConfigurationError, match=f"{head.__name__}: {next(iter(bad))}="):
        head(**({"width": 8} | bad))
