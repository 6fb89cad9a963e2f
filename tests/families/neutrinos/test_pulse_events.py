from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.neutrinos.pulse_events import PULSE_COLUMNS, PulseEvents

from .conftest import N_SENSORS


def test_events_are_taken_with_their_pulses_in_any_order(random_events) -> None:
    events = random_events()
    chosen = [7, 0, 7, 3]
    taken = events.take(chosen)
    assert taken.event_id.tolist() == events.event_id[chosen].tolist()
    for name in PULSE_COLUMNS:
        column = getattr(events, name)
        expected = np.concatenate([column[events.begin[i] : events.begin[i + 1]] for i in chosen])
        assert np.array_equal(getattr(taken, name), expected)
    assert np.diff(taken.begin).tolist() == [events.pulse_count[i] for i in chosen]


def test_taking_no_event_gives_none(random_events) -> None:
    assert len(random_events().take([])) == 0


def test_parts_one_after_the_other_are_the_whole(random_events) -> None:
    events = random_events()
    again = PulseEvents.concatenate([events.take(range(5)), events.take(range(5, len(events)))])
    for name in ("event_id", "begin", "azimuth", "zenith", *PULSE_COLUMNS):
        assert np.array_equal(getattr(again, name), getattr(events, name))
    assert again.energy is None


def test_a_column_that_a_part_lacks_is_left_out(random_events) -> None:
    events = random_events()
    assert PulseEvents.concatenate([events, events.without_truth()]).azimuth is None


def test_directions_are_unit_vectors_towards_the_source(random_events) -> None:
    events = replace(random_events(1), azimuth=np.array([np.pi / 2]), zenith=np.array([np.pi / 4]))
    assert events.direction == pytest.approx(np.array([[0.0, 0.5**0.5, 0.5**0.5]]), abs=1e-7)
    assert events.without_truth().direction is None


def test_good_events_pass(random_events) -> None:
    events = random_events()
    assert events.validate(N_SENSORS, "here") is events


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("sensor", N_SENSORS, "geometry of another detector"),
        ("charge", 0.0, "charge is 0.0"),
        ("charge", np.nan, "charge is nan"),
        ("time", np.inf, "time is inf"),
    ],
)
def test_a_bad_pulse_is_named_with_its_event(random_events, column: str, value: float, told: str) -> None:
    events = random_events()
    values = getattr(events, column).copy()
    values[events.begin[4] + (events.pulse_count[4] - 1)] = value
    with pytest.raises(DataError, match=told) as caught:
        replace(events, **{column: values}).validate(N_SENSORS, "file.parquet")
    assert f"event {events.event_id[4]}, pulse {events.pulse_count[4] - 1}" in str(caught.value)
    assert str(caught.value).startswith("file.parquet")


@pytest.mark.parametrize(("column", "value"), [("azimuth", -0.1), ("azimuth", 7.0), ("zenith", np.nan)])
def test_an_angle_out_of_range_is_named_with_its_event(random_events, column: str, value: float) -> None:
    events = random_events()
    values = getattr(events, column).copy()
    values[2] = value
    with pytest.raises(DataError, match=f"event {events.event_id[2]}: {column}"):
        replace(events, **{column: values}).validate(N_SENSORS, "file.parquet")


def test_an_event_that_is_there_twice_is_refused(random_events) -> None:
    events = random_events()
    ids = events.event_id.copy()
    ids[5] = ids[1]
    with pytest.raises(DataError, match=rf"event_id {ids[1]} is there 2 times \(events 1 and 5"):
        replace(events, event_id=ids).validate(N_SENSORS, "file.parquet")
