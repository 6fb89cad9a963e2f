"""How many tokens and floating-point operations a batch costs, from its shapes."""

from __future__ import annotations

from stablelit.families.neutrinos.event_batch import N_EVENT_FEATURES, Batch
from stablelit.families.neutrinos.networks.event_transformer import EventTransformer
from stablelit.families.neutrinos.networks.sensor_transformer import SensorTransformer

BACKWARD_AND_FORWARD = 3
"""A product of matrices has two of its size in its backward pass."""


def token_counts(batch: Batch) -> dict[str, int]:
    """Tokens and the slots they are computed in.

    ``pulses`` and ``sensors`` are real; ``sensor_slots`` are those of the lower level by size classes,
    ``sensor_slots_padded`` what they would be with each sensor padded to the batch's busiest, ``event_slots`` those of
    the upper level, with a summary token for each event, and ``pulse_slots`` those of a flat network.

    The busiest sensor's pulses are read from the device, so this is for reports rather than for every step.
    """
    n_events, n_sensors = len(batch["events"]), len(batch["sensors"])
    busiest = int(batch["pulses_of_sensor"].max()) if n_sensors else 0
    return {
        "pulses": len(batch["pulses"]),
        "sensors": n_sensors,
        "sensor_slots": sum(_class_slots(batch)),
        "sensor_slots_padded": n_sensors * busiest,
        "event_slots": n_events * (batch["longest"] + 1),
        "pulse_slots": n_events * (batch["longest_pulses"] + 1),
    }


def sensor_transformer_flops(network: SensorTransformer, batch: Batch) -> int:
    """Operations of the lower level's forward pass: two for each multiplication in its matrices and scores."""
    d = network.norm.normalized_shape[0]
    slots = _class_slots(batch)
    total, singles = sum(slots), slots[0] if slots else 0
    pairs = sum(count * 2**k for k, count in enumerate(slots) if k)
    middle = sum(block.feedforward[0].out_features for block in network.blocks)
    blocks = len(network.blocks)
    flops = 2 * total * d * network.embedding.n_inputs
    flops += blocks * 2 * d * d * (2 * total + 2 * (total - singles)) + blocks * 4 * pairs * d
    flops += 4 * total * d * middle
    if network.pooling.score is not None:
        flops += 2 * (total - singles) * d * network.pooling.heads
    return flops


def event_transformer_flops(network: EventTransformer, n_events: int, longest: int) -> int:
    """Operations of the upper level's forward pass, in padded places: two for each multiplication, as above."""
    d, places = network.width, longest + 1
    tokens, pairs = n_events * places, n_events * places**2
    middles = [block.feedforward[0].out_features for block in network.blocks]
    full = len(network.blocks) - 1
    flops = 2 * n_events * N_EVENT_FEATURES * d if network.event_embedding is not None else 0
    flops += full * (8 * tokens * d * d + 4 * pairs * d) + 4 * tokens * d * sum(middles[:-1])
    # the last block: keys and values of all, the rest of one place an event
    flops += 4 * tokens * d * d + 4 * n_events * d * d + 4 * tokens * d + 4 * n_events * d * middles[-1]
    if network.relative_bias is not None:
        layers, heads, planes = network.relative_bias.weight.shape
        flops += 2 * pairs * layers * heads * (planes + 1)
    return flops


def _class_slots(batch: Batch) -> list[int]:
    return [count * 2**k for k, count in enumerate(batch["class_sizes"])]
