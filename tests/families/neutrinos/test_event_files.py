from __future__ import annotations

import json

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError, MissingDependencyError
from stablelit.families.neutrinos import event_files
from stablelit.families.neutrinos.event_files import write_kaggle_files
from stablelit.families.neutrinos.generator import generate_events, write_event_files
from stablelit.families.neutrinos.geometry import DetectorGeometry, hexagonal_detector, read_geometry

pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is an optional dependency: stablelit[parquet]")
GEOMETRY = hexagonal_detector()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "events"
    counts = write_event_files(folder, 100, seed=4, geometry=GEOMETRY, events_per_file=40)
    return folder, counts


def columns(path):
    return {name: column.to_numpy() for name, column in zip(*_table(path), strict=True)}


def _table(path):
    table = pq.read_table(path)
    return table.column_names, table.columns


def test_the_files_have_the_columns_and_types_of_the_competition(folder):
    folder, counts = folder
    assert sorted(p.name for p in folder.iterdir()) == ["sensor_geometry.csv", "train", "train_meta.parquet"]
    assert sorted(p.name for p in (folder / "train").iterdir()) == [f"batch_{i}.parquet" for i in (1, 2, 3)]
    schema = pq.read_schema(folder / "train" / "batch_1.parquet")
    kinds = {"sensor_id": "int16", "time": "int64", "charge": "double", "auxiliary": "bool", "event_id": "int64"}
    assert {field.name: str(field.type) for field in schema} == kinds
    meta = pq.read_schema(folder / "train_meta.parquet")
    assert meta.names[:6] == ["batch_id", "event_id", "first_pulse_index", "last_pulse_index", "azimuth", "zenith"]
    assert meta.names[6:] == ["energy", "is_track"]
    assert counts["events"] == 100
    assert counts["files"] == 3


def test_pandas_finds_the_index(folder):
    path = folder[0] / "train" / "batch_1.parquet"
    told = json.loads(pq.read_schema(path).metadata[b"pandas"])
    assert told["index_columns"] == ["event_id"]
    assert [c["name"] for c in told["columns"]] == pq.read_schema(path).names
    pandas = pytest.importorskip(
        "pandas", reason="pandas, which the competition's files were written with, is no dependency"
    )
    frame = pandas.read_parquet(path)
    assert frame.index.name == "event_id"
    assert list(frame.columns) == ["sensor_id", "time", "charge", "auxiliary"]


def test_what_is_read_again_is_what_was_generated(folder):
    folder, counts = folder
    events = generate_events(100, GEOMETRY, seed=4)
    meta = columns(folder / "train_meta.parquet")
    assert meta["batch_id"].tolist() == [1] * 40 + [2] * 40 + [3] * 20
    for name in ("event_id", "azimuth", "zenith", "energy", "is_track"):
        assert np.array_equal(meta[name], getattr(events, name))
    pulses = [columns(folder / "train" / f"batch_{i}.parquet") for i in (1, 2, 3)]
    for name, of_events in (("time", events.time), ("sensor_id", events.sensor), ("auxiliary", events.auxiliary)):
        assert np.array_equal(np.concatenate([p[name] for p in pulses]), of_events)
    assert np.array_equal(np.concatenate([p["charge"] for p in pulses]).astype(np.float32), events.charge)
    assert counts["pulses"] == len(events.time)
    # first and last row are both the event's, and no row is left over
    for i in range(100):
        of_file = pulses[meta["batch_id"][i] - 1]["event_id"]
        rows = np.flatnonzero(of_file == events.event_id[i])
        assert (rows[0], rows[-1]) == (meta["first_pulse_index"][i], meta["last_pulse_index"][i])
        assert len(rows) == rows[-1] - rows[0] + 1 == events.pulse_count[i]
    assert np.array_equal(read_geometry(folder / "sensor_geometry.csv").position, GEOMETRY.position)


def test_row_groups_hold_whole_events_and_not_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(event_files, "EVENTS_PER_ROW_GROUP", 7)
    write_event_files(tmp_path / "events", 30, geometry=GEOMETRY, events_per_file=20)
    groups = []
    for i in (1, 2):
        with pq.ParquetFile(tmp_path / "events" / "train" / f"batch_{i}.parquet") as file:
            groups.append([np.unique(file.read_row_group(g)["event_id"]).tolist() for g in range(file.num_row_groups)])
    numbers = list(range(30))
    assert groups == [[numbers[:7], numbers[7:14], numbers[14:20]], [numbers[20:27], numbers[27:]]]
    meta = columns(tmp_path / "events" / "train_meta.parquet")
    for batch_id in (1, 2):
        of_file = meta["batch_id"] == batch_id
        first, last = meta["first_pulse_index"][of_file], meta["last_pulse_index"][of_file]
        assert first[0] == 0
        assert np.array_equal(first[1:], last[:-1] + 1)


def test_one_seed_gives_the_same_bytes(tmp_path, folder):
    write_event_files(tmp_path / "again", 100, seed=4, geometry=GEOMETRY, events_per_file=40)
    for path in sorted(folder[0].rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(folder[0])).read_bytes()


def test_a_run_that_is_broken_off_leaves_nothing(tmp_path):
    def breaks():
        yield generate_events(5, GEOMETRY)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_kaggle_files(tmp_path / "events", breaks(), 10, GEOMETRY, events_per_file=5)
    assert not list(tmp_path.iterdir())


def test_while_it_is_written_the_folder_is_not_there(tmp_path):
    seen = []

    def watched():
        for i in range(2):
            seen.append((tmp_path / "events").exists())
            yield generate_events(5, GEOMETRY, seed=i)

    write_kaggle_files(tmp_path / "events", watched(), 10, GEOMETRY, events_per_file=5)
    assert seen == [False, False]
    assert [p.name for p in tmp_path.iterdir()] == ["events"]


def test_a_folder_that_is_there_is_not_written_over(tmp_path):
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="is there already"):
        write_event_files(tmp_path / "events", 5, geometry=GEOMETRY)
    assert (tmp_path / "events" / "mine.txt").read_text() == "mine"
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="is there already"):
        write_event_files(tmp_path / "file", 5, geometry=GEOMETRY)


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "events").mkdir()
    write_event_files(tmp_path / "events", 5, geometry=GEOMETRY)
    assert (tmp_path / "events" / "train" / "batch_1.parquet").is_file()


def test_a_stream_with_too_few_events_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="n_events=6"):
        write_kaggle_files(tmp_path / "events", [generate_events(5, GEOMETRY)], 6, GEOMETRY, events_per_file=5)
    assert not list(tmp_path.iterdir())


def test_sensors_that_the_detector_has_not_are_refused(tmp_path):
    small = DetectorGeometry.of_positions(np.zeros((100, 3)))
    with pytest.raises(DataError, match="sensor is"):
        write_kaggle_files(tmp_path / "events", [generate_events(5, GEOMETRY)], 5, small, events_per_file=5)
    assert not list(tmp_path.iterdir())


def test_events_without_truth_have_a_meta_table_without_it(tmp_path):
    events = generate_events(5, GEOMETRY).without_truth()
    write_kaggle_files(tmp_path / "events", [events], 5, GEOMETRY, events_per_file=5)
    names = pq.read_schema(tmp_path / "events" / "train_meta.parquet").names
    assert names == ["batch_id", "event_id", "first_pulse_index", "last_pulse_index"]


def test_sensors_beyond_16_bits_have_wider_numbers(tmp_path):
    big = DetectorGeometry.of_positions(np.zeros((40_000, 3)))
    write_kaggle_files(tmp_path / "events", [generate_events(5, GEOMETRY)], 5, big, events_per_file=5)
    schema = pq.read_schema(tmp_path / "events" / "train" / "batch_1.parquet")
    assert str(schema.field("sensor_id").type) == "int32"


def test_no_bar_is_drawn_where_there_is_no_terminal(tmp_path, capsys):
    write_event_files(tmp_path / "events", 5, geometry=GEOMETRY, progress=True)
    assert capsys.readouterr().err == ""


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingDependencyError, match=r"stablelit\[parquet\]"):
        write_event_files(tmp_path / "events", 5, geometry=GEOMETRY)
    assert not list(tmp_path.iterdir())
