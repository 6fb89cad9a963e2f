from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.proteins import ProteinDataModule
from stablelit.families.proteins.alphabet import decode
from stablelit.families.proteins.prepared import default_cache_dir, prepared_once

from .readers.plain_fasta import plain_cleaned


@pytest.fixture
def fasta(tmp_path) -> Path:
    path = tmp_path / "some.fasta"
    path.write_text("".join(f">P{i}\n{'ACDEFGHIKLMNPQRSTVWYX' * (1 + i % 3)}\n" for i in range(200)))
    return path


def test_a_file_is_prepared_once_and_found_again(fasta, tmp_path):
    said = []
    first = prepared_once(fasta, tmp_path / "cache", {}, said.append)
    again = prepared_once(fasta, tmp_path / "cache", {}, said.append)
    assert first.path == again.path
    assert "preparing" in said[0]
    assert "was prepared before" in said[1]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_other_policies_and_a_file_that_has_changed_are_prepared_anew(fasta, tmp_path):
    one = prepared_once(fasta, tmp_path / "cache", {}, lambda told: None)
    other = prepared_once(fasta, tmp_path / "cache", {"ambiguous": "map"}, print)
    assert len(one) == 200
    os.utime(fasta, (1, 1))
    changed = prepared_once(fasta, tmp_path / "cache", {}, lambda told: None)
    assert len({one.path, other.path, changed.path}) == 3


def test_a_prepared_folder_is_taken_as_it_is(fasta, tmp_path):
    made = prepared_once(fasta, tmp_path / "cache", {"min_length": 30}, lambda told: None)
    said = []
    assert len(prepared_once(made.path, None, {}, said.append)) == len(made)
    assert "with fewer than min_length=30" in said[0]
    assert len(prepared_once(made.path, None, {"min_length": 30}, said.append)) == len(made)
    with pytest.raises(ConfigurationError, match="was prepared with policies="):
        prepared_once(made.path, None, {"min_length": 31}, said.append)


def test_policies_that_there_are_not_are_refused(fasta, tmp_path):
    with pytest.raises(ConfigurationError, match="Allowed: a mapping of ambiguous, internal_stop, gaps"):
        prepared_once(fasta, tmp_path / "cache", {"ambigous": "drop"}, print)


def test_a_place_that_cannot_be_written_to_is_told(fasta, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be prepared there.*cache_dir=FOLDER"):
        prepared_once(fasta, tmp_path / "file", {}, print)


def test_a_path_of_nothing_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        prepared_once(tmp_path / "nothing.fasta", tmp_path, {}, print)


def test_the_cache_is_where_the_system_keeps_such_things(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(default_cache_dir()) == "/somewhere/stablelit/proteins"


def test_the_data_module_reads_a_fasta_file(fasta, tmp_path):
    data = ProteinDataModule(path=str(fasta), cache_dir=str(tmp_path / "cache"), batch_size=16, max_length=30, seed=1)
    data.prepare_data()
    data.setup()
    letters = {name: text for name, text in plain_cleaned(fasta.read_text())}
    rows = {row: name for name, rows in data.split_indices.items() for row in rows}
    assert len(rows) == 200
    for batch in data.train_dataloader():
        for row, tokens, length in zip(batch["id"], batch["tokens"], batch["length"], strict=True):
            assert rows[int(row)] == "train"
            assert decode(tokens[: int(length)]) in letters[f"P{int(row)}"]
    assert (data.corpus, data.entropy, data.true_nll()) == (None, None, None)
    # each of the twenty equally often
    assert data.unigram_entropy == pytest.approx(torch.tensor(20.0).log().item())
    assert not (batch["loss_mask"] & (batch["tokens"] >= 20)).any()


def test_workers_read_a_prepared_folder_too(fasta, tmp_path):
    settings = {"path": str(fasta), "cache_dir": str(tmp_path / "cache"), "batch_size": 32, "max_length": 20}
    alone, helped = (list(ProteinDataModule(**settings, num_workers=n).train_dataloader()) for n in (0, 1))
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_real_proteins_have_the_unigram_entropy_of_proteins(test_data, tmp_path):
    path = test_data / "proteins" / "trembl_100.fasta"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    data = ProteinDataModule(path=str(path), cache_dir=str(tmp_path), batch_size=8, val=0.1, test=0.1, train=0.8)
    assert sum(len(rows) for rows in data.split_indices.values()) == 100
    # UniRef50's is 2.8888 nats (EvoDiff's counts)
    assert data.unigram_entropy == pytest.approx(2.89, abs=0.03)
