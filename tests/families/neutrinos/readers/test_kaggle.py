from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.neutrinos.readers import format_of, open_source
from stablelit.families.neutrinos.readers.kaggle import KaggleFolder

from ..kaggle_files import N_SENSORS, KaggleFiles


@pytest.fixture
def files(tmp_path) -> KaggleFiles:
    return KaggleFiles(tmp_path / "data")


def assert_same_events(source, files, batches=(1, 2, 3)):
    at = 0
    for file, batch in enumerate(batches):
        events = source.read(file)
        assert len(events) == len(files.events[batch]["event_id"])
        for i in range(len(events)):
            wanted = files.event(batch, i)
            rows = slice(events.begin[i], events.begin[i + 1])
            assert events.time[rows].tolist() == (wanted["time"] - wanted["time"][0]).tolist()
            assert events.charge[rows].tolist() == wanted["charge"].tolist()
            assert events.sensor[rows].tolist() == wanted["sensor_id"].tolist()
            assert events.auxiliary[rows].tolist() == wanted["auxiliary"].tolist()
            assert events.event_id[i] == wanted["event_id"][0] == source.table.event_id[at]
            assert events.azimuth[i] == files.events[batch]["azimuth"][i] == source.table.azimuth[at]
            assert source.table.pulse_count[at] == len(wanted["time"])
            at += 1
    assert at == len(source.table)


def test_events_are_the_rows_that_the_table_names(files):
    source = KaggleFolder(files.write())
    assert source.batch_ids.tolist() == [1, 2, 3]
    assert source.files == ("batch_1.parquet", "batch_2.parquet", "batch_3.parquet")
    assert source.n_empty == 0
    assert source.notes == ()
    assert_same_events(source, files)


def test_pulses_are_in_small_types_and_the_columns_need_no_order(files):
    events = KaggleFolder(files.write()).read(0)
    kinds = [getattr(events, name).dtype for name in ("time", "charge", "sensor", "auxiliary")]
    assert kinds == [np.float32, np.float32, np.uint16, np.bool_]


def test_only_the_wanted_batches_are_read_in_the_order_asked_for(files):
    files.write()
    (files.folder / "train/batch_2.parquet").write_bytes(b"rubbish")
    source = KaggleFolder(files.folder, batch_ids=[3, 1])
    assert_same_events(source, files, (3, 1))


def test_a_table_of_more_batches_than_are_there_is_used_for_those_that_are(files):
    files.write()
    (files.folder / "train/batch_2.parquet").unlink()
    source = KaggleFolder(files.folder)
    assert source.batch_ids.tolist() == [1, 3]
    assert_same_events(source, files, (1, 3))
    n, left_out = sum(len(e["event_id"]) for e in files.events.values()), len(files.events[2]["event_id"])
    assert source.notes == (
        f"{left_out} of {n} events of train_meta.parquet are left out: train/ lacks their files (between the first and "
        f"the last, 2 is missing)",
    )
    (files.folder / "train/batch_1.parquet").unlink()
    (note,) = KaggleFolder(files.folder).notes
    assert "between" not in note
    assert note.startswith(f"{n - len(files.events[3]['event_id'])} of {n} events")
    # whoever names files knows that there are others
    assert KaggleFolder(files.folder, batch_ids=[3]).notes == ()


def test_the_index_of_pandas_without_a_name_is_the_event_id(files):
    for columns in files.pulses.values():
        columns["__index_level_0__"] = columns.pop("event_id")
    files.write()
    for columns in files.pulses.values():
        columns["event_id"] = columns.pop("__index_level_0__")
    assert_same_events(KaggleFolder(files.folder), files)


def test_events_that_lie_in_another_order_than_in_the_table_are_found(files):
    for batch, columns in files.events.items():
        order = np.random.default_rng(batch).permutation(len(columns["event_id"]))
        files.events[batch] = {name: column[order] for name, column in columns.items()}
    assert_same_events(KaggleFolder(files.write()), files)


def test_rows_of_no_event_are_counted_and_skipped(files):
    kept = {name: np.delete(column, 2) for name, column in files.events[2].items()}
    lost = len(files.event(2, 2)["time"])
    files.events[2] = kept
    source = KaggleFolder(files.write())
    assert source.notes == (
        f"{lost} of {sum(len(p['time']) for p in files.pulses.values())} rows of pulses belong to no event of "
        f"train_meta.parquet",
    )
    assert_same_events(source, files)


def test_pulses_out_of_order_are_sorted_and_counted(files):
    first, last = files.events[1]["first_pulse_index"], files.events[1]["last_pulse_index"]
    longest = int(np.argmax(last - first))
    rows = slice(first[longest], last[longest] + 1)
    time = files.pulses[1]["time"]
    time[rows] = time[rows][::-1]
    source = KaggleFolder(files.write())
    events = source.read(0)
    assert source.n_unsorted == 1
    mine = slice(events.begin[longest], events.begin[longest + 1])
    assert (np.diff(events.time[mine]) >= 0).all()
    assert events.time[mine][0] == 0
    # each pulse kept its own charge
    pairs = zip(events.time[mine] + time[rows].min(), events.charge[mine], strict=True)
    assert sorted(pairs) == sorted(zip(time[rows], files.pulses[1]["charge"][rows], strict=True))


def test_events_without_hlc_pulses_are_kept_and_counted(files):
    first, last = (int(files.events[1][f"{end}_pulse_index"][1]) for end in ("first", "last"))
    files.pulses[1]["auxiliary"][:] = False
    files.pulses[1]["auxiliary"][first : last + 1] = True
    source = KaggleFolder(files.write())
    assert source.n_all_auxiliary == 0
    assert len(source.read(0)) == 5
    assert source.n_all_auxiliary == 1


def test_energy_and_kind_are_read_where_they_are_there(files):
    rng = np.random.default_rng(3)
    for columns in files.events.values():
        columns["energy"] = rng.uniform(100, 1e4, len(columns["event_id"])).astype(np.float32)
        columns["is_track"] = rng.random(len(columns["event_id"])) < 0.5
    source = KaggleFolder(files.write())
    assert source.read(1).energy.tolist() == files.events[2]["energy"].tolist()
    assert source.read(1).is_track.tolist() == files.events[2]["is_track"].tolist()


def test_the_test_files_have_no_truth(files):
    source = KaggleFolder(files.write("test", truth=False), split="test")
    assert not source.table.has_truth
    assert source.read(0).azimuth is None
    assert len(source.table) == 16


def test_a_pulse_of_a_column_type_that_wraps_around_is_refused_and_not_wrapped(files):
    files.pulses[1]["sensor_id"] = files.pulses[1]["sensor_id"].astype(np.int32)
    files.pulses[1]["sensor_id"][4] = 65_536
    with pytest.raises(DataError, match=r"batch_1\.parquet: event \d+, pulse \d+: sensor is 65536"):
        KaggleFolder(files.write()).read(0)


# --- what is wrong, and how it is told --------------------------------------------------------------------------------


def broken(column, row, value, events=False):
    def spoil(files):
        table = (files.events if events else files.pulses)[2]
        if isinstance(value, float):
            table[column] = table[column].astype(np.float64)
        table[column][row] = value

    return spoil


def no_column(name, events=False):
    def spoil(files):
        for columns in (files.events if events else files.pulses).values():
            columns[name + "_"] = columns.pop(name)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            broken("last_pulse_index", 0, -1, events=True),
            r"train_meta.*event 2000: first_pulse_index 0 and .*-1 .*Drop events without a pulse",
        ),
        (broken("last_pulse_index", 6, 10_000, events=True), r"event 2018: last_pulse_index 10000 .*end of batch_2"),
        (broken("azimuth", 3, -0.1, events=True), r"train_meta.*event 2009: azimuth is -0\.1"),
        (broken("azimuth", 3, 6.4, events=True), r"event 2009: azimuth is 6\.4"),
        (broken("zenith", 3, float("nan"), events=True), r"event 2009: zenith is nan"),
        (broken("zenith", 3, 3.2, events=True), r"event 2009: zenith is 3\.2"),
        (no_column("zenith", events=True), r"train_meta\.parquet: has no column 'zenith'.*zenith_"),
        (no_column("last_pulse_index", events=True), r"has no column 'last_pulse_index'"),
    ],
)
def test_a_wrong_table_is_refused_before_a_pulse_is_read(files, spoil, message):
    spoil(files)
    with pytest.raises(DataError, match=message):
        KaggleFolder(files.write())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (broken("sensor_id", 0, N_SENSORS), rf"batch_2.*event 2000, pulse 0: sensor is {N_SENSORS}.*another detector"),
        (broken("sensor_id", 0, -1), r"event 2000, pulse 0: sensor is -1"),
        (broken("charge", 0, 0.0), r"event 2000, pulse 0: charge is 0\.0"),
        (broken("charge", 0, float("nan")), r"event 2000, pulse 0: charge is nan"),
        (broken("charge", 0, -2.0), r"charge is -2\.0"),
        (broken("event_id", 0, 7), r"batch_2\.parquet: row 0 belongs to event 7.*to event 2000 \(1 rows"),
        (no_column("charge"), r"batch_1\.parquet: has no column 'charge'.*charge_"),
        (no_column("event_id"), r"has no column 'event_id'"),
    ],
)
def test_wrong_pulses_are_refused_with_file_and_event(files, spoil, message):
    spoil(files)
    source = KaggleFolder(files.write())
    with pytest.raises(DataError, match=message):
        [source.read(file) for file in range(3)]


def test_an_event_that_is_there_twice_is_refused_across_files(files):
    files.events[3]["event_id"][0] = files.events[1]["event_id"][0]
    with pytest.raises(DataError, match=r"event_id 1000 is there 2 times"):
        KaggleFolder(files.write())


def test_a_null_is_refused_with_its_row(files):
    files.write()
    columns = {name: pa.array(column) for name, column in files.pulses[1].items()}
    columns["charge"] = pa.array([None if i == 4 else 1.0 for i in range(len(columns["charge"]))])
    pq.write_table(pa.table(columns), files.folder / "train/batch_1.parquet")
    with pytest.raises(DataError, match=r"batch_1\.parquet: row 4: charge is missing \(1 are\)"):
        KaggleFolder(files.folder).read(0)


@pytest.mark.parametrize("name", ["train/batch_2.parquet", "train_meta.parquet"])
def test_a_truncated_file_is_refused_by_name(files, name):
    path = files.write() / name
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=rf"{name}: cannot be read as parquet .*truncated"):
        KaggleFolder(files.folder)


def test_a_missing_batch_is_named_with_those_that_are_there(files):
    files.write()
    with pytest.raises(ConfigurationError, match=r"no batch_7\.parquet \(1 of 2 wanted.*There are: 1, 2, 3"):
        KaggleFolder(files.folder, batch_ids=[1, 7])


def test_a_batch_file_without_events_in_the_table_is_refused(files):
    del files.events[2]
    with pytest.raises(DataError, match=r"train_meta.*has no event of batch 2.*batch_2\.parquet is there"):
        KaggleFolder(files.write())


@pytest.mark.parametrize("name", ["train_meta.parquet", "sensor_geometry.csv"])
def test_a_missing_file_is_named(files, name):
    (files.write() / name).unlink()
    with pytest.raises(DataError, match=f"{name}: no such file"):
        open_source(files.folder)


def test_a_folder_without_batch_files_is_told(files):
    for path in (files.write() / "train").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"train: has no file batch_<number>\.parquet"):
        KaggleFolder(files.folder)


def test_a_folder_of_no_format_says_what_was_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"none of the formats.*packed\.json; train_meta.*There is: notes\.txt"):
        format_of(tmp_path)
    with pytest.raises(DataError, match=r"no such file or folder\. Did you mean 'notes\.txt'"):
        format_of(tmp_path / "note.txt")
    with pytest.raises(DataError, match="is no SQLite database"):
        format_of(tmp_path / "notes.txt")


def test_arguments_of_another_format_are_refused(files):
    files.write()
    assert format_of(files.folder) == "kaggle"
    with pytest.raises(ConfigurationError, match="pulse_table"):
        open_source(files.folder, pulse_table="total")
    with pytest.raises(ConfigurationError, match=r"format='kagle'.*Did you mean 'kaggle'"):
        open_source(files.folder, format="kagle")
