"""Rows of ragged groups in padded places and back, by indices alone: no loop, and nothing that waits for a device."""

from __future__ import annotations

import torch
from torch import Tensor

from stablelit.families.neutrinos.event_batch import Batch


def ranks_in_group(counts: Tensor, group: Tensor) -> Tensor:
    """The place of each row within its group, from 0, ``(N,)``.

    Args:
        counts: ``(B,)``, rows of each group.
        group: ``(N,)``, the group of each row, rising.
    """
    begin = counts.cumsum(0) - counts
    return torch.arange(len(group), device=group.device) - begin[group]


def is_row(counts: Tensor, longest: int) -> Tensor:
    """Which of `longest` places of each group hold a row, ``(B, longest)`` bool."""
    return torch.arange(longest, device=counts.device) < counts[:, None]


def to_places(rows: Tensor, place: Tensor, n_groups: int, longest: int) -> Tensor:
    """Rows ``(N, F)`` at their flat places ``(N,)`` of ``(n_groups, longest, F)``; zeros elsewhere.

    Every row has a place of its own, so the backward pass is a gather, which needs no atomic additions.
    """
    flat = rows.new_zeros(n_groups * longest, rows.shape[-1]).index_copy(0, place, rows)
    return flat.view(n_groups, longest, -1)


def pulses_of_events(batch: Batch) -> tuple[Tensor, Tensor]:
    """The event of each pulse, ``(P,)``, and the pulses of each event that are in the batch, ``(B,)``."""
    counts = batch["pulses_of_sensor"]
    event = batch["event_of_sensor"].repeat_interleave(counts, output_size=len(batch["pulses"]))
    per_event = torch.zeros_like(batch["sensors_of_event"]).index_add(0, batch["event_of_sensor"], counts)
    return event, per_event
