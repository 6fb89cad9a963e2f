"""Symmetries of a detector in the ice: events turned about the vertical axis and mirrored, with their truth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stablelit.families.neutrinos.event_batch import EVENT_CENTRE, EVENT_LINE_FIT, POSITION, Batch

AUGMENTATIONS = ("rotate", "reflect")


def augmented(batch: Batch, names: Sequence[str]) -> Batch:
    """The batch with each event turned by an angle of its own, uniform in [0, 2 pi), and mirrored with probability 1/2.

    Light in the ice knows no azimuth; the sensors' grid does, and a hexagonal one looks the same after 60 degrees
    alone. Turned by any angle, sensors lie where none are: the network sees positions and not the grid.

    Args:
        batch: of `assemble`; it is not changed.
        names: of `AUGMENTATIONS`; none gives the batch back.
    """
    if not names:
        return batch
    n, device = len(batch["id"]), batch["pulses"].device
    mirror = 1.0 - 2.0 * torch.randint(2, (n,), device=device).float() if "reflect" in names else None
    angle = torch.rand(n, device=device) * (2 * math.pi) if "rotate" in names else torch.zeros(n, device=device)
    turn = torch.stack([angle.cos(), angle.sin()], dim=1)
    of_sensor = batch["event_of_sensor"]
    # the number of pulses is known from a shape, so the device need not be asked for it
    of_pulse = torch.repeat_interleave(of_sensor, batch["pulses_of_sensor"], output_size=len(batch["pulses"]))
    found = dict(batch)
    for name, columns, event in (
        ("pulses", (POSITION,), of_pulse),
        ("sensors", (POSITION,), of_sensor),
        ("events", (EVENT_LINE_FIT, EVENT_CENTRE), None),
        ("direction", (POSITION,), None),
    ):
        if name not in batch:
            continue
        values = batch[name].clone()
        for column in columns:
            x, y = column.start, column.start + 1
            turned = _turned(values[:, x], values[:, y], turn, mirror, event)
            values[:, x], values[:, y] = turned
        found[name] = values
    return found


def _turned(x: Tensor, y: Tensor, turn: Tensor, mirror: Tensor | None, event: Tensor | None) -> tuple[Tensor, Tensor]:
    cosine, sine = (turn if event is None else turn[event]).unbind(1)
    if mirror is not None:
        y = y * (mirror if event is None else mirror[event])
    return cosine * x - sine * y, sine * x + cosine * y
