"""An event that is turned or mirrored is the same event seen from elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stablelit.families.neutrinos.angles import angle_between
from stablelit.families.neutrinos.augmentation import AUGMENTATIONS, augmented
from stablelit.families.neutrinos.event_batch import EVENT_CENTRE, EVENT_LINE_FIT, POSITION, assemble

N_EVENTS = 12
VECTORS = {
    "pulses": (POSITION,),
    "sensors": (POSITION,),
    "events": (EVENT_LINE_FIT, EVENT_CENTRE),
    "direction": (POSITION,),
}


@pytest.fixture
def batch(random_events, detector):
    return assemble(random_events(N_EVENTS), np.arange(N_EVENTS), *detector)


@pytest.fixture(params=["rotate", "reflect", "both"])
def names(request) -> tuple[str, ...]:
    return AUGMENTATIONS if request.param == "both" else (request.param,)


def event_of_pulse(batch) -> torch.Tensor:
    return batch["event_of_sensor"].repeat_interleave(batch["pulses_of_sensor"])


def map_of(batch, turned) -> torch.Tensor:
    """The matrix ``(B, 2, 2)`` that has moved x and y of each event, from three vectors that belong to it."""
    before, after = (
        torch.stack([b["direction"][:, :2], b["events"][:, EVENT_LINE_FIT][:, :2], b["events"][:, EVENT_CENTRE][:, :2]])
        .double()
        .permute(1, 0, 2)
        for b in (batch, turned)
    )
    return torch.linalg.lstsq(before, after).solution.mT


def test_every_vector_of_an_event_is_moved_by_one_map(batch, names):
    torch.manual_seed(0)
    turned = augmented(batch, names)
    matrix = map_of(batch, turned).float()
    events = {
        "pulses": event_of_pulse(batch),
        "sensors": batch["event_of_sensor"],
        "events": torch.arange(N_EVENTS),
        "direction": torch.arange(N_EVENTS),
    }
    for name, places in VECTORS.items():
        for place in places:
            before, after = batch[name][:, place], turned[name][:, place]
            moved = torch.einsum("nij,nj->ni", matrix[events[name]], before[:, :2])
            torch.testing.assert_close(after[:, :2], moved, atol=1e-5, rtol=1e-4)
            assert torch.equal(after[:, 2], before[:, 2])


def test_the_map_is_a_rotation_or_a_reflection(batch, names):
    torch.manual_seed(0)
    matrix = map_of(batch, augmented(batch, names))
    unit = torch.eye(2, dtype=torch.float64).expand_as(matrix)
    torch.testing.assert_close(matrix @ matrix.mT, unit, atol=1e-5, rtol=0)
    determinant = torch.linalg.det(matrix).round()
    # about the vertical axis, nothing is mirrored; half of the events are where that is asked for
    assert set(determinant.tolist()) == ({1.0} if names == ("rotate",) else {1.0, -1.0})
    if names == ("reflect",):
        mirror = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
        torch.testing.assert_close(matrix[determinant < 0], mirror.expand(int((determinant < 0).sum()), 2, 2))
        torch.testing.assert_close(matrix[determinant > 0], unit[: int((determinant > 0).sum())])


def test_events_are_turned_by_angles_of_their_own_that_cover_the_circle(batch):
    torch.manual_seed(0)
    angles = []
    for _ in range(40):
        matrix = map_of(batch, augmented(batch, ["rotate"]))
        angles.append(torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0]))
    angle = torch.cat(angles)
    assert len(angle.unique()) == len(angle)
    counts = torch.histc(angle, 8, -math.pi, math.pi)
    # 60 expected in each, with a standard deviation of 7
    assert counts.min() > 30
    assert counts.max() < 95


def test_what_a_physicist_measures_does_not_change(batch, names):
    torch.manual_seed(1)
    turned = augmented(batch, names)

    def distances(b):
        of_one = event_of_pulse(b) == 3
        place = b["pulses"][of_one][:, POSITION].double()
        return torch.cdist(place, place, compute_mode="donot_use_mm_for_euclid_dist")

    torch.testing.assert_close(distances(turned), distances(batch), atol=1e-6, rtol=1e-5)
    angles = [angle_between(b["direction"], b["events"][:, EVENT_LINE_FIT]) for b in (batch, turned)]
    torch.testing.assert_close(*angles, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(turned["direction"].norm(dim=1), torch.ones(N_EVENTS))


def test_all_else_is_left_and_the_batch_given_is_not_changed(batch, names):
    copy = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    turned = augmented(batch, names)
    assert set(turned) == set(batch)
    for name, value in batch.items():
        if not isinstance(value, torch.Tensor):
            assert turned[name] == value
            continue
        assert torch.equal(value, copy[name])
        columns = torch.ones(value.shape[-1], dtype=torch.bool)
        for place in VECTORS.get(name, ()):
            columns[place] = False
        kept = (value, turned[name]) if name not in VECTORS else (value[:, columns], turned[name][:, columns])
        assert torch.equal(*kept)


def test_events_without_a_truth_are_turned_too(batch):
    del batch["direction"]
    torch.manual_seed(0)
    turned = augmented(batch, ["rotate"])
    assert "direction" not in turned
    assert not torch.equal(turned["pulses"], batch["pulses"])


def test_nothing_asked_for_is_nothing_done(batch):
    assert augmented(batch, ()) is batch
