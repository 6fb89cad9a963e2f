from __future__ import annotations

import pickle

import numpy as np
import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.neutrinos.event_store import FileStore, MemoryStore, choose_store, distinct_sensors
from stablelit.families.neutrinos.preparation import prepare
from stablelit.families.neutrinos.readers import KaggleFolder, PackedFolder

from .kaggle_files import KaggleFiles

CHOSEN = np.array([15, 0, 7, 3, 7, 11, 5])


@pytest.fixture
def files(tmp_path) -> KaggleFiles:
    files = KaggleFiles(tmp_path / "data")
    files.write()
    return files


@pytest.fixture(params=["memory", "files", "memmap", "memmap, not shuffled"])
def store(request, files, tmp_path):
    kept = np.arange(16)
    policy = request.param.partition(",")[0]
    if policy == "memmap":
        prepare(str(files.folder), str(tmp_path / "packed"), shuffle=request.param == policy)
        source = PackedFolder(tmp_path / "packed")
        # the order of the packed events is another: ask for the same ones
        kept = np.argsort(source.table.event_id)
    else:
        source = KaggleFolder(files.folder)
    store = choose_store(source, kept, policy, 2, 1.0, lambda told: None)
    assert store.policy == policy
    return store


def slow(files: KaggleFiles, indices):
    """The pulses of events, by slicing, and which event each belongs to."""
    places = [(batch, i) for batch in files.events for i in range(len(files.events[batch]["event_id"]))]
    return [files.event(*places[i]) for i in indices]


def test_a_gather_is_the_events_one_after_the_other(store, files):
    events = store.gather(CHOSEN)
    wanted = slow(files, CHOSEN)
    assert events.pulse_count.tolist() == [len(one["time"]) for one in wanted]
    assert events.event_id.tolist() == [int(one["event_id"][0]) for one in wanted]
    for name, column in (("charge", "charge"), ("sensor", "sensor_id"), ("auxiliary", "auxiliary")):
        assert getattr(events, name).tolist() == np.concatenate([one[column] for one in wanted]).tolist()
    assert events.time.tolist() == np.concatenate([one["time"] - one["time"][0] for one in wanted]).tolist()
    assert events.azimuth.tolist() == store.table.azimuth[CHOSEN].tolist()
    truth = np.concatenate([files.events[batch]["azimuth"] for batch in files.events])
    assert events.azimuth.tolist() == truth[CHOSEN].tolist()


def test_a_store_that_is_pickled_gathers_the_same(store):
    copy = pickle.loads(pickle.dumps(store))
    before, after = store.gather(CHOSEN), copy.gather(CHOSEN)
    assert all((getattr(before, n) == getattr(after, n)).all() for n in ("time", "charge", "sensor", "begin"))


def test_sensors_are_counted_where_no_file_has_to_be_read(store, files):
    counted = store.sensor_count()
    if store.policy == "files":
        assert counted is None
        return
    assert counted.tolist() == [len(set(one["sensor_id"].tolist())) for one in slow(files, range(16))]


def test_sensors_that_a_limit_of_auxiliary_pulses_leaves_are_counted(store, files):
    if store.policy == "files":
        return
    for most in (0, 1, 3):
        expected = []
        for one in slow(files, range(16)):
            in_hlc, every = (len(set(one["sensor_id"][use].tolist())) for use in (~one["auxiliary"], slice(None)))
            expected.append(min(in_hlc + most, every) if in_hlc else every)
        assert store.sensor_count(most).tolist() == expected
        assert expected != store.sensor_count().tolist()


def test_distinct_sensors_are_counted_in_pieces(random_events, monkeypatch):
    events = random_events(50)
    expected = [len(set(events.sensor[a:b].tolist())) for a, b in zip(events.begin[:-1], events.begin[1:], strict=True)]
    for cells in (1, 7 * 40, 1 << 20):
        monkeypatch.setattr("stablelit.families.neutrinos.event_store._CELLS", cells)
        assert distinct_sensors(events, 40).tolist() == expected


def test_some_events_of_some_files_are_kept_in_any_order(files):
    kept = np.array([14, 2, 9, 0])
    source = KaggleFolder(files.folder)
    memory, lazy = MemoryStore(source, kept, lambda n: None), FileStore(source, kept, 1)
    for store in (memory, lazy):
        assert store.gather(np.arange(4)).event_id.tolist() == source.table.event_id[kept].tolist()
        wanted = np.concatenate([one["charge"] for one in slow(files, kept)])
        assert store.gather(np.arange(4)).charge.tolist() == wanted.tolist()


@pytest.mark.parametrize(("kept", "loads"), [(1, [3, 6]), (2, [3, 4]), (3, [3, 3])])
def test_files_are_counted_as_they_are_read_and_those_used_last_are_kept(files, kept, loads):
    store = FileStore(KaggleFolder(files.folder), np.arange(16), kept)
    every = np.arange(16)
    seen = []
    for _ in range(2):
        store.gather(every)
        seen.append(store.loads)
    # what is at hand is used before a file that is not takes its place
    assert seen[0] == loads[0]
    assert seen[1] <= loads[1]
    assert seen[1] == seen[0] if kept == 3 else seen[1] > seen[0]


def test_events_of_a_kept_file_load_nothing(files):
    store = FileStore(KaggleFolder(files.folder), np.arange(16), 1)
    for _ in range(3):
        store.gather(np.array([1, 0]))
    assert store.loads == 1
    store.gather(np.array([6]))
    store.gather(np.array([1]))
    assert store.loads == 3


def test_the_file_that_was_used_longest_ago_is_dropped(files):
    store = FileStore(KaggleFolder(files.folder), np.arange(16), 2)
    first, second, third = (np.array([i]) for i in (0, 6, 13))
    for one in (first, second, first, third):
        store.gather(one)
    assert store.loads == 3
    store.gather(first)
    assert store.loads == 3
    store.gather(second)
    assert store.loads == 4


def test_the_choice_is_told_with_its_numbers(files, tmp_path):
    source, told = KaggleFolder(files.folder), []
    pulses = source.table.n_pulses
    choose_store(source, np.arange(16), "auto", 1, 4.0, told.append)
    assert f"16 events, {pulses} pulses, {pulses * 11 / 1e9:.3g} GB at 11 B a pulse: read into memory" in told[-1]
    assert "within memory_limit_gb=4" in told[-1]
    store = choose_store(source, np.arange(16), "auto", 1, 0.0, told.append)
    assert store.policy == "files"
    assert "read from 3 files as they are needed, 1 kept (cache=auto: that is above memory_limit_gb=0" in told[-1]
    prepare(str(files.folder), str(tmp_path / "packed"))
    assert (
        choose_store(PackedFolder(tmp_path / "packed"), np.arange(16), "auto", 1, 4.0, told.append).policy == "memmap"
    )
    assert "memory-mapped from" in told[-1]


def test_a_policy_that_does_not_go_with_the_data_says_what_to_do(files, tmp_path):
    source = KaggleFolder(files.folder)
    with pytest.raises(ConfigurationError, match=r"cache=memmap needs packed events\. Pack them with `python -m"):
        choose_store(source, np.arange(16), "memmap", 1, 4.0, print)
    with pytest.raises(ConfigurationError, match="cache='ram'"):
        choose_store(source, np.arange(16), "ram", 1, 4.0, print)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="cache_size=0"):
        FileStore(source, np.arange(16), 0)
    prepare(str(files.folder), str(tmp_path / "packed"))
    with pytest.raises(ConfigurationError, match="no files to keep"):
        choose_store(PackedFolder(tmp_path / "packed"), np.arange(16), "files", 1, 4.0, print)
