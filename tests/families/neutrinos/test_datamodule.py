from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.neutrinos import toy_folder as toy
from stablelit.families.neutrinos.datamodule import NeutrinoDataModule
from stablelit.families.neutrinos.preparation import prepare
from stablelit.families.neutrinos.readers import KaggleFolder

from .graphnet_files import GraphnetTablesOnDisk
from .kaggle_files import KaggleFiles


@pytest.fixture
def files(tmp_path) -> KaggleFiles:
    files = KaggleFiles(tmp_path / "data", sizes=(20, 20, 20, 10, 10))
    files.write()
    return files


@pytest.fixture
def module_of(files):
    def make(**arguments):
        made = NeutrinoDataModule(**{"path": str(files.folder), "batch_size": 8, **arguments})
        made.setup()
        return made

    return make


def ids(loader):
    return [batch["id"].tolist() for batch in loader]


def flat(batches):
    return [i for batch in batches for i in batch]


def test_batches_have_the_events_of_their_split_and_no_others(module_of):
    made = module_of()
    assert flat(ids(made.train_dataloader())) != made.split_indices["train"]
    assert len(flat(ids(made.train_dataloader()))) == 56
    assert sorted(flat(ids(made.val_dataloader()))) == made.split_indices["val"] == list(range(60, 70))
    assert sorted(flat(ids(made.test_dataloader()))) == made.split_indices["test"] == list(range(70, 80))
    assert ids(made.val_dataloader()) == ids(made.val_dataloader())
    # predictions are in the order of the file
    assert flat(ids(made.predict_dataloader())) == made.split_indices["test"]


def test_a_batch_is_the_events_it_says(module_of, files):
    table = KaggleFolder(files.folder).table
    for batch in module_of().train_dataloader():
        places = batch["id"].numpy()
        assert batch["event_id"].tolist() == table.event_id[places].tolist()
        assert batch["pulse_count"].tolist() == table.pulse_count[places].tolist()
        truth = table.take(places)
        assert batch["direction"][:, 2].numpy() == pytest.approx(np.cos(truth.zenith), abs=1e-6)
    assert len(batch["id"]) == 8


@pytest.mark.slow
def test_training_is_in_another_order_every_epoch_and_the_same_for_a_seed(module_of):
    def order(epoch, **arguments):
        loader = module_of(**arguments).train_dataloader()
        loader.batch_sampler.sampler.set_epoch(epoch)
        return ids(loader)

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0) != order(0, seed=1)


def test_a_training_loader_goes_on_where_a_checkpoint_was_made(module_of):
    loader = module_of().train_dataloader()
    seen = []
    for batch in loader:
        seen.append(batch["id"].tolist())
        if len(seen) == 3:
            state = loader.state_dict()
    resumed = module_of().train_dataloader()
    resumed.load_state_dict(state)
    assert ids(resumed) == seen[3:]


def test_events_with_like_numbers_of_sensors_share_a_batch(module_of):
    def padded(bucket):
        batches = list(module_of(bucket=bucket).train_dataloader())
        return sum(int(b["sensor_places"].sum()) for b in batches) / sum(
            int(b["sensors_of_event"].sum()) for b in batches
        )

    assert padded(True) < 1.2 < padded(False)


def test_a_budget_of_tokens_bounds_every_padded_batch(module_of):
    batches = list(module_of(max_tokens=60, max_pulses=40).train_dataloader())
    assert max(int(b["sensor_places"].sum()) for b in batches) <= 60
    assert len({len(b["id"]) for b in batches}) > 1
    assert len(flat([b["id"].tolist() for b in batches])) == 60


@pytest.mark.parametrize("cache", ["memory", "files"])
def test_the_same_events_come_whatever_the_cache(module_of, cache):
    batch = {
        int(e): p
        for b in module_of(cache=cache).val_dataloader()
        for e, p in zip(b["event_id"], b["pulse_count"], strict=True)
    }
    assert batch == {
        int(e): p for b in module_of().val_dataloader() for e, p in zip(b["event_id"], b["pulse_count"], strict=True)
    }


def test_files_that_do_not_fit_the_cache_are_shuffled_in_blocks_and_read_once(module_of, capsys):
    made = module_of(cache="auto", memory_limit_gb=0, cache_files=1, bucket=False)
    assert (
        "read from 5 files as they are needed, 1 kept (cache=auto: that is above memory_limit_gb=0"
        in capsys.readouterr().out
    )
    loader = made.train_dataloader()
    assert loader.sampler.mode == "block"
    assert loader.sampler.window_chunks == 1
    ids(loader)
    assert loader.dataset.chunk_loads == 3
    assert module_of(cache="files", cache_files=3).train_dataloader().batch_sampler.sampler.mode == "full"
    # the post-mortem's setting is there for whoever asks for it
    assert module_of(cache="files", shuffle="full").train_dataloader().batch_sampler.sampler.mode == "full"
    assert module_of(shuffle="sequential", bucket=False).train_dataloader().sampler.mode == "sequential"


@pytest.mark.parametrize(("kept", "window"), [(2, 1), (4, 2)])
def test_batches_of_like_length_read_every_file_once_too(module_of, capsys, kept, window):
    made = module_of(cache="files", cache_files=kept, shuffle="block", batch_size=3)
    loader = made.train_dataloader()
    assert loader.batch_sampler.sampler.window_chunks == window
    ids(loader)
    assert loader.dataset.chunk_loads == 3
    assert "reads files again" not in capsys.readouterr().out


@pytest.mark.parametrize("kept", [1, 2])
def test_validation_reads_its_files_once(module_of, kept):
    named = {"batch_ids_train": [4], "batch_ids_val": [1, 2, 3], "batch_ids_test": [5]}
    loader = module_of(cache="files", cache_files=kept, batch_size=3, **named).val_dataloader()
    assert len(flat(ids(loader))) == 60
    assert loader.dataset.chunk_loads == 3


def test_one_kept_file_and_batches_of_like_length_are_told_what_that_costs(module_of, capsys):
    loader = module_of(cache="files", cache_files=1, batch_size=3).train_dataloader()
    assert "cache_files=1 reads files again for batches at their edges" in capsys.readouterr().out
    ids(loader)
    assert loader.dataset.chunk_loads > 3


def test_packed_events_are_split_by_the_files_they_came_from(module_of, files, tmp_path):
    prepare(str(files.folder), str(tmp_path / "packed"))
    loose, packed = module_of(), module_of(path=str(tmp_path / "packed"))
    for name in ("train", "val", "test"):
        of = [
            sorted(flat([b["event_id"].tolist() for b in getattr(made, f"{name}_dataloader")()]))
            for made in (loose, packed)
        ]
        if name == "train":
            # the last batch, of other events, is left out
            table = KaggleFolder(files.folder).table.event_id
            assert set(of[1]) <= set(table[loose.split_indices["train"]].tolist())
            assert len(of[0]) == len(of[1])
        else:
            assert of[0] == of[1]
    assert packed.identity()["cache"] == "memmap"
    assert torch.allclose(packed.constant_direction, loose.constant_direction, atol=1e-6)


def test_named_batches_alone_are_read(module_of, files):
    (files.folder / "train/batch_2.parquet").write_bytes(b"rubbish")
    made = module_of(batch_ids_train=[1, 3], batch_ids_val=[4], batch_ids_test=[5])
    assert [len(made.split_indices[name]) for name in ("train", "val", "test")] == [40, 10, 10]


def test_events_of_training_alone_are_cut(module_of):
    made = module_of(max_events=25)
    assert [len(made.split_indices[name]) for name in ("train", "val", "test")] == [25, 10, 10]
    assert max(made.split_indices["train"]) < 40


def test_the_constant_direction_is_the_mean_of_the_training_split(module_of):
    made = module_of()
    directions = torch.cat([b["direction"] for b in made.train_dataloader()])
    whole = torch.cat([made.training_events.__getitems__(list(range(60)))["direction"]])
    assert made.constant_direction == pytest.approx((whole.mean(0) / whole.mean(0).norm()).numpy(), abs=1e-5)
    assert len(directions) == 56


def test_what_is_cut_and_left_out_is_counted_and_printed(module_of, files, capsys):
    files.pulses[1]["auxiliary"][: int(files.events[1]["last_pulse_index"][0]) + 1] = True
    files.write()
    made = module_of(max_pulses=20, leave_out=[0, 3])
    assert len(made.training_events) == 58
    told = capsys.readouterr().out
    longer = int((KaggleFolder(files.folder).table.pulse_count > 20).sum())
    assert made.n_cut == longer
    assert f"{longer} of 80 events have more than max_pulses=20 pulses, up to" in told
    assert f"{made.n_all_auxiliary} events have no HLC pulse: all their pulses are used" in told
    assert "left out 2 training events; 58 are left" in told
    assert "60 train, 10 val, 10 test events" in told


@pytest.mark.parametrize(("cache", "most"), [("memory", 0), ("memory", 3), ("files", 0)])
def test_what_a_limit_of_auxiliary_pulses_leaves_out_is_printed(module_of, capsys, cache, most):
    made = module_of(max_auxiliary=most, cache=cache)
    told = capsys.readouterr().out
    assert f"max_auxiliary={most}: further auxiliary pulses of events that have HLC ones are left out" in told
    used, hit = (
        sum(len(b["sensors"]) for load in (m.val_dataloader(), m.test_dataloader()) for b in load)
        + len(m.training_events.__getitems__(range(60))["sensors"])
        for m in (made, module_of())
    )
    if cache == "memory":
        assert (f"out; {used} of the {hit} sensors that were hit are left." in told) == (most == 0)
        assert ("out; at most " in told) == (most > 0)


def test_a_database_is_split_at_random_and_its_empty_events_are_counted(tmp_path, capsys):
    path = GraphnetTablesOnDisk("prometheus", n_events=40).write_sqlite(tmp_path / "events.db")
    made = NeutrinoDataModule(str(path), batch_size=8)
    made.setup()
    told = capsys.readouterr().out
    assert "there is one file, so that its events are split at random" in told
    assert "left out 1 events without a pulse; 39 are left" in told
    assert made.n_empty == 1
    assert [len(made.split_indices[name]) for name in ("train", "val", "test")] == [31, 3, 3]
    assert len(made.geometry) <= 25


def test_the_identity_says_what_data_they_are_and_is_plain(module_of, files):
    identity = module_of().identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["source"] == str(files.folder)
    assert identity["splits"] == {"train": 60, "val": 10, "test": 10}
    files.events[1]["azimuth"][0] += 0.1
    files.write()
    assert module_of().identity()["events_sha256"] != identity["events_sha256"]


def test_files_without_truth_can_be_predicted_in_their_order(files, capsys):
    files.write("test", truth=False)
    made = NeutrinoDataModule(str(files.folder), predict_on="files", batch_size=8)
    made.setup("predict")
    batches = list(made.predict_dataloader())
    assert flat([b["event_id"].tolist() for b in batches]) == KaggleFolder(files.folder).table.event_id.tolist()
    assert "direction" not in batches[0]


def test_data_without_truth_are_not_trained_on(tmp_path):
    tables = GraphnetTablesOnDisk("icecube")
    folder = tables.write_parquet(tmp_path / "folder")
    for part in (folder / "merged/truth").iterdir():
        part.unlink()
    with pytest.raises(DataError, match="has no azimuth and zenith, which training and tests need"):
        NeutrinoDataModule(str(folder)).setup()


def test_a_resumed_epoch_is_asked_of_the_trainer(module_of):
    made = module_of()
    progress = SimpleNamespace(current=SimpleNamespace(processed=4))
    made.trainer = SimpleNamespace(fit_loop=SimpleNamespace(epoch_progress=progress))
    assert made.train_dataloader().batch_sampler.sampler.epoch == 4


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_workers_give_the_same_batches(module_of, workers):
    assert ids(module_of(num_workers=workers).val_dataloader()) == ids(module_of().val_dataloader())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "kagle"}, "format='kagle'.*Did you mean 'kaggle'"),
        ({"path": 3}, "path=3"),
        ({"n_events": 0}, "n_events=0"),
        ({"batch_size": "many"}, "batch_size='many'"),
        ({"max_events": 0}, "max_events=0"),
        ({"max_pulses": 0}, "max_pulses=0"),
        ({"max_pulses_per_sensor": 0}, "max_pulses_per_sensor=0"),
        ({"max_auxiliary": -1}, "max_auxiliary=-1"),
        ({"shuffle": "ful"}, "shuffle='ful'.*Did you mean 'full'"),
        ({"bucket": "no"}, "bucket='no'"),
        ({"cache": "ram"}, "cache='ram'"),
        ({"cache_files": 0}, "cache_files=0"),
        ({"memory_limit_gb": -1}, "memory_limit_gb=-1"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"leave_out": 3}, "leave_out=3"),
        ({"predict_on": "train"}, "predict_on='train'"),
        ({"pointing": "up"}, "pointing='up'"),
        ({"train": 0.9, "val": 0.2}, r"add up to 1\.2"),
        ({"batch_ids_train": [1]}, "batch_ids_val is not"),
        ({"max_tokens": 100}, "max_tokens=100.*at least max_pulses=512"),
        ({"max_tokens": 1000, "bucket": False}, "max_tokens needs bucket=true"),
    ],
)
def test_arguments_outside_their_range_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        NeutrinoDataModule(**arguments)


# --- toy events -------------------------------------------------------------------------------------------------------


@pytest.fixture
def toy_events(tmp_path, monkeypatch):
    monkeypatch.setattr(toy, "EVENTS_PER_FILE", 10)

    def make(**arguments):
        made = NeutrinoDataModule(n_events=40, cache_dir=str(tmp_path / "cache"), batch_size=8, **arguments)
        made.prepare_data()
        made.setup()
        return made

    return make


def test_toy_events_are_generated_once(toy_events, tmp_path, capsys, monkeypatch):
    first = toy_events()
    assert "generating 40 TOY events" in capsys.readouterr().out
    monkeypatch.setattr(toy, "write_event_files", lambda *a, **k: pytest.fail("generated again"))
    again = toy_events()
    assert "40 TOY events were generated before" in capsys.readouterr().out
    assert first.identity() == again.identity()
    assert first.identity()["source"] == "TOY events"
    assert [len(first.split_indices[name]) for name in ("train", "val", "test")] == [20, 10, 10]
    folders = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert folders == [f"{folders[0]}", f"{folders[0]}.json"]


@pytest.mark.slow
def test_other_settings_are_other_files(toy_events, tmp_path):
    toy_events()
    toy_events(seed=1)
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 2


def test_settings_that_do_not_fit_their_folder_are_refused(toy_events, tmp_path):
    toy_events()
    (beside,) = (tmp_path / "cache").glob("*.json")
    beside.write_text("{}")
    with pytest.raises(DataError, match=r"has other settings than .* Take both away"):
        toy_events()


def test_generation_that_is_interrupted_leaves_nothing_that_a_later_run_would_use(toy_events, tmp_path, monkeypatch):
    from stablelit.families.neutrinos import event_files

    write = event_files.DetectorGeometry.write_csv

    def interrupted(self, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(event_files.DetectorGeometry, "write_csv", interrupted)
    with pytest.raises(KeyboardInterrupt):
        toy_events()
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.setattr(event_files.DetectorGeometry, "write_csv", write)
    assert len(toy_events().training_events) == 20


def test_toy_events_are_kept_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    assert toy.default_cache_dir() == tmp_path / "there/stablelit/neutrinos"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert toy.default_cache_dir() == tmp_path / ".cache/stablelit/neutrinos"


def test_toy_events_have_no_files_without_truth(toy_events):
    with pytest.raises(ConfigurationError, match="toy events have no test/ files"):
        toy_events(predict_on="files").predict_dataloader()
