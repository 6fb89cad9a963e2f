from __future__ import annotations

import pytest
import torch

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.neutrinos.networks import HierarchicalTransformer
from tests.families.neutrinos.networks.ragged_events import batch_of, random_events, randomised


def _size(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_postmortems_network_has_one_point_six_million_parameters():
    with torch.device("meta"):
        network = HierarchicalTransformer.preset("postmortem")
    d, blocks = 128, 8
    block = 4 * d * d + 4 * d + 8 * d * d + 5 * d + 4 * d
    around = 7 * d + d + 3 * d + 2 * d  # embedding of pulses, norms and token, norm of sensors
    assert _size(network) == blocks * block + around == 1_587_840
    assert round(_size(network) / 1e6, 1) == 1.6


@pytest.mark.parametrize(
    ("name", "width", "blocks"), [("wide256", 256, 8), ("wide512", 512, 8), ("deep8", 128, 16), ("deep12", 128, 24)]
)
def test_presets_are_as_wide_and_deep_as_they_say(name, width, blocks):
    with torch.device("meta"):
        network = HierarchicalTransformer.preset(name)
        small = HierarchicalTransformer.preset(name, d_model=64)
    assert network.width == width
    assert len(network.sensor_transformer.blocks) + len(network.event_transformer.blocks) == blocks
    assert _size(network) == pytest.approx(blocks * 12 * width**2, rel=0.05)
    assert small.width == 64


def test_a_sensors_summary_goes_around_its_pulses():
    events = random_events(4)
    batch = batch_of(events)
    changed = batch | {"sensors": batch["sensors"].clone()}
    changed["sensors"][:, 5] += 1.0
    with_summary = randomised(HierarchicalTransformer(16, 1, 2, 4))
    without = randomised(HierarchicalTransformer(16, 1, 2, 4, sensor_summary=False))
    assert not torch.allclose(with_summary(batch), with_summary(changed), atol=1e-3)
    assert torch.equal(without(batch), without(changed))
    # not through the sensors' vectors, which are of pulses alone
    assert torch.equal(with_summary.sensor_transformer(batch), with_summary.sensor_transformer(changed))


def test_tokens_are_counted():
    events = random_events(5)
    batch = batch_of(events)
    pulses = [len(one) for event in events for one in event["sensors"]]
    slots = sum(next(2**k for k in range(9) if 2**k >= count) for count in pulses)
    counts = HierarchicalTransformer(16, 1, 2, 4).token_counts(batch)
    assert counts == {
        "pulses": sum(pulses),
        "sensors": len(pulses),
        "sensor_slots": slots,
        "sensor_slots_padded": max(pulses) * len(pulses),
        "event_slots": 5 * (1 + max(len(event["sensors"]) for event in events)),
        "pulse_slots": 5 * (1 + max(sum(map(len, event["sensors"])) for event in events)),
    }
    assert all(type(count) is int for count in counts.values())


def test_sensors_too_busy_for_the_network_are_refused():
    events = random_events(4, counts=[9])
    HierarchicalTransformer(16, 1, 2, 4, max_pulses_per_sensor=9)(batch_of(events))
    with pytest.raises(DataError, match="more than 8 pulses, above max_pulses_per_sensor=8"):
        HierarchicalTransformer(16, 1, 2, 4, max_pulses_per_sensor=8)(batch_of(events))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"d_model": 0}, "width=0"),
        ({"heads": 7}, "heads=7 is not allowed. Allowed: a divisor of the width, 16"),
        ({"sensor_layers": -1}, "HierarchicalTransformer: sensor_layers=-1"),
        ({"event_layers": 0}, "HierarchicalTransformer: event_layers=0"),
        ({"sensor_pool": "sum"}, "pool='sum' is not allowed. Allowed: attention, mean, max"),
        ({"sensor_summary": "no"}, "HierarchicalTransformer: sensor_summary='no'"),
        ({"max_pulses_per_sensor": 0}, "HierarchicalTransformer: max_pulses_per_sensor=0"),
        ({"dropout": 2}, "dropout=2"),
        ({"feedforward": 0}, "feedforward=0"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(bad, message):
    with pytest.raises(ConfigurationError, match=message):
        HierarchicalTransformer(**({"d_model": 16, "heads": 4, "sensor_layers": 1, "event_layers": 2} | bad))


def test_an_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(ConfigurationError, match="Did you mean 'wide512' or"):
        HierarchicalTransformer.preset("wide521")
