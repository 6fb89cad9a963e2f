from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from stablelit.errors import ConfigurationError
from stablelit.families.proteins import ProteinDataModule
from stablelit.families.proteins.alphabet import PAD, UNKNOWN
from stablelit.families.proteins.corpora import IIDCorpus

CONF = Path(__file__).resolve().parents[3] / "conf" / "data"


@pytest.fixture
def made():
    def make(**settings):
        defaults = {"corpus": "iid", "n_sequences": 400, "length": 16, "batch_size": 32}
        return ProteinDataModule(**{**defaults, **settings})

    return make


def everything(loader):
    return [{name: value.clone() for name, value in batch.items()} for batch in loader]


def same(one, other):
    return all(torch.equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in a)


def test_splits_share_no_sequence_and_have_their_shares(made):
    data = made()
    sizes = {name: len(rows) for name, rows in data.split_indices.items()}
    assert sizes == {"train": 360, "val": 20, "test": 20}
    every = [row for rows in data.split_indices.values() for row in rows]
    assert sorted(every) == list(range(400))
    ids = torch.cat([batch["id"] for batch in data.val_dataloader()])
    assert sorted(ids.tolist()) == data.split_indices["val"]


def test_an_epoch_has_every_training_sequence_but_those_of_a_short_last_batch(made):
    ids = torch.cat([batch["id"] for batch in made().train_dataloader()])
    assert len(ids) == len(ids.unique()) == 360 // 32 * 32
    few = torch.cat([batch["id"] for batch in made(batch_size=500).train_dataloader()])
    assert len(few) == 360


def test_the_order_depends_on_seed_and_epoch_alone(made):
    data = made(seed=3)
    first = everything(data.train_dataloader())
    assert same(first, everything(made(seed=3).train_dataloader()))
    loader = data.train_dataloader()
    loader.sampler.set_epoch(1)
    assert not torch.equal(first[0]["id"], everything(loader)[0]["id"])


def test_workers_give_the_same_batches(made):
    settings = {"length": {"median": 20, "longest": 60}, "max_length": 16, "seed": 1, "length_curriculum": True}
    alone, helped = made(**settings), made(**settings, num_workers=1)
    helped.set_difficulty(0.5)
    alone.set_difficulty(0.5)
    loaders = [data.train_dataloader() for data in (alone, helped)]
    for epoch in (0, 1):
        for loader in loaders:
            loader.sampler.set_epoch(epoch)
        one, other = (everything(loader) for loader in loaders)
        assert same(one, other)
        assert max(batch["tokens"].shape[1] for batch in one) == 8


def test_a_new_difficulty_takes_effect_in_the_midst_of_an_epoch(made):
    data = made(length_curriculum=True)
    batches = iter(data.train_dataloader())
    assert next(batches)["tokens"].shape[1] == 16
    data.set_difficulty(0.25)
    assert next(batches)["tokens"].shape[1] == 4
    assert data.difficulty_info() == {"longest_window": 4.0}
    data.set_difficulty(1.0)
    assert next(batches)["tokens"].shape[1] == 16


def test_evaluation_is_at_full_difficulty(made):
    data = made(length_curriculum=True)
    before = everything(data.val_dataloader())
    data.set_difficulty(0.1)
    assert same(before, everything(data.val_dataloader()))


def test_the_most_probable_sequences_come_first(made):
    data = made(subset_curriculum=True, corpus="motif_hmm")
    data.set_difficulty(0.1)
    drawn = set(torch.cat([batch["id"] for batch in data.train_dataloader()]).tolist())
    sequences = data.training_sequences.sequences
    rows = np.array(data.split_indices["train"])
    tokens = torch.from_numpy(np.stack([sequences[row] for row in rows]).astype(np.int64))
    easiest = rows[np.argsort(-data.corpus.log_prob(tokens).numpy())[:36]]
    assert drawn <= set(easiest.tolist())
    assert len(drawn) > 30
    assert data.difficulty_info() == {"share_of_sequences": 0.1}


def test_without_a_curriculum_nobody_listens_to_a_difficulty(made):
    assert not hasattr(made(), "set_difficulty")


def test_the_unigram_of_toy_sequences_is_that_of_their_law(made):
    data = made()
    assert data.unigram().numpy() == pytest.approx(IIDCorpus().unigram())
    assert data.unigram_entropy == pytest.approx(data.entropy)
    assert data.entropy_estimate.standard_error == 0


def test_the_true_nll_of_a_split_is_near_the_entropy(made):
    data = made(corpus="motif_hmm", n_sequences=4000, length=32)
    # of 200 sequences of 32 residues, nats a residue scatter by about 0.8 / sqrt(6400)
    assert data.true_nll("val") == pytest.approx(data.entropy, abs=0.05)
    assert data.entropy < data.unigram_entropy


def test_the_histogram_counts_training_windows(made):
    data = made(length={"median": 20, "longest": 60}, max_length=16)
    histogram = data.length_histogram
    assert histogram.shape == (17,)
    assert histogram.sum() == 360
    assert histogram[16] >= data.training_sequences.n_cut > 0


@pytest.mark.slow
def test_a_budget_of_tokens_is_kept_with_little_padding(made):
    data = made(length={"median": 270}, n_sequences=3000, max_tokens=4096, corpus="iid")
    loader = data.train_dataloader()
    cells = [batch["pad_mask"] for batch in loader]
    assert max(mask.numel() for mask in cells) <= 4096
    assert sum(int(mask.sum()) for mask in cells) / sum(mask.numel() for mask in cells) >= 0.975


def test_pieces_of_evaluation_have_every_residue_once(made):
    data = made(length={"median": 20, "longest": 60}, max_length=16)
    lengths = data.training_sequences.sequences.lengths(np.array(data.split_indices["val"]))
    batches = everything(data.val_dataloader())
    assert sum(int(batch["loss_mask"].sum()) for batch in batches) == lengths.sum()
    ids = torch.cat([batch["id"] for batch in batches])
    assert len(ids.unique()) == len(ids)


def test_training_can_be_of_fewer_sequences_spread_evenly(made):
    data = made(max_sequences=10)
    rows = data.split_indices["train"]
    every = made().split_indices["train"]
    assert rows == [every[i * 36] for i in range(10)]
    assert data.split_indices["val"] == made().split_indices["val"]


def test_sequences_are_left_out_and_the_others_keep_the_windows_of_their_epoch_and_difficulty(made):
    settings = {"length": {"median": 20, "longest": 60}, "max_length": 16, "batch_size": 500, "length_curriculum": True}
    found = []
    for left_out in (None, [0, 5]):
        data = made(**settings, leave_out=left_out)
        data.set_difficulty(0.5)
        loader = data.train_dataloader()
        loader.sampler.set_epoch(3)
        found.append(next(iter(loader)))
    whole, left = found
    rows = made().split_indices["train"]
    assert set(whole["id"].tolist()) - set(left["id"].tolist()) == {rows[0], rows[5]}
    assert int(whole["length"].max()) == 8
    windows = {int(i): tokens.tolist() for i, tokens in zip(whole["id"], whole["tokens"], strict=True)}
    assert all(windows[int(i)] == t.tolist() for i, t in zip(left["id"], left["tokens"], strict=True))


def test_identity_is_plain_and_says_what_the_data_are(made):
    identity = made(seed=7, leave_out=[1]).identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["source"] == "TOY sequences (iid)"
    assert (identity["n_left_out"], identity["seed"], identity["splits"]["val"]) == (1, 7, 20)


def test_millions_of_sequences_are_not_listed(made, monkeypatch):
    monkeypatch.setattr("stablelit.families.proteins.datamodule._LISTED", 10)
    assert made().split_indices == {}


def test_what_is_cut_is_said(made, capsys):
    made(length={"median": 20, "longest": 60}, max_length=16).train_dataloader()
    assert "training sequences have more than max_length=16 residues" in capsys.readouterr().out
    data = made(length={"median": 20, "longest": 60}, max_length=16, evaluation_crop="first")
    data.val_dataloader()
    assert "lie outside their windows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"path": 3}, "path=3"),
        ({"corpus": "hmm"}, "corpus|name"),
        ({"n_sequences": 0}, "n_sequences=0"),
        ({"length": 2.5}, "length=2.5"),
        ({"max_length": "512"}, "max_length='512'"),
        ({"crop": "tile"}, "crop='tile'"),
        ({"evaluation_crop": "random"}, "evaluation_crop='random'"),
        ({"max_sequences": 0}, "max_sequences=0"),
        ({"train": 0.95, "val": 0.1}, "add up to"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"max_tokens": 15}, "max_tokens=15.*at least 16"),
        ({"max_tokens": 23, "multiple_of": 24}, "max_tokens=23.*at least 24"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"length_curriculum": "yes"}, "length_curriculum='yes'"),
        ({"policies": {"gaps": "strip"}}, "policies are of a FASTA file"),
        ({"subset_curriculum": True, "length": {"median": 20}}, "subset_curriculum needs toy sequences"),
        ({"subset_curriculum": True, "leave_out": [1]}, "subset_curriculum draws"),
        ({"subset_curriculum": True, "path": "x.fasta"}, "subset_curriculum needs toy sequences"),
    ],
)
def test_arguments_outside_their_range_are_refused(made, settings, told):
    with pytest.raises(ConfigurationError, match=told):
        made(**settings)


@pytest.mark.parametrize("difficulty", [-0.1, 1.1, float("nan"), "1"])
def test_a_difficulty_outside_its_range_is_refused(made, difficulty):
    with pytest.raises(ConfigurationError, match="difficulty"):
        made(length_curriculum=True).set_difficulty(difficulty)


@pytest.mark.parametrize("name", ["proteins", "proteins_uniref50"])
def test_shipped_settings_are_arguments_of_the_data_module(name):
    settings = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert settings.pop("_target_") == "stablelit.families.proteins.ProteinDataModule"
    known = inspect.signature(ProteinDataModule).parameters
    assert set(settings) <= set(known)
    if name == "proteins":
        assert {**settings, "seed": 0} == {key: parameter.default for key, parameter in known.items()}
    ProteinDataModule(**{**settings, "seed": 0})


def test_padding_and_unknown_residues_are_not_scored(made):
    batch = next(iter(made(length={"median": 20, "longest": 60}).val_dataloader()))
    assert torch.equal(batch["loss_mask"], (batch["tokens"] != PAD) & (batch["tokens"] != UNKNOWN))
    assert torch.equal(batch["pad_mask"], batch["tokens"] != PAD)


def test_prediction_goes_over_the_test_split_or_over_all_sequences_unsplit(tmp_path):
    path = tmp_path / "three.fasta"
    path.write_text(">a first\nMKV\n>b\nACDEFGHIK\n>c\nWW\n", encoding="utf-8")
    data = ProteinDataModule(str(path), cache_dir=str(tmp_path), max_length=4, predict_on="all", batch_size=2)
    data.prepare_data()
    # three sequences would leave a split empty
    data.setup("predict")
    batches = list(data.predict_dataloader())
    ids = torch.cat([batch["id"] for batch in batches])
    assert data.n_records == 3
    # windows of the second: its row, and twice that plus a multiple of three
    assert sorted(ids.tolist()) == [0, 1, 2, 1 + 3, 1 + 6]
    assert [data.record_name(row) for row in range(3)] == ["a", "b", "c"]
    assert sum(int(batch["loss_mask"].sum()) for batch in batches) == 14

    toy = ProteinDataModule(n_sequences=300, length=8)
    toy.setup("predict")
    found = torch.cat([batch["id"] for batch in toy.predict_dataloader()]).tolist()
    assert found == toy.split_indices["test"]
    assert toy.record_name(found[0]) == f"sequence_{found[0] + 1}"
    with pytest.raises(ConfigurationError, match="predict_on='both'.*test or all"):
        ProteinDataModule(predict_on="both")
