from __future__ import annotations

import torch

from stablelit.families.neutrinos.networks.padding import is_row, pulses_of_events, ranks_in_group, to_places
from tests.families.neutrinos.networks.ragged_events import batch_of, random_events


def test_ranks_count_from_zero_in_each_group_and_skip_empty_groups():
    counts = torch.tensor([2, 0, 3, 1])
    group = torch.tensor([0, 0, 2, 2, 2, 3])
    assert ranks_in_group(counts, group).tolist() == [0, 1, 0, 1, 2, 0]


def test_places_hold_their_rows_and_zeros_and_give_their_gradients_back():
    rows = torch.randn(4, 2, requires_grad=True)
    padded = to_places(rows, torch.tensor([0, 3, 4, 5]), 2, 3)
    assert torch.equal(padded[0, 0], rows[0])
    assert torch.equal(padded[1], rows[1:])
    assert not padded[0, 1:].any()
    weight = torch.randn(2, 3, 2)
    (gradient,) = torch.autograd.grad((padded * weight).sum(), rows)
    assert torch.equal(gradient, torch.stack([weight[0, 0], *weight[1]]))


def test_rows_are_where_counts_say():
    assert is_row(torch.tensor([0, 2, 3]), 3).int().tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_pulses_know_their_events():
    events = random_events(5, seed=2)
    per_event = [sum(map(len, event["sensors"])) for event in events]
    event, counts = pulses_of_events(batch_of(events))
    assert counts.tolist() == per_event
    assert event.tolist() == [i for i, count in enumerate(per_event) for _ in range(count)]
