from __future__ import annotations

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.neutrinos.networks import SensorTransformer
from stablelit.families.neutrinos.networks.sensor_transformer import SENSOR_POOLS
from stablelit.nn import SelfAttention
from tests.families.neutrinos.networks.ragged_events import batch_of, random_events, randomised


def _network(pool: str = "attention", **kwargs) -> SensorTransformer:
    return randomised(SensorTransformer(**({"d_model": 16, "layers": 2, "heads": 4} | kwargs), pool=pool))


def _one_sensor(network: SensorTransformer, pulses: torch.Tensor) -> torch.Tensor:
    """The pulses of one sensor through the same blocks as one unpadded sequence, ``(d,)``."""
    x = network.embedding(pulses)[None]
    for block in network.blocks:
        normed = block.attention_norm(x)
        x = x + SelfAttention.forward(block.attention, normed)
        x = x + block.feedforward(block.feedforward_norm(x))
    x = x[0]
    if network.pooling.pool == "mean":
        pooled = x.mean(0)
    elif network.pooling.pool == "max":
        pooled = x.max(0).values
    else:
        weight = network.pooling.score(x).softmax(0)
        width = x.shape[1] // network.pooling.heads
        pooled = sum(w.repeat_interleave(width) * row for w, row in zip(weight, x, strict=True))
    return network.norm(pooled)


@pytest.mark.parametrize("pool", SENSOR_POOLS)
@pytest.mark.parametrize("seed", [0, 1])
def test_size_classes_give_what_a_loop_over_sensors_gives_with_its_gradients(pool, seed):
    network, events = _network(pool, frequencies=seed), random_events(6, seed)
    batch = batch_of(events)
    together = network(batch)
    alone = torch.stack([_one_sensor(network, pulses) for event in events for pulses in event["sensors"]])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    weight, parameters = torch.randn(together.shape), list(network.parameters())
    mine = torch.autograd.grad((together * weight).sum(), parameters)
    theirs = torch.autograd.grad((alone * weight).sum(), parameters)
    for gradient, expected in zip(mine, theirs, strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("pool", SENSOR_POOLS)
def test_sensors_of_one_pulse_need_no_scores(pool):
    network, events = _network(pool), random_events(6)
    batch, padded = batch_of(events), batch_of(events, floor=2)
    assert batch["class_sizes"][0] > 5
    assert padded["class_sizes"][:2] == [0, 0]
    torch.testing.assert_close(network(batch), network(padded), atol=1e-5, rtol=1e-5)


def test_a_batch_of_single_pulses_goes_through():
    network, events = _network(), random_events(4, counts=[1])
    batch = batch_of(events)
    assert batch["class_sizes"] == [len(batch["sensors"])]
    torch.testing.assert_close(network(batch), network(batch_of(events, floor=1)), atol=1e-5, rtol=1e-5)


def test_classes_without_sensors_are_left_out():
    network, events = _network(), random_events(4, counts=[1, 9])
    batch = batch_of(events)
    assert batch["class_sizes"][1:4] == [0, 0, 0]
    alone = torch.stack([_one_sensor(network, pulses) for event in events for pulses in event["sensors"]])
    torch.testing.assert_close(network(batch), alone, atol=1e-5, rtol=1e-5)
    batch["class_sizes"] = [*batch["class_sizes"], 0, 0]
    torch.testing.assert_close(network(batch), alone, atol=1e-5, rtol=1e-5)


def test_the_order_of_a_sensors_pulses_does_not_matter():
    network, events = _network(), random_events(5)
    expected = network(batch_of(events))
    for event in events:
        event["sensors"] = [pulses[torch.randperm(len(pulses))] for pulses in event["sensors"]]
    torch.testing.assert_close(network(batch_of(events)), expected, atol=1e-5, rtol=1e-5)


def test_a_sensor_sees_its_own_pulses_alone():
    network, events = _network(), random_events(5)
    batch = batch_of(events)
    pulses = batch["pulses"].requires_grad_()
    owner = torch.arange(len(batch["sensors"])).repeat_interleave(batch["pulses_of_sensor"])
    answer = network(batch)
    for sensor in range(len(batch["sensors"])):
        (gradient,) = torch.autograd.grad(answer[sensor].square().sum(), pulses, retain_graph=True)
        assert torch.equal(gradient.abs().sum(1) > 0, owner == sensor)


def test_without_layers_the_embedded_pulses_are_pooled():
    network, events = _network("mean", layers=0), random_events(3)
    batch = batch_of(events)
    first = network.norm(network.embedding(events[0]["sensors"][0]).mean(0))
    torch.testing.assert_close(network(batch)[0], first)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"pool": "atention"}, "SensorPooling: pool='atention'.*Did you mean 'attention'"),
        ({"layers": -1}, "SensorTransformer: layers=-1"),
        ({"heads": 3}, "SensorPooling: heads=3 is not allowed. Allowed: a divisor of the width, 16"),
        ({"heads": 0}, "SensorPooling: heads=0"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(bad, message):
    with pytest.raises(ConfigurationError, match=message):
        SensorTransformer(**({"d_model": 16, "layers": 1, "heads": 4} | bad))
