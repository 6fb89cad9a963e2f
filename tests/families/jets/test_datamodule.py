from __future__ import annotations

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from stablelit.data import SkippedBatch
from stablelit.errors import ConfigurationError, DataError
from stablelit.families.jets.datamodule import JetDataModule
from stablelit.families.jets.readers import write_jets
from stablelit.families.jets.scaler import JetScaler


def small(**arguments):
    made = JetDataModule(**{"n_jets": 80, "train": 50, "val": 15, "test": 10, "batch_size": 16, **arguments})
    made.setup()
    return made


def test_batches_have_the_promised_keys_and_shapes():
    batches = list(small().train_dataloader())
    assert len(batches) == 3
    for batch in batches:
        assert {name: tuple(values.shape) for name, values in batch.items()} == {
            "particles": (16, 30, 3),
            "mask": (16, 30),
            "jet": (16, 4),
            "label": (16,),
            "id": (16,),
        }
    assert sum(len(batch["label"]) for batch in small().val_dataloader()) == 15


def test_a_training_set_smaller_than_a_batch_is_one_batch():
    assert [len(b["label"]) for b in small(batch_size=64).train_dataloader()] == [50]


def test_splits_are_disjoint_and_depend_on_the_seed_alone():
    first, again, other = small().split_indices, small().split_indices, small(seed=1).split_indices
    assert first == again
    assert first != other
    everything = first["train"] + first["val"] + first["test"]
    assert len(set(everything)) == len(everything) == 75
    assert max(everything) < 80


def test_validation_and_test_jets_stay_when_the_training_share_changes():
    few, many = small(train=10).split_indices, small().split_indices
    assert few["val"] == many["val"]
    assert few["test"] == many["test"]
    assert few["train"] == many["train"][:10]


def test_shares_become_counts():
    made = small(n_jets=1000, train=0.7, val=0.15, test=0.15)
    assert {name: len(indices) for name, indices in made.split_indices.items()} == {
        "train": 700,
        "val": 150,
        "test": 150,
    }


def test_scaler_sees_training_jets_only(tmp_path, toy_jets):
    write_jets(tmp_path / "a.npz", toy_jets)
    made = JetDataModule(str(tmp_path / "a.npz"), train=200, val=50, test=50)
    before = made.scaler
    train = set(made.split_indices["train"])
    others = [i for i in range(300) if i not in train]
    particles = toy_jets.particles.copy()
    particles[others] *= 0.5
    write_jets(tmp_path / "b.npz", replace(toy_jets, particles=particles))
    after = JetDataModule(str(tmp_path / "b.npz"), train=200, val=50, test=50).scaler
    for name in vars(before):
        assert torch.equal(getattr(before, name), getattr(after, name))
    chosen = torch.tensor(sorted(train))
    by_hand = JetScaler.fit(*(torch.from_numpy(getattr(toy_jets, n))[chosen] for n in ("particles", "mask", "jet")))
    assert torch.allclose(before.particle_std, by_hand.particle_std, atol=1e-6)


def test_the_training_order_begins_at_the_epoch_of_the_run():
    made = small()
    progress = SimpleNamespace(current=SimpleNamespace(processed=3))
    made.trainer = SimpleNamespace(fit_loop=SimpleNamespace(epoch_progress=progress))
    assert made.train_dataloader().sampler.epoch == 3


def test_setup_twice_changes_nothing():
    made = small()
    jets = made.jets
    made.setup("fit")
    assert made.jets is jets


def test_splits_that_need_more_jets_than_there_are_name_both_numbers():
    with pytest.raises(ConfigurationError, match="need 95 jets, but toy_shower has 80"):
        small(train=70)


def test_a_share_that_leaves_no_jet_is_refused():
    with pytest.raises(ConfigurationError, match=r"test=0\.001 \(0 jets\)"):
        small(train=0.5, val=0.2, test=0.001)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 0}, "train=0"),
        ({"val": 1.5}, "val=1.5"),
        ({"test": "ten"}, "test='ten'"),
        ({"train": True}, "train=True"),
        ({"train": 0.8, "val": 0.3, "test": 0.1}, "add up to 1.2"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"n_particles": 2.0}, "n_particles=2.0"),
        ({"seed": None}, "seed=None"),
        ({"path": 3}, "path=3"),
        ({"classes": ()}, r"classes=\(\)"),
        ({"classes": ("q", "q")}, "different names"),
    ],
)
def test_arguments_are_checked_in_the_constructor(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        JetDataModule(**arguments)


def test_an_unknown_suffix_is_refused_in_the_constructor():
    with pytest.raises(DataError, match=r"no format goes with the suffix '\.csv'"):
        JetDataModule("jets.csv")


def test_empty_jets_and_cut_particles_are_counted(tmp_path, toy_jets, capsys):
    particles, mask = toy_jets.particles.copy(), toy_jets.mask.copy()
    particles[4], mask[4] = 0.0, False
    write_jets(tmp_path / "a.h5", type(toy_jets)(particles, mask, toy_jets.jet, toy_jets.label, toy_jets.classes))
    made = JetDataModule(str(tmp_path / "a.h5"), n_particles=10)
    identity = made.identity()
    assert identity["n_empty_dropped"] == 1
    assert identity["n_jets"] == 299
    assert 0 < identity["lost_pt_share"] < 0.5
    said = capsys.readouterr().out
    assert "dropped 1 jets without a particle; 299 are left" in said
    assert f"kept the 10 hardest of up to 30 particles a jet; {100 * identity['lost_pt_share']:.2f} %" in said
    assert identity["sha256"] == hashlib.sha256((tmp_path / "a.h5").read_bytes()).hexdigest()
    assert identity["bytes"] == (tmp_path / "a.h5").stat().st_size


def test_toy_jets_say_that_they_are_toys():
    assert "toy" in small().identity()["source"]


def test_jets_that_an_earlier_run_skipped_are_left_out_of_training_alone(tmp_path):
    whole = small()
    ids = (3, 41)
    skipped = SkippedBatch(0, 0, 0, 0, "the loss is not finite", "loss", True, (3, 4, 41), ids)
    (tmp_path / "skipped.jsonl").write_text(skipped.line())
    for given in (str(tmp_path), list(ids)):
        made = small(leave_out=given)
        assert made.identity()["n_left_out"] == 2
        assert made.split_indices == whole.split_indices
        seen = torch.cat([batch["jet"] for batch in made.train_dataloader()])
        kept = [place for place in range(50) if place not in ids]
        tensors = {name: values[kept] for name, values in whole.training_jets.tensors.items()}
        assert {tuple(row) for row in seen.tolist()} == {tuple(row) for row in tensors["jet"].tolist()}
        expected = JetScaler.fit(tensors["particles"], tensors["mask"], tensors["jet"])
        assert torch.equal(expected.particle_mean, made.scaler.particle_mean)
        assert sum(len(batch["label"]) for batch in made.val_dataloader()) == 15


def test_leaving_out_what_is_not_there_is_told():
    with pytest.raises(DataError, match="no sample 50 among 50"):
        small(leave_out=[50]).train_dataloader()
    with pytest.raises(ConfigurationError, match="leave_out=3"):
        small(leave_out=3)


def test_some_classes_of_a_file_are_kept_and_labelled_by_their_place(tmp_path, toy_jets):
    write_jets(tmp_path / "a.npz", toy_jets)
    made = JetDataModule(str(tmp_path / "a.npz"), classes=["t", "q"])
    made.setup()
    assert made.jets.classes == ("t", "q")
    wanted = [("t", "q").index(toy_jets.classes[i]) for i in toy_jets.label if toy_jets.classes[i] != "g"]
    assert made.jets.label.tolist() == wanted
    with pytest.raises(ConfigurationError, match=r"classes='top' is not allowed. Allowed: q, g, t"):
        JetDataModule(str(tmp_path / "a.npz"), classes="top").setup()


def test_several_files_are_identified_one_by_one(tmp_path, toy_jets):
    for name, rows in (("g", slice(0, 100)), ("q", slice(100, 300))):
        write_jets(tmp_path / f"{name}.npz", toy_jets.take(rows))
    made = JetDataModule([str(tmp_path / "g.npz"), str(tmp_path / "q.npz")], train=200, val=25, test=25)
    identity = made.identity()
    assert [f["sha256"] for f in identity["files"]] == [
        hashlib.sha256((tmp_path / f"{name}.npz").read_bytes()).hexdigest() for name in "gq"
    ]
    assert identity["splits"] == {"train": 200, "val": 25, "test": 25}
    pattern = JetDataModule(str(tmp_path / "*.npz"), train=200, val=25, test=25)
    assert pattern.split_indices == made.split_indices
    assert len(pattern.identity()["files"]) == 2


def test_jets_carry_their_place_among_all():
    data = small()
    data.setup()
    ids = torch.cat([batch["id"] for batch in data.predict_dataloader()])
    assert ids.tolist() == data.split_indices["test"]
    batch = next(iter(data.train_dataloader()))
    assert (batch["particles"].numpy() == data.jets.particles[batch["id"].numpy()]).all()
