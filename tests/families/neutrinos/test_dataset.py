from __future__ import annotations

import numpy as np
import pytest
import torch

from stablelit.data import LengthBucketBatchSampler, ShuffleSampler, leave_out
from stablelit.errors import ConfigurationError, DataError
from stablelit.families.neutrinos.dataset import EventDataset
from stablelit.families.neutrinos.event_batch import assemble
from stablelit.families.neutrinos.event_store import FileStore, MemoryStore
from stablelit.families.neutrinos.readers import KaggleFolder

from .kaggle_files import KaggleFiles


@pytest.fixture
def source(tmp_path) -> KaggleFolder:
    return KaggleFolder(KaggleFiles(tmp_path / "data").write())


def dataset_of(store, source, rows=None, **arguments):
    rows = np.arange(len(store.table)) if rows is None else rows
    return EventDataset(store, rows, 100 + rows, source.geometry, **arguments)


@pytest.mark.parametrize("kind", [MemoryStore, FileStore])
def test_a_batch_is_what_assembling_one_event_after_the_other_gives(source, kind):
    store = kind(source, np.arange(16), 1) if kind is FileStore else kind(source, np.arange(16), lambda n: None)
    dataset = dataset_of(store, source)
    chosen = [9, 2, 14, 5]
    batch = dataset.__getitems__(chosen)
    ones = [dataset[i] for i in chosen]
    for name in ("pulses", "sensors", "events", "pulses_of_sensor", "sensors_of_event", "direction", "event_id", "id"):
        assert torch.equal(batch[name], torch.cat([one[name] for one in ones])), name
    assert batch["id"].tolist() == [109, 102, 114, 105]
    whole = store.gather(np.array(chosen))
    again = assemble(whole, np.array([109, 102, 114, 105]), source.geometry.position, source.geometry.deep_core)
    assert all(torch.equal(batch[k], v) for k, v in again.items() if isinstance(v, torch.Tensor))


def test_what_a_sampler_and_the_monitor_ask_for_is_there(source):
    lazy = dataset_of(FileStore(source, np.arange(16), 2), source, max_pulses=10)
    assert lazy.chunk_sizes == [5, 7, 4]
    assert lazy.cache_size == 2
    assert lazy.lengths.tolist() == np.minimum(source.table.pulse_count, 10).tolist()
    assert lazy.chunk_loads == 0
    lazy.__getitems__([0, 1])
    assert lazy.chunk_loads == 1
    memory = MemoryStore(source, np.arange(16), lambda n: None)
    ready = dataset_of(memory, source, sensor_count=memory.sensor_count())
    assert ready.cache_size is None
    assert ready.lengths.tolist() == [int(ready[i]["sensors_of_event"][0]) for i in range(16)]


def test_a_sampler_in_blocks_reads_every_file_once(source):
    dataset = dataset_of(FileStore(source, np.arange(16), 1), source)
    sampler = ShuffleSampler(dataset, seed=3, mode="block", window_chunks=1)
    for batch in LengthBucketBatchSampler(sampler, dataset.lengths, batch_size=3, pool_batches=1):
        dataset.__getitems__(batch)
    # batches that lie over the edge of two files have both, each read once
    assert dataset.chunk_loads == 3


def test_some_rows_are_chunks_of_what_is_left_of_each_file(source):
    store = FileStore(source, np.arange(16), 1)
    assert dataset_of(store, source, np.array([0, 3, 13, 14, 15])).chunk_sizes == [2, 3]
    left = leave_out(dataset_of(store, source), [0, 12, 13, 14, 15])
    assert left.chunk_sizes == [4, 7]
    assert left.__getitems__([0])["id"].tolist() == [101]


def test_events_in_no_order_of_files_are_chunks_of_equal_size(source, monkeypatch):
    monkeypatch.setattr("stablelit.families.neutrinos.dataset.EVENTS_A_CHUNK", 6)
    mixed = np.random.default_rng(0).permutation(16)
    store = MemoryStore(source, mixed, lambda n: None)
    assert dataset_of(store, source).chunk_sizes == [6, 6, 4]


def test_numbers_outside_are_refused(source):
    store = FileStore(source, np.arange(16), 1)
    dataset = dataset_of(store, source)
    assert dataset[-1]["id"].tolist() == [115]
    with pytest.raises(IndexError, match="16 of 16 events"):
        dataset[16]
    with pytest.raises(ConfigurationError, match="max_pulses=0"):
        dataset_of(store, source, max_pulses=0)
    with pytest.raises(DataError, match="has no event"):
        dataset_of(store, source, np.array([], dtype=np.int64))
