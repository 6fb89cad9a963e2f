from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.neutrinos import preparation
from stablelit.families.neutrinos.preparation import prepare
from stablelit.families.neutrinos.readers import KaggleFolder, PackedFolder

from .kaggle_files import KaggleFiles


@pytest.fixture
def files(tmp_path) -> KaggleFiles:
    files = KaggleFiles(tmp_path / "data")
    files.write()
    return files


def by_id(source):
    """Every event of a source as plain lists, by its id."""
    found = {}
    for file in range(len(source.files)):
        events = source.read(file)
        for i in range(len(events)):
            rows = slice(events.begin[i], events.begin[i + 1])
            columns = [getattr(events, name)[rows].tolist() for name in ("time", "charge", "sensor", "auxiliary")]
            found[int(events.event_id[i])] = (int(source.batch_ids[file]), float(events.zenith[i]), columns)
    return found


@pytest.mark.parametrize("pulses_a_shard", [1, 60, 1 << 20])
@pytest.mark.parametrize("shuffle", [True, False])
def test_packed_events_are_the_same_events(files, tmp_path, shuffle, pulses_a_shard):
    done = prepare(str(files.folder), str(tmp_path / "packed"), shuffle=shuffle, pulses_a_shard=pulses_a_shard)
    packed, source = PackedFolder(tmp_path / "packed"), KaggleFolder(files.folder)
    assert by_id(packed) == by_id(source)
    assert (packed.table.event_id.tolist() == source.table.event_id.tolist()) is not shuffle
    assert packed.shuffled is shuffle
    assert done["n_events"] == 16
    assert done["n_pulses"] == source.table.n_pulses == packed.table.n_pulses
    assert done["bytes"] == sum(p.stat().st_size for p in (tmp_path / "packed").iterdir() if p.name != "packed.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "packed"]


def test_the_order_depends_on_the_seed_and_on_nothing_else(files, tmp_path):
    orders = []
    for name, seed, pulses_a_shard in (("a", 3, 50), ("b", 3, 1 << 20), ("c", 4, 50)):
        prepare(str(files.folder), str(tmp_path / name), seed=seed, pulses_a_shard=pulses_a_shard)
        orders.append(PackedFolder(tmp_path / name).table.event_id.tolist())
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])


def test_columns_are_those_of_pulse_events_at_eleven_bytes_a_pulse(files, tmp_path):
    prepare(str(files.folder), str(tmp_path / "packed"))
    packed = PackedFolder(tmp_path / "packed")
    kinds = {name: getattr(packed.events, name).dtype for name in ("time", "charge", "sensor", "auxiliary")}
    assert kinds == {"time": np.float32, "charge": np.float32, "sensor": np.uint16, "auxiliary": np.bool_}
    assert sum(kind.itemsize for kind in kinds.values()) == 11
    assert isinstance(packed.events.time.base, np.memmap)


def test_the_batch_of_each_event_is_kept_so_that_one_can_be_chosen(files, tmp_path):
    prepare(str(files.folder), str(tmp_path / "packed"))
    chosen = PackedFolder(tmp_path / "packed", batch_ids=[3, 1])
    assert chosen.batch_ids.tolist() == [1, 3]
    assert by_id(chosen) == by_id(KaggleFolder(files.folder, batch_ids=[1, 3]))
    with pytest.raises(ConfigurationError, match=r"no event of batch 9\. There are: 1, 2, 3"):
        PackedFolder(tmp_path / "packed", batch_ids=[9])


def test_some_batches_and_some_events_can_be_packed(files, tmp_path):
    prepare(str(files.folder), str(tmp_path / "two"), batch_ids=[1, 2])
    assert sorted(by_id(PackedFolder(tmp_path / "two"))) == sorted(by_id(KaggleFolder(files.folder, batch_ids=[1, 2])))
    prepare(str(files.folder), str(tmp_path / "six"), max_events=6, shuffle=False)
    # 12 events in the first two files hold 6; every other one
    assert PackedFolder(tmp_path / "six").table.event_id.tolist() == (
        KaggleFolder(files.folder).table.event_id[[0, 2, 4, 6, 8, 10]].tolist()
    )


def test_packed_events_can_be_packed_again(files, tmp_path):
    prepare(str(files.folder), str(tmp_path / "a"))
    prepare(str(tmp_path / "a"), str(tmp_path / "b"), seed=5)
    assert by_id(PackedFolder(tmp_path / "b")) == by_id(KaggleFolder(files.folder))


def test_where_they_came_from_and_what_was_found_is_in_the_header(files, tmp_path):
    files.pulses[1]["auxiliary"][:] = True
    files.write()
    prepare(str(files.folder), str(tmp_path / "packed"), seed=7)
    packed = PackedFolder(tmp_path / "packed")
    assert packed.header["seed"] == 7
    assert packed.identity()["packed_from"] == KaggleFolder(files.folder).identity()
    alone = sum(all(e["auxiliary"]) for e in (files.event(b, i) for b in (1, 2, 3) for i in range((5, 7, 4)[b - 1])))
    assert packed.n_all_auxiliary == alone >= 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError("x")])
def test_what_is_interrupted_leaves_nothing_behind(files, tmp_path, monkeypatch, error):
    def fail(self) -> None:
        assert any(p.name.startswith(".packed-") for p in tmp_path.iterdir())
        raise error

    monkeypatch.setattr(preparation._Packing, "put_shards_together", fail)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        prepare(str(files.folder), str(tmp_path / "packed"))
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_what_is_there_is_not_written_over(files, tmp_path):
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/mine").write_text("x")
    with pytest.raises(ConfigurationError, match="packed: is there already"):
        prepare(str(files.folder), str(tmp_path / "packed"))


def test_a_disk_that_is_too_small_is_told_before_it_is_full(files, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(ConfigurationError, match=r"need .* GB while they are packed, but .* GB are free"):
        prepare(str(files.folder), str(tmp_path / "packed"))
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def cut(name):
    def spoil(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[:-5])

    return spoil


def in_header(**values):
    def spoil(folder: Path) -> None:
        header = json.loads((folder / "packed.json").read_text())
        (folder / "packed.json").write_text(json.dumps({**header, **values}))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut("charge.npy"), r"charge\.npy: is damaged or cut short"),
        (cut("packed.json"), r"packed\.json: is no header of packed events"),
        (lambda f: (f / "sensor.npy").unlink(), r"sensor\.npy: is missing, though packed\.json names it"),
        (lambda f: np.save(f / "time.npy", np.zeros(3)), r"time\.npy: holds \(3,\) values of float64"),
        (lambda f: np.save(f / "begin.npy", np.arange(17)), r"begin\.npy: events begin at 0 and end at 16"),
        (in_header(version=99), r"packed\.json: is of version 99\. Allowed: 2"),
        (in_header(columns={"time": "<f4"}), r"names no column 'begin'"),
        (lambda f: (f / "sensor_geometry.csv").write_text("sensor_id,x,y,z\n0,1,2,3\n"), "is not the detector"),
    ],
)
def test_a_damaged_folder_is_refused_by_file(files, tmp_path, spoil, message):
    prepare(str(files.folder), str(tmp_path / "packed"))
    spoil(tmp_path / "packed")
    with pytest.raises(DataError, match=message):
        PackedFolder(tmp_path / "packed")
