from __future__ import annotations

import csv
import math

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.neutrinos import submission
from stablelit.families.neutrinos.angles import azimuth_zenith_of
from stablelit.families.neutrinos.submission import write_submission


@pytest.fixture
def predicted():
    directions = np.random.default_rng(0).normal(size=(50, 3))
    return np.random.default_rng(1).permutation(10_000)[:50], *azimuth_zenith_of(directions)


def test_a_csv_file_has_the_competition_s_header_and_every_digit(predicted, tmp_path, monkeypatch):
    monkeypatch.setattr(submission, "_LINES", 7)
    path = write_submission(tmp_path / "new" / "submission.csv", *predicted)
    text = path.read_text()
    assert text.startswith("event_id,azimuth,zenith\n")
    assert text.count("\n") == 51
    rows = list(csv.DictReader(text.splitlines()))
    for name, column in zip(("event_id", "azimuth", "zenith"), predicted, strict=True):
        assert [float(row[name]) for row in rows] == column.tolist()
    assert rows[0]["event_id"] == str(predicted[0][0])


def test_a_parquet_file_has_the_same_columns(predicted, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is an optional dependency: stablelit[parquet]")
    table = pq.read_table(write_submission(tmp_path / "submission.parquet", *predicted))
    assert [str(field.type) for field in table.schema] == ["int64", "double", "double"]
    for name, column in zip(("event_id", "azimuth", "zenith"), predicted, strict=True):
        assert table[name].to_pylist() == column.tolist()


def test_rows_take_the_order_of_the_meta_file(predicted, tmp_path):
    expected = np.sort(predicted[0])[::-1]
    path = write_submission(tmp_path / "a.csv", *predicted, expected=expected)
    rows = np.loadtxt(path, delimiter=",", skiprows=1)
    by_id = {event: (a, z) for event, a, z in zip(*predicted, strict=True)}
    assert rows[:, 0].tolist() == expected.tolist()
    assert [tuple(row[1:]) for row in rows] == [by_id[event] for event in expected]


def test_events_that_are_missing_or_too_many_are_named(predicted, tmp_path):
    event_id = predicted[0]
    with pytest.raises(DataError, match="2 of 52 events of the meta file have no prediction.*event_id 20001"):
        write_submission(tmp_path / "a.csv", *predicted, expected=np.append(event_id, [20_001, 20_002]))
    with pytest.raises(DataError, match=f"50 predictions for 49 events: event_id {event_id[7]} is not in the meta"):
        write_submission(tmp_path / "a.csv", *predicted, expected=np.delete(event_id, 7))
    with pytest.raises(DataError, match="the meta file has an event twice"):
        write_submission(tmp_path / "a.csv", *predicted, expected=np.append(event_id, event_id[0]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (1, math.nan, r"row 3 \(event_id \d+\): azimuth=nan \(1 rows.*\[0, 2 pi\)"),
        (1, 2 * math.pi, r"azimuth=6.28"),
        (1, float(np.float32(2 * math.pi)), r"azimuth=6.28"),
        (1, -1e-9, r"azimuth=-1e-09"),
        (2, math.pi + 1e-9, r"zenith=3.14.*\[0, pi\]"),
        (2, math.inf, r"zenith=inf"),
    ],
)
def test_an_angle_out_of_its_range_is_named_with_its_event(predicted, tmp_path, column, value, message):
    predicted[column][3] = value
    with pytest.raises(DataError, match=message):
        write_submission(tmp_path / "a.csv", *predicted)


def test_angles_at_the_ends_of_their_ranges_are_taken_in_single_precision_too(tmp_path):
    corners = np.array([[1, 0, 0], [1, -1e-9, 0], [0, 0, -1], [0, 0, 1], [-1, -1e-12, 1e-9]], dtype=np.float32)
    write_submission(tmp_path / "a.csv", np.arange(5), *azimuth_zenith_of(corners))


def test_ids_and_shapes_that_cannot_be_are_refused(predicted, tmp_path):
    event_id, azimuth, zenith = predicted
    twice = event_id.copy()
    twice[[4, 9]] = twice[2]
    with pytest.raises(DataError, match=rf"event_id {twice[2]} is there 3 times \(1 events more"):
        write_submission(tmp_path / "a.csv", twice, azimuth, zenith)
    with pytest.raises(DataError, match="event_id is float64"):
        write_submission(tmp_path / "a.csv", event_id.astype(float), azimuth, zenith)
    for wrong in (azimuth[:-1], azimuth[:, None], np.float64(1.0)):
        with pytest.raises(DataError, match="Allowed: one dimension, the same length"):
            write_submission(tmp_path / "a.csv", event_id, wrong, zenith)
    with pytest.raises(DataError, match="one event at least"):
        write_submission(tmp_path / "a.csv", event_id[:0], azimuth[:0], zenith[:0])
    with pytest.raises(ConfigurationError, match=r"ends in '.txt'. Allowed: .csv and .parquet"):
        write_submission(tmp_path / "a.txt", *predicted)


def test_a_file_that_is_there_survives_a_writing_that_fails(predicted, tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("the last one")
    monkeypatch.setattr(submission, "zip", lambda *a, **k: 1 / 0, raising=False)
    with pytest.raises(ZeroDivisionError):
        submission._write_csv(path, *predicted)
    assert path.read_text() == "the last one"
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
