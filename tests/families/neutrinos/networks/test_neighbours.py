from __future__ import annotations

import pytest
import torch

from stablelit.families.neutrinos.networks import neighbours
from stablelit.families.neutrinos.networks.neighbours import nearest_neighbours


def _by_loops(points: torch.Tensor, event: list[int], k: int) -> list[list[int]]:
    """All pairs of an event, sorted by distance and then by row."""
    answer = []
    for i in range(len(points)):
        others = [j for j in range(len(points)) if j != i and event[j] == event[i]]
        others.sort(key=lambda j: (float((points[i] - points[j]).double().norm()), j))
        answer.append(others[:k])
    return answer


@pytest.mark.parametrize("k", [1, 3, 8, 30])
@pytest.mark.parametrize("pairs_at_once", [2**24, 100], ids=["at once", "in chunks"])
def test_neighbours_are_the_nearest_of_the_event(k, pairs_at_once, monkeypatch):
    monkeypatch.setattr(neighbours, "PAIRS_AT_ONCE", pairs_at_once)
    torch.manual_seed(0)
    counts = [5, 1, 12, 2, 9]
    event = [i for i, count in enumerate(counts) for _ in range(count)]
    # whole numbers: many distances are equal, and some points the same
    points = torch.randint(0, 4, (len(event), 3)).float()
    rows, valid = nearest_neighbours(points, torch.tensor(event), torch.tensor(counts), max(counts), k)
    assert rows.shape == valid.shape == (len(event), k)
    found = [row[there].tolist() for row, there in zip(rows, valid, strict=True)]
    assert found == _by_loops(points, event, k)
    own = torch.arange(len(event))[:, None].expand_as(rows)
    assert torch.equal(rows[~valid], own[~valid])
