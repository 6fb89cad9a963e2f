from __future__ import annotations

import sqlite3

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.neutrinos.geometry import DetectorGeometry
from stablelit.families.neutrinos.readers import format_of, graphnet_sqlite, open_source
from stablelit.families.neutrinos.readers.graphnet_columns import find_columns
from stablelit.families.neutrinos.readers.opened_sqlite import opened_sqlite

from ..graphnet_files import GraphnetTablesOnDisk


@pytest.fixture(params=["sqlite", "parquet"])
def kind(request) -> str:
    return request.param


@pytest.fixture
def written(kind, tmp_path):
    """Writes tables in either format and opens them."""

    def write(tables: GraphnetTablesOnDisk, **arguments):
        path = tables.write_sqlite(tmp_path / "events.db") if kind == "sqlite" else tables.write_parquet(tmp_path / "a")
        assert format_of(path) == f"graphnet_{kind}"
        return open_source(path, **arguments)

    return write


def all_events(source):
    return [
        (events, i) for file in range(len(source.files)) for events in [source.read(file)] for i in range(len(events))
    ]


@pytest.mark.parametrize("detector", ["icecube", "prometheus"])
def test_events_are_the_rows_with_their_number(written, detector):
    tables = GraphnetTablesOnDisk(detector)
    source = written(tables)
    assert len(source.table) == 8
    assert source.n_empty == 1
    place = {tuple(p): s for s, p in enumerate(source.geometry.position.round(2).tolist())}
    assert len(place) == len(np.unique(tables.sensor))
    momentum = detector == "prometheus"
    seen = all_events(source)
    assert [int(events.event_id[i]) for events, i in seen] == tables.event_no[:-1].tolist()
    for n, (events, i) in enumerate(seen):
        rows = np.flatnonzero(tables.pulses["event_no"] == tables.event_no[n])
        mine = slice(events.begin[i], events.begin[i + 1])
        time = tables.pulses[tables.names["time"]][rows]
        assert events.time[mine] == pytest.approx(time - time[0], abs=1e-3)
        where = source.geometry.position[events.sensor[mine]]
        assert where == pytest.approx(tables.sensors[tables.sensor[rows]], abs=1e-3)
        charge = tables.pulses["charge"][rows] if detector == "icecube" else np.ones(len(rows))
        assert events.charge[mine] == pytest.approx(charge)
        assert not events.auxiliary[mine].any()
        assert events.direction[i] == pytest.approx(tables.direction(n, momentum), abs=1e-6)
        assert events.energy[i] == pytest.approx(tables.truth[tables.names["energy"]][n])
        particle, interaction = (tables.truth[tables.names[k]][n] for k in ("particle", "interaction"))
        assert events.is_track[i] == (abs(particle) == 13 or (abs(particle) == 14 and interaction == 1))


def test_what_is_made_of_the_columns_is_said(written):
    told = "; ".join(written(GraphnetTablesOnDisk("prometheus")).notes)
    assert "'total' has no charge: every row counts as one photoelectron" in told
    assert "does not say which pulses are auxiliary: all count as HLC" in told
    assert "initial_state_azimuth and initial_state_zenith are the momentum's: turned round" in told
    assert "no geometry was given" in told


def test_what_the_angles_point_to_can_be_said(written):
    tables = GraphnetTablesOnDisk("prometheus")
    events, i = all_events(written(tables, pointing="origin"))[2]
    assert events.direction[i] == pytest.approx(tables.direction(2, momentum=False), abs=1e-6)


def test_sensors_are_found_in_a_geometry_that_is_given(written):
    tables = GraphnetTablesOnDisk("icecube")
    shuffled = np.random.default_rng(5).permutation(25)
    # files round positions
    detector = DetectorGeometry.of_positions(tables.sensors[shuffled] + 0.02)
    source = written(tables, geometry=detector)
    sensor = np.concatenate([source.read(file).sensor for file in range(len(source.files))])
    assert shuffled[sensor].tolist() == tables.sensor.tolist()


def test_the_geometry_of_another_detector_is_refused_with_the_distance(written):
    tables = GraphnetTablesOnDisk("icecube")
    detector = DetectorGeometry.of_positions(tables.sensors + np.array([0, 0, 1948.07]))
    source = written(tables, geometry=detector)
    with pytest.raises(DataError, match=r"a pulse lies at .* m from the nearest of 25 sensors.*another detector"):
        all_events(source)


def test_a_detector_deep_below_the_origin_is_moved_to_it(written):
    tables = GraphnetTablesOnDisk("prometheus")
    tables.pulses["sensor_pos_z"] = tables.pulses["sensor_pos_z"] - 2000
    source = written(tables)
    assert np.abs(source.geometry.position).max() < 450
    assert "moved by" in source.notes[-1]
    # distances between sensors stay
    events, i = all_events(source)[0]
    rows = np.flatnonzero(tables.pulses["event_no"] == tables.event_no[0])
    where = source.geometry.position[events.sensor[events.begin[i] : events.begin[i + 1]]]
    assert where - where[0] == pytest.approx(
        tables.sensors[tables.sensor[rows]] - tables.sensors[tables.sensor[rows[0]]], abs=1e-3
    )


@pytest.mark.parametrize("depth", [0.0, 1948.07])
def test_icecubes_real_sensors_are_found_from_its_centre_and_from_the_surface(written, test_data, depth):
    path = test_data / "neutrinos" / "icecube_geometry.parquet"
    if not path.is_file():
        pytest.skip(f"no {path}")
    table = pq.read_table(path)
    tables = GraphnetTablesOnDisk("prometheus")
    chosen = np.random.default_rng(2).choice(5160, len(tables.sensor))
    rows = {int(s): row for row, s in enumerate(table["sensor_id"].to_pylist())}
    for axis in "xyz":
        column = table[f"sensor_pos_{axis}"].to_numpy()
        tables.pulses[f"sensor_pos_{axis}"] = column[[rows[int(s)] for s in chosen]] + (axis == "z") * depth
    source = written(tables, geometry=path)
    assert "moved up by 1948.07 m to IceCube's centre" in source.notes[-1]
    sensor = np.concatenate([source.read(file).sensor for file in range(len(source.files))])
    assert sensor.tolist() == chosen.tolist()


def test_local_coincidence_makes_pulses_that_are_not_auxiliary(written):
    tables = GraphnetTablesOnDisk("icecube")
    tables.pulses["hlc"] = (np.arange(len(tables.sensor)) % 3 == 0).astype(np.int64)
    source = written(tables)
    auxiliary = np.concatenate([source.read(file).auxiliary for file in range(len(source.files))])
    assert (auxiliary == (np.arange(len(tables.sensor)) % 3 != 0)).all()


def test_other_names_can_be_given(written):
    tables = GraphnetTablesOnDisk("icecube")
    tables.pulses["hit_time"] = tables.pulses.pop("dom_time")
    source = written(tables, columns={"time": "hit_time"})
    assert len(all_events(source)) == 8


def test_events_without_truth_are_left_out_and_counted(written, kind):
    tables = GraphnetTablesOnDisk("icecube")
    lost = tables.event_no[4]
    tables.truth = {name: np.delete(column, 4) for name, column in tables.truth.items()}
    source = written(tables)
    assert [int(events.event_id[i]) for events, i in all_events(source)] == np.delete(tables.event_no, [4, 8]).tolist()
    assert any(f"1 events have pulses but no row in 'truth' (event_no {lost}" in note for note in source.notes)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.truth.update(zenith=np.full(9, -1.0)), r"zenith is -1\.0 \(8 of 8"),
        (lambda t: t.truth.update(energy=np.zeros(9)), r"energy is 0\.0"),
        (lambda t: t.truth.update(event_no=np.repeat(t.event_no[:3], 3)), r"event_no \d+ is there twice"),
        (lambda t: t.pulses.pop("dom_time"), r"has no table with event_no, positions and times.*SRTInIcePulses \("),
    ],
)
def test_wrong_tables_are_refused(written, spoil, message):
    tables = GraphnetTablesOnDisk("icecube")
    spoil(tables)
    with pytest.raises(DataError, match=message):
        written(tables)


@pytest.mark.parametrize(("value", "message"), [(0.0, r"charge is 0\.0"), (np.nan, r"charge is (nan|None)")])
def test_wrong_charges_are_refused(written, value, message):
    tables = GraphnetTablesOnDisk("icecube")
    tables.pulses["charge"][3] = value
    with pytest.raises(DataError, match=message):
        all_events(written(tables))


def test_a_database_is_read_in_stretches(tmp_path, monkeypatch):
    tables = GraphnetTablesOnDisk("icecube")
    path = tables.write_sqlite(tmp_path / "events.db")
    whole = open_source(path).read(0)
    monkeypatch.setattr(graphnet_sqlite, "EVENTS_A_STRETCH", 3)
    source = open_source(path)
    assert len(source.files) == 3
    assert source.batch_ids.tolist() == [0, 0, 0]
    parts = [source.read(file) for file in range(3)]
    assert [len(part) for part in parts] == [3, 3, 2]
    for name in ("event_id", "time", "sensor", "charge", "azimuth"):
        assert np.concatenate([getattr(part, name) for part in parts]).tolist() == getattr(whole, name).tolist()


def test_a_database_is_one_file_and_a_folder_has_parts(tmp_path):
    tables = GraphnetTablesOnDisk("icecube")
    with pytest.raises(ConfigurationError, match="a database is one file"):
        open_source(tables.write_sqlite(tmp_path / "events.db"), batch_ids=[1])
    folder = tables.write_parquet(tmp_path / "folder")
    assert open_source(folder).batch_ids.tolist() == [0, 1, 2]
    assert open_source(folder, batch_ids=[1]).table.event_id.tolist() == tables.event_no[3:6].tolist()
    with pytest.raises(ConfigurationError, match=r"no part 5 .*There are: 0, 1, 2"):
        open_source(folder, batch_ids=[5])
    (folder / "merged/truth/truth_1.parquet").unlink()
    with pytest.raises(DataError, match=r"part 1 of 'SRTInIcePulses' has no counterpart in 'truth'.*0, 2"):
        open_source(folder)


def test_a_damaged_database_is_refused_by_name(tmp_path):
    path = GraphnetTablesOnDisk("icecube").write_sqlite(tmp_path / "events.db")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"events\.db: cannot be read as an SQLite database"):
        open_source(path)
    path.write_bytes(b"rubbish" * 1000)
    with pytest.raises(DataError, match=r"events\.db: cannot be read as an SQLite database"):
        open_source(path)


def test_text_in_a_database_is_refused(tmp_path):
    path = GraphnetTablesOnDisk("icecube").write_sqlite(tmp_path / "events.db")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE SRTInIcePulses SET charge = 'many' WHERE rowid = 3")
    database.close()
    with pytest.raises(DataError, match=r"events\.db: charge is 'many'"):
        open_source(path).read(0)


def test_a_column_of_lists_is_refused(tmp_path):
    folder = GraphnetTablesOnDisk("icecube").write_parquet(tmp_path / "folder", parts=1)
    path = folder / "merged/SRTInIcePulses/SRTInIcePulses_0.parquet"
    table = pq.read_table(path)
    lists = pa.array([[1.0]] * len(table))
    pq.write_table(table.set_column(table.schema.get_field_index("charge"), "charge", lists), path)
    with pytest.raises(DataError, match=r"'charge' holds list.*Is it another layout"):
        open_source(folder).read(0)


def test_of_several_tables_one_must_be_named():
    pulses = ["event_no", "dom_x", "dom_y", "dom_z", "dom_time"]
    tables = {"SplitInIcePulses": pulses, "SRTInIcePulses": pulses, "truth": ["event_no", "azimuth", "zenith"]}
    with pytest.raises(ConfigurationError, match=r"which of SplitInIcePulses, SRTInIcePulses\? Say pulse_table="):
        find_columns(tables, "x.db")
    assert find_columns(tables, "x.db", pulse_table="SRTInIcePulses").pulses == "SRTInIcePulses"
    with pytest.raises(ConfigurationError, match=r"no table 'SRTPulses'.*Did you mean 'SRTInIcePulses'"):
        find_columns(tables, "x.db", pulse_table="SRTPulses")
    with pytest.raises(DataError, match="table 'truth' has not all of"):
        find_columns(tables, "x.db", pulse_table="truth")
    with pytest.raises(ConfigurationError, match="columns='tim'"):
        find_columns(tables, "x.db", columns={"tim": "t"})
    with pytest.raises(ConfigurationError, match="pointing='up'"):
        find_columns(tables, "x.db", pointing="up")  # type: ignore[arg-type]


def with_statements(tmp_path, *statements: str):
    path = GraphnetTablesOnDisk("icecube").write_sqlite(tmp_path / "a.db")
    with sqlite3.connect(path) as database:
        for statement in statements:
            database.execute(statement)
    database.close()
    return path


def test_a_view_that_never_ends_is_not_read(tmp_path):
    columns = "x AS event_no, x AS dom_x, x AS dom_y, x AS dom_z, x AS dom_time, x AS charge"
    rows = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
    endless = f"CREATE VIEW SRTInIcePulses AS {rows} SELECT {columns} FROM c"
    with sqlite3.connect(tmp_path / "a.db") as database:
        database.execute(endless)
    database.close()
    with pytest.raises(DataError, match=r"has views alone \(SRTInIcePulses\).*CREATE TABLE"):
        open_source(tmp_path / "a.db")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT hex(1)",
        "SELECT load_extension('x')",
        "ATTACH 'b.db' AS b",
        "PRAGMA writable_schema=ON",
        "DELETE FROM truth",
    ],
)
def test_of_a_database_nothing_is_done_but_reading_tables(tmp_path, statement):
    path = GraphnetTablesOnDisk("icecube").write_sqlite(tmp_path / "a.db")
    with pytest.raises(DataError, match=r"a\.db: cannot be read"), opened_sqlite(path) as database:
        database.execute(statement)


def test_rows_beyond_what_the_file_can_hold_end_the_reading(tmp_path, monkeypatch):
    # pages that refer to each other in a circle give such: here a bound that is reached at once
    monkeypatch.setattr("stablelit.families.neutrinos.readers.opened_sqlite.STEPS_ANYWAY", 0)
    monkeypatch.setattr("stablelit.families.neutrinos.readers.opened_sqlite.STEPS_A_BYTE", 0)
    monkeypatch.setattr("stablelit.families.neutrinos.readers.opened_sqlite._STEPS_BETWEEN", 1)
    with pytest.raises(DataError, match="more rows than .* bytes can hold"):
        open_source(GraphnetTablesOnDisk("icecube").write_sqlite(tmp_path / "a.db"))


def test_a_text_among_numbers_does_not_widen_them(tmp_path):
    path = with_statements(tmp_path, "UPDATE truth SET azimuth = hex(zeroblob(200000)) WHERE rowid = 1")
    with pytest.raises(DataError, match=r"azimuth is '0000.{,100} in a row"):
        open_source(path)
