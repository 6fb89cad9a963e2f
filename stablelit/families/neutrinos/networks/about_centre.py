"""Where a sensor or a pulse is as seen from the middle of its event's light."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stablelit.families.neutrinos.event_batch import (
    EVENT_CENTRE,
    METRES,
    NANOSECONDS,
    POSITION,
    PULSE_AUXILIARY,
    PULSE_CHARGE,
    PULSE_TIME,
    SENSOR_AUXILIARY,
    SENSOR_CHARGE,
    SENSOR_FIRST_TIME,
)
from stablelit.families.neutrinos.light_in_ice import GROUP_INDEX, SPEED_OF_LIGHT

N_ABOUT_CENTRE = 12
NEAR, LATEST = 0.02, 5.0
ATTENUATION = 60.0 / METRES
"""Over which light from a point loses a factor e in ice, scattered and absorbed, about."""
BRIGHTEST, LEVEL = 2.0, 1.2


def about_centre(place: Tensor, time: Tensor, charge: Tensor, weight: Tensor, events: Tensor, event: Tensor) -> Tensor:
    r"""Place, delay and brightness as seen from the centre of charge, ``(N, 12)``.

    With x relative to the centre, r its length and ``u = x / r``: u, x, log10 r; how late light from the centre is,
    ``t - n r / c_0``, less the weighted mean of it over the event; and

    .. math:: b = w (\log_{10} q + \frac{r}{\lambda} \log_{10} e + \log_{10} r + const), \qquad b u,

    how bright it is for its distance, within two powers of ten, and towards which side. A cascade's light tells its
    direction by which sides are brighter; to find that out of charges and places alone, a network needs thousands of
    steps in which it is no better than a guess. Ice is the same everywhere (in the toy, nearly so in truth), so the
    absolute place says little.

    Args:
        place: ``(N, 3)``, in a batch's units.
        time: ``(N,)``, likewise.
        charge: ``(N,)``, log10.
        weight: ``(N,)``, w, from 0 to 1.
        events: ``(B, 9)``, see `event_batch`.
        event: ``(N,)``, the event of each.
    """
    x = place - events[:, EVENT_CENTRE][event]
    # at the centre itself there is no side: the unit vector goes to zero there
    r = (x.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()
    side = x / (r + NEAR)
    late = time[:, None] - r * (GROUP_INDEX * METRES / (SPEED_OF_LIGHT * NANOSECONDS))
    weight = weight[:, None]
    sums = late.new_zeros(len(events), 2).index_add(0, event, torch.cat([weight, weight * late], dim=1))
    mean = sums[:, 1:] / sums[:, :1].clamp_min(1e-6)
    late = (late - mean[event]).clamp(-LATEST, LATEST)
    bright = charge[:, None] + r * (math.log10(math.e) / ATTENUATION) + (r + NEAR).log10() + LEVEL
    bright = weight * bright.clamp(-BRIGHTEST, BRIGHTEST)
    return torch.cat([side, x, (r + NEAR / 2).log10(), late, bright, bright * side], dim=1)


def sensors_about_centre(sensors: Tensor, events: Tensor, event: Tensor) -> Tensor:
    """`about_centre` of sensors ``(D, 10)``, by their first times, weighted by the share of pulses that are HLC."""
    time, charge, weight = sensors[:, SENSOR_FIRST_TIME], sensors[:, SENSOR_CHARGE], 1.0 - sensors[:, SENSOR_AUXILIARY]
    return about_centre(sensors[:, POSITION], time, charge, weight, events, event)


def pulses_about_centre(pulses: Tensor, events: Tensor, event: Tensor) -> Tensor:
    """`about_centre` of pulses ``(P, 7)``, by their own charges; those of HLC weigh."""
    time, charge, weight = pulses[:, PULSE_TIME], pulses[:, PULSE_CHARGE], 1.0 - pulses[:, PULSE_AUXILIARY]
    return about_centre(pulses[:, POSITION], time, charge, weight, events, event)
