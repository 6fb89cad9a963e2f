"""Random events as nested lists, and batches of them by plain loops."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

Event = dict[str, Any]
"""``sensors``: for each a tensor of pulses ``(n, 7)``; ``summaries`` ``(D, 10)``; ``summary`` ``(9,)``."""

COUNTS = [1, 1, 1, 1, 1, 2, 3, 4, 5, 8, 9]


def random_events(n: int, seed: int = 0, most_sensors: int = 9, counts: list[int] | None = None) -> list[Event]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    events = []
    for _ in range(n):
        sensors = []
        for _ in range(int(torch.randint(1, most_sensors + 1, (1,), generator=generator))):
            choice = counts or COUNTS
            pulses = draw(choice[int(torch.randint(len(choice), (1,), generator=generator))], 7)
            pulses[:, :3] = pulses[0, :3].clone()
            pulses[:, 3] = pulses[:, 3].sort().values
            sensors.append(pulses)
        summaries = draw(len(sensors), 10)
        for row, pulses in enumerate(sensors):
            summaries[row, :4] = pulses[0, :4]
        events.append({"sensors": sensors, "summaries": summaries, "summary": draw(9)})
    return events


def batch_of(events: list[Event], floor: int = 0) -> dict[str, Any]:
    """The batch; with `floor`, sensors of few pulses are put into the class of ``2 ** floor`` slots."""
    sensors = [pulses for event in events for pulses in event["sensors"]]
    size_class = [max(floor, math.ceil(math.log2(len(pulses)))) for pulses in sensors]
    order = sorted(range(len(sensors)), key=lambda row: size_class[row])
    per_event = [len(event["sensors"]) for event in events]
    return {
        "pulses": torch.cat(sensors),
        "sensors": torch.cat([event["summaries"] for event in events]),
        "events": torch.stack([event["summary"] for event in events]),
        "pulses_of_sensor": torch.tensor([len(pulses) for pulses in sensors]),
        "sensors_of_event": torch.tensor(per_event),
        "event_of_sensor": torch.tensor([i for i, count in enumerate(per_event) for _ in range(count)]),
        "class_order": torch.tensor(order),
        "class_sizes": [size_class.count(k) for k in range(max(size_class) + 1)],
        "longest": max(per_event),
        "longest_pulses": max(sum(len(pulses) for pulses in event["sensors"]) for event in events),
    }


def sizes_only(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch on the device that has no values: whoever asks for one raises."""
    return {key: value.to("meta") if isinstance(value, Tensor) else value for key, value in batch.items()}


def randomised(network: torch.nn.Module, seed: int = 1) -> torch.nn.Module:
    """All parameters drawn anew, those too that begin at zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 1.2 / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 0.7
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return network
