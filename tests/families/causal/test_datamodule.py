from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from stablelit.data import SkippedBatch
from stablelit.errors import ConfigurationError, DataError
from stablelit.families.causal.datamodule import SensorDataModule
from stablelit.families.causal.panel import SensorPanel
from stablelit.families.causal.scaler import ColumnScaler


def toy(**arguments) -> SensorDataModule:
    sem = {"nodes": 4, "rows": 200, "edges": 4, "corruption": {"mcar": 0.1}, **arguments.pop("sem", {})}
    made = SensorDataModule(sem=sem, **arguments)
    made.setup()
    return made


def table(rows: int = 60, columns: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns))


def test_the_whole_training_split_is_one_batch_and_always_the_same_object():
    made = toy(lags=2, steps_per_epoch=7)
    loader = made.train_dataloader()
    batches = list(loader)
    assert len(loader) == len(batches) == 7
    assert all(batch is batches[0] for batch in batches)
    # also in the next epoch, and of another loader
    assert next(iter(loader)) is batches[0]
    assert next(iter(made.train_dataloader())) is batches[0]
    n = len(made.split_indices["train"])
    assert {name: (tuple(v.shape), v.dtype) for name, v in batches[0].items()} == {
        "values": ((n, 3, 4), torch.float32),
        "mask": ((n, 3, 4), torch.bool),
        "scored": ((n, 4), torch.bool),
        "environment": ((n,), torch.int64),
        "id": ((n,), torch.int64),
    }
    assert batches[0]["id"].tolist() == made.split_indices["train"]


def test_validation_and_test_are_one_batch_each_and_prediction_has_every_row():
    made = toy(lags=2, gap=5)
    for name, loader in (("val", made.val_dataloader()), ("test", made.test_dataloader())):
        (batch,) = list(loader)
        assert batch["id"].tolist() == made.split_indices[name]
    (batch,) = list(made.predict_dataloader())
    assert batch["id"].tolist() == list(range(2, 200))


def test_values_are_raw_and_holes_are_zero():
    made = toy()
    (batch,) = list(made.val_dataloader())
    panel = made.panel
    rows = made.split_indices["val"]
    assert np.array_equal(batch["values"][:, 0].numpy(), panel.values[rows].astype(np.float32))
    assert np.array_equal(batch["mask"][:, 0].numpy(), panel.mask[rows])
    assert (batch["values"][~batch["mask"]] == 0).all()
    assert 0 < (~batch["mask"]).float().mean() < 0.3


def test_batches_of_rows_cover_the_training_split_in_an_order_of_seed_and_epoch():
    made = toy(batch_size=16)
    loader = made.train_dataloader()
    first = [batch["id"] for batch in loader]
    assert len(first) == 140 // 16
    assert all(len(ids) == 16 for ids in first)
    assert len(set(torch.cat(first).tolist())) == 128
    assert set(torch.cat(first).tolist()) <= set(made.split_indices["train"])
    again = [batch["id"] for batch in made.train_dataloader()]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    loader.sampler.set_epoch(1)
    assert not torch.equal(next(iter(loader))["id"], first[0])
    assert [len(b["id"]) for b in toy(batch_size=300).train_dataloader()] == [140]
    assert sum(len(b["id"]) for b in made.val_dataloader()) == 30


def test_batches_of_workers_are_those_without():
    plain, workers = toy(batch_size=32), toy(batch_size=32, num_workers=1)
    for one, other in zip(plain.train_dataloader(), workers.train_dataloader(), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_split_of_no_rows_has_no_loader():
    made = toy(train=1.0, val=0.0, test=0.0)
    assert made.val_dataloader() == made.test_dataloader() == []
    assert len(made.split_indices["train"]) == 200


def test_names_truth_and_scaler_are_those_of_the_training_rows():
    made = toy()
    assert made.names == ("x0", "x1", "x2", "x3")
    assert made.truth.dtype == torch.bool
    assert made.truth.sum() == 4
    rows = made.split_indices["train"]
    by_hand = ColumnScaler.fit(made.panel.values[rows], made.panel.mask[rows], made.names)
    assert torch.equal(made.scaler.mean, by_hand.mean)
    values = made.panel.values.copy()
    others = np.setdiff1d(np.arange(200), rows)
    values[others] *= 100
    changed = SensorDataModule.from_panel(SensorPanel.from_values(np.where(made.panel.mask, values, np.nan)))
    assert torch.equal(changed.scaler.mean, made.scaler.mean)
    assert torch.equal(changed.scaler.scale, made.scaler.scale)
    assert changed.truth is None


def test_training_panel_is_the_training_rows_in_float64():
    made = toy(lags=1)
    rows = made.training_panel()
    assert rows.rows.tolist() == made.split_indices["train"]
    assert rows.values.shape == (len(rows.rows), 2, 4)
    assert np.array_equal(rows.values[:, 1], made.panel.values[rows.rows - 1])
    assert rows.values.dtype == np.float64


def test_rows_that_an_earlier_run_skipped_are_left_out_of_training_alone(tmp_path):
    whole = toy()
    skipped = SkippedBatch(0, 0, 0, 0, "the loss is not finite", "loss", True, (3, 4, 41), (3, 41))
    (tmp_path / "skipped.jsonl").write_text(skipped.line())
    train = whole.split_indices["train"]
    kept = [row for place, row in enumerate(train) if place not in (3, 41)]
    for given in (str(tmp_path), [3, 41]):
        for batch_size in (None, 138):
            made = toy(leave_out=given, batch_size=batch_size)
            assert sorted(next(iter(made.train_dataloader()))["id"].tolist()) == kept
            assert made.training_panel().rows.tolist() == kept
            assert made.identity()["n_left_out"] == 2
            assert made.split_indices == whole.split_indices
            assert "left out 2 training rows; 138 are left" in made.notes
            assert not torch.equal(made.scaler.mean, whole.scaler.mean)
    with pytest.raises(DataError, match="no sample 140 among 140"):
        toy(leave_out=[140]).train_dataloader()


def test_toy_data_say_so_and_how_much_their_scale_gives_away(capsys):
    made = toy(seed=3)
    said = capsys.readouterr().out
    assert "TOY data (linear structural equations, seed 3): 200 rows, 4 columns" in said
    assert "4 true edges" in said
    identity = made.identity()
    assert f"varsortability {identity['varsortability']:.2f}, R2-sortability {identity['r2_sortability']:.2f}" in said
    assert f"corrupted cells: mcar {100 * made.panel.missing_share:.1f} %" in said
    assert "toy" in identity["source"]
    assert identity["sem"]["nodes"] == 4
    assert toy(sem={"seed": 8}, seed=3).identity()["sem"]["seed"] == 8
    made.setup("fit")
    assert capsys.readouterr().out.count("TOY data (linear structural equations, seed 3)") == 0


def test_a_file_is_identified_with_its_mask_and_its_truth(tmp_path, capsys):
    values = table()
    np.savetxt(tmp_path / "a.csv", values, delimiter=",", header="raf,mek,erk", comments="")
    np.save(tmp_path / "m.npy", np.ones((60, 3)))
    (tmp_path / "g.csv").write_text("Cause,Effect\nraf,mek\n")
    made = SensorDataModule(str(tmp_path / "a.csv"), mask=str(tmp_path / "m.npy"), truth=str(tmp_path / "g.csv"))
    identity = made.identity()
    for name, place in (("a.csv", identity), ("m.npy", identity["mask"]), ("g.csv", identity["truth"])):
        assert place["source"] == str(tmp_path / name)
        assert place["sha256"] == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert identity["names"] == ["raf", "mek", "erk"]
    assert identity["true_edges"] == 1
    assert identity["splits"] == {"train": 42, "val": 9, "test": 9}
    assert made.truth.tolist() == [[False, True, False], [False] * 3, [False] * 3]
    assert "varsortability" in capsys.readouterr().out
    turned = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0]])
    np.save(tmp_path / "g.npy", turned)
    arguments = {"truth": str(tmp_path / "g.npy"), "truth_convention": "column"}
    assert torch.equal(SensorDataModule(str(tmp_path / "a.csv"), **arguments).truth, made.truth)


def test_rows_in_memory_are_identified_by_their_values():
    panel = SensorPanel.from_values(table())
    identity = SensorDataModule.from_panel(panel, train=0.5).identity()
    assert identity["source"] == "panel in memory"
    assert identity["sha256"] == panel.fingerprint()
    with pytest.raises(ConfigurationError, match="None, of rows in memory"):
        SensorDataModule.from_panel(panel, path="a.csv")
    with pytest.raises(DataError, match="panel: there is 1 column"):
        SensorDataModule.from_panel(SensorPanel.from_values(table(columns=1)))


def test_fewer_rows_than_columns_are_told_with_the_numbers():
    made = SensorDataModule.from_panel(SensorPanel.from_values(table(rows=20, columns=30)), split="time")
    assert any(note.startswith("fewer training rows (14) than columns (30)") for note in made.notes)
    assert not any("fewer training rows" in note for note in toy().notes)


def test_rows_that_are_in_no_split_are_counted():
    notes = toy(lags=1, gap=3, train=0.5, val=0.2, test=0.1).notes
    assert any(note == "rows at the beginning of a recording that are only history (lags=1): 1" for note in notes)
    assert any("rows are in no split, for gaps of 3 between them" in note for note in notes)
    assert any("rows are in no split, since train, val and test add up to less than 1" in note for note in notes)


def test_irregular_times_are_told_where_lags_are_asked_for():
    time = np.arange(60.0)
    time[30:] += 5.0
    panel = SensorPanel.from_values(table(), time=time)
    said = "1 of 59 steps between rows are not 1 (the median) but 1 to 6: a lag of one row is no fixed time (lags=1)"
    assert any(note.startswith(said) for note in SensorDataModule.from_panel(panel, lags=1).notes)
    assert not any("steps between rows" in note for note in SensorDataModule.from_panel(panel).notes)


def test_a_column_that_float32_cannot_tell_apart_is_told():
    values = table()
    values[:, 1] += 1e7
    notes = SensorDataModule.from_panel(SensorPanel.from_values(values)).notes
    assert any(note.startswith("levels that float32 keeps in a standard deviation are few: x1 (1)") for note in notes)


def test_environments_and_what_was_set_from_outside_are_told(tmp_path):
    rows = "\n".join(f"{'drug' if i >= 40 else 'none'},{a:.4f},{b:.4f}" for i, (a, b) in enumerate(table(columns=2)))
    (tmp_path / "a.csv").write_text("site,raf,mek\n" + rows)
    made = SensorDataModule(
        str(tmp_path / "a.csv"), environment_column="site", interventions={"drug": ["raf"]}, batch_size=60, train=1.0,
        val=0.0, test=0.0,
    )  # fmt: skip
    (batch,) = list(made.train_dataloader())
    drug = batch["id"] >= 40
    assert torch.equal(batch["environment"], drug.long())
    assert torch.equal(batch["scored"], torch.stack([~drug, torch.ones_like(drug)], dim=1))
    assert batch["mask"].all()
    assert "environments: none (40 rows), drug (20 rows)" in made.notes
    assert "20 cells were set from outside and are not scored" in made.notes


def test_a_column_that_never_varies_in_training_is_named():
    values = table(rows=100)
    values[:75, 2] = 4.0
    made = SensorDataModule.from_panel(SensorPanel.from_values(values), split="time")
    with pytest.raises(DataError, match=r"x2 \(always 4\): the same value in all 70 training rows"):
        made.scaler  # noqa: B018


def test_a_batch_that_comes_again_is_moved_once():
    made = toy()
    (batch,) = list(made.val_dataloader())
    device = torch.device("cpu")
    moved = made.transfer_batch_to_device(batch, device, 0)
    assert made.transfer_batch_to_device(batch, device, 0) is moved
    elsewhere = made.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert elsewhere["values"].device.type == "meta"
    other = toy(batch_size=10)
    small = next(iter(other.val_dataloader()))
    assert other.transfer_batch_to_device(small, device, 0) is not other.transfer_batch_to_device(small, device, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": 3}, "path=3"),
        ({"path": ""}, "path=''"),
        ({"columns": ["a"]}, r"columns=\['a'\] is not allowed. Allowed: None without a file. Give path"),
        ({"truth": "g.csv"}, "truth='g.csv'.*Give path"),
        ({"sem": {"node": 3}}, "sem='node'.*Did you mean 'nodes'"),
        ({"sem": [3]}, r"sem=\[3\]"),
        ({"sem": {"nodes": 1}}, "SyntheticSEM: nodes=1"),
        ({"lags": 1, "gap": 0}, "gap=0.*at least lags=1"),
        ({"train": 50}, "train=50"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch=0"),
        ({"scale": "standart"}, "scale='standart'.*Did you mean 'standard'"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"seed": None}, "seed=None"),
        ({"leave_out": 3}, "leave_out=3"),
        ({"path": "a.csv", "truth_convention": "rows"}, "truth_convention='rows'"),
        ({"path": "a.csv", "allow_cyclic": 1}, "allow_cyclic=1"),
        ({"path": "a.csv", "truth": 5}, "truth=5"),
    ],
)
def test_arguments_are_checked_in_the_constructor(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        SensorDataModule(**arguments)


def test_an_unknown_suffix_is_refused_in_the_constructor():
    with pytest.raises(DataError, match=r"no format goes with the suffix '\.xlsx'"):
        SensorDataModule("sensors.xlsx")


def test_a_truth_inside_the_file_is_used_and_a_cycle_in_it_refused(tmp_path):
    truth = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    np.savez(tmp_path / "a.npz", values=table(), truth=truth)
    assert SensorDataModule(str(tmp_path / "a.npz")).truth.tolist() == truth.astype(bool).tolist()
    truth[2, 0] = 1
    np.savez(tmp_path / "b.npz", values=table(), truth=truth)
    with pytest.raises(DataError, match=r"b\.npz: the true graph has a cycle"):
        SensorDataModule(str(tmp_path / "b.npz")).setup()
    assert SensorDataModule(str(tmp_path / "b.npz"), allow_cyclic=True).truth.sum() == 3


def test_sachs_with_its_consensus_graph(test_data):
    folder = test_data / "causal"
    made = SensorDataModule(
        str(folder / "sachs.2005.continuous.txt"), truth=str(folder / "sachs.2005.ground.truth.graph.txt"), split="iid"
    )
    identity = made.identity()
    assert identity["n_rows"] == 7466
    assert identity["true_edges"] == 20
    assert 0.3 < identity["varsortability"] < 0.9
    assert identity["missing_share"] == 0.0
