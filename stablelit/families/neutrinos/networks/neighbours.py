"""The nearest pulses of each pulse within its event, for all events at once."""

from __future__ import annotations

import torch
from torch import Tensor

from stablelit.families.neutrinos.networks.padding import is_row, ranks_in_group, to_places

PAIRS_AT_ONCE = 2**24
"""Distances that are in memory at a time: 64 MiB in float32, 128 MiB as sorting keys."""


@torch.no_grad()
def nearest_neighbours(
    coordinates: Tensor, event: Tensor, counts: Tensor, longest: int, n_neighbours: int
) -> tuple[Tensor, Tensor]:
    """The k nearest others of each row in its event by Euclidean distance, nearest first.

    Of equal distances, common between pulses of one sensor and sensors of one string, the earlier row is nearer: the
    graph is the same in whatever batch the event comes.

    Args:
        coordinates: ``(N, C)``.
        event: ``(N,)``, the event of each row, rising.
        counts: ``(B,)``, rows of each event.
        longest: the most rows of an event.
        n_neighbours: k.

    Returns:
        Rows ``(N, k)``, and which of them are there ``(N, k)`` bool: an event of n rows has n - 1 neighbours for each.
        Those that are not are the row itself.
    """
    n, rank = len(counts), ranks_in_group(counts, event)
    place = event * longest + rank
    padded = to_places(coordinates.float(), place, n, longest)
    there = is_row(counts, longest)
    k = min(n_neighbours, longest)
    step = max(1, PAIRS_AT_ONCE // max(longest * longest, 1))
    # chunks by shape alone, so that memory is bounded and nothing is read from the device
    chunks = [_of_events(padded[i : i + step], there[i : i + step], k) for i in range(0, n, step)]
    neighbour = torch.cat(chunks).flatten(0, 1)[place]
    # the row itself is its last choice, after all others of its event
    valid = torch.arange(k, device=counts.device) < (counts[event] - 1)[:, None]
    own = torch.arange(len(event), device=event.device)[:, None]
    rows = torch.where(valid, own - rank[:, None] + neighbour, own)
    if k < n_neighbours:
        missing = n_neighbours - k
        rows = torch.cat([rows, own.expand(-1, missing)], dim=1)
        valid = torch.cat([valid, valid.new_zeros(len(event), missing)], dim=1)
    return rows, valid


def _of_events(padded: Tensor, there: Tensor, k: int) -> Tensor:
    """Ranks of the nearest of each place, ``(b, L, k)``."""
    longest = padded.shape[1]
    distance = torch.cdist(padded, padded, compute_mode="donot_use_mm_for_euclid_dist")
    itself = torch.eye(longest, dtype=torch.bool, device=padded.device)
    distance = distance.masked_fill(itself | ~there[:, None, :], torch.inf)
    # bits of floats that are not negative have the order of their values; below them the rank, to decide between equals
    key = distance.view(torch.int32).long() * 2**32 + torch.arange(longest, device=padded.device)
    return key.topk(k, dim=-1, largest=False).indices
