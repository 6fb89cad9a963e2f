"""The pulses of sensors in slots by powers of two, and attention within them.

Most sensors of an event have one pulse. Padded to the busiest sensor of a batch, nearly all slots would be empty; so
sensors with 1, 2, 3-4, 5-8, ... pulses make one class each, padded to ``2^k``, and less than half of the slots is
empty whatever the sensors are. All slots of all classes lie in one list, ``(T, d)``, which linear layers and norms
take at once; attention alone goes class by class.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stablelit.families.neutrinos.event_batch import Batch
from stablelit.families.neutrinos.networks.padding import is_row
from stablelit.nn import SelfAttention


class SizeClass(NamedTuple):
    """`sensors` sensors of `slots` slots each; `there` ``(sensors, slots)`` are pulses."""

    sensors: int
    slots: int
    there: Tensor


def by_class(tokens: Tensor, classes: list[SizeClass]) -> list[Tensor]:
    """The list ``(T, F)`` as ``(sensors, slots, F)`` for each class."""
    # a split has one backward pass for all parts, where slices have one of the whole list's size each
    parts = tokens.split([one.sensors * one.slots for one in classes])
    return [part.unflatten(0, (one.sensors, one.slots)) for part, one in zip(parts, classes, strict=True)]


def size_classes(batch: Batch) -> tuple[Tensor, list[SizeClass]]:
    """The row of ``batch["pulses"]`` in each slot, ``(T,)``, and the classes that have sensors, in rising size.

    An empty slot repeats a pulse of its sensor, which no other sees.
    """
    order, counts = batch["class_order"], batch["pulses_of_sensor"]
    begin = (counts.cumsum(0) - counts)[order]
    counts = counts[order]
    rows, classes = [], []
    sensor = 0
    for k, n in enumerate(batch["class_sizes"]):
        if not n:
            continue
        mine, size = slice(sensor, sensor + n), 2**k
        place = torch.arange(size, device=counts.device)
        rows.append((begin[mine, None] + torch.minimum(place, counts[mine, None] - 1)).flatten())
        classes.append(SizeClass(n, size, is_row(counts[mine], size)))
        sensor += n
    return torch.cat(rows), classes


class SizeClassAttention(SelfAttention):
    """Attention among the pulses of each sensor.

    A sensor with one pulse has one weight, 1: its answer is the projected value, and neither queries, keys nor scores
    are computed.
    """

    def forward(self, tokens: Tensor, classes: list[SizeClass]) -> Tensor:  # type: ignore[override]
        """The answers ``(T, d)`` to the list of slots ``(T, d)``."""
        d = self.width
        singles = classes[0].sensors if classes[0].slots == 1 else 0
        first, rest = tokens.split([singles, len(tokens) - singles])
        answers = [self.part(first, 2 * d, 3 * d)] if singles else []
        more = classes[bool(singles) :]
        for one, projected in zip(more, by_class(self.query_key_value(rest), more), strict=True):
            answer = self.attend(*projected.chunk(3, dim=-1), one.there[:, None, None, :])
            answers.append(answer.flatten(0, 1))
        joined: Tensor = self.out(torch.cat(answers))
        return joined
