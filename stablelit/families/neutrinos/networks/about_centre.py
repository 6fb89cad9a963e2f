"""Where a sensor or a pulse is as seen from the middle of its event's light."""

from __future__ import annotations

import torch
from torch import Tensor

from stablelit.families.neutrinos.event_batch import (
    EVENT_CENTRE,
    METRES,
    NANOSECONDS,
    POSITION,
    PULSE_AUXILIARY,
    PULSE_TIME,
    SENSOR_AUXILIARY,
    SENSOR_FIRST_TIME,
)
from stablelit.families.neutrinos.networks.event_transformer import SPEED_OF_LIGHT

N_ABOUT_CENTRE = 8
GROUP_INDEX = 1.36
"""Of ice, for the speed at which light travels in it."""
NEAR, LATEST = 0.02, 5.0


def about_centre(place: Tensor, time: Tensor, weight: Tensor, events: Tensor, event: Tensor) -> Tensor:
    r"""With x relative to the centre of charge c and r its length: ``(x / r, x, log10 r, t - n r / c_0)``, ``(N, 8)``.

    The last is how late light from the centre would be, less the weighted mean of it over the event. A cascade's light
    tells its direction by which side is brighter, for which a network has to know sides; ice is the same everywhere (in
    the toy, nearly so in truth), so the absolute place says little.

    Args:
        place: ``(N, 3)``, in a batch's units.
        time: ``(N,)``, likewise.
        weight: ``(N,)``, at least 0, for the mean of the last column.
        events: ``(B, 9)``, see `event_batch`.
        event: ``(N,)``, the event of each.
    """
    x = place - events[:, EVENT_CENTRE][event]
    # at the centre itself there is no side: the unit vector goes to zero there
    r = (x.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()
    late = time[:, None] - r * (GROUP_INDEX * METRES / (SPEED_OF_LIGHT * NANOSECONDS))
    weight = weight[:, None]
    sums = late.new_zeros(len(events), 2).index_add(0, event, torch.cat([weight, weight * late], dim=1))
    mean = sums[:, 1:] / sums[:, :1].clamp_min(1e-6)
    late = (late - mean[event]).clamp(-LATEST, LATEST)
    return torch.cat([x / (r + NEAR), x, (r + NEAR / 2).log10(), late], dim=1)


def sensors_about_centre(sensors: Tensor, events: Tensor, event: Tensor) -> Tensor:
    """`about_centre` of sensors ``(D, 10)``, by their first times, weighted by the share of pulses that are HLC."""
    weight = 1.0 - sensors[:, SENSOR_AUXILIARY]
    return about_centre(sensors[:, POSITION], sensors[:, SENSOR_FIRST_TIME], weight, events, event)


def pulses_about_centre(pulses: Tensor, events: Tensor, event: Tensor) -> Tensor:
    """`about_centre` of pulses ``(P, 7)``; those of HLC weigh."""
    weight = 1.0 - pulses[:, PULSE_AUXILIARY]
    return about_centre(pulses[:, POSITION], pulses[:, PULSE_TIME], weight, events, event)
