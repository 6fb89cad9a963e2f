from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.proteins.alphabet import decode
from stablelit.families.proteins.preparation import prepare
from stablelit.families.proteins.store import SequenceStore, is_store

TEXT = ">a first\nMKV\n>b\nACDEFGHIKLM\n>c\nWX\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "some.fasta").write_text(TEXT)
    prepare(str(tmp_path / "some.fasta"), str(tmp_path / "store"), max_bad_fraction=1.0)
    return tmp_path / "store"


def test_sequences_and_ids_are_found_by_number(folder):
    store = SequenceStore(folder)
    assert [decode(store[row]) for row in (2, 0, 1)] == ["WX", "MKV", "ACDEFGHIKLM"]
    assert [store.sequence_id(row) for row in range(3)] == ["a", "b", "c"]
    with pytest.raises(IndexError):
        store.sequence_id(3)


def test_a_store_that_is_pickled_opens_the_folder_anew(folder):
    pickled = pickle.dumps(SequenceStore(folder))
    assert len(pickled) < 500
    assert decode(pickle.loads(pickled)[1]) == "ACDEFGHIKLM"


def test_identity_is_plain_and_says_where_the_sequences_came_from(folder):
    identity = SequenceStore(folder).identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["prepared_from"]["path"].endswith("some.fasta")
    assert identity["policies"]["max_bad_fraction"] == 1.0


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.npy", "buckets.npy", "ids.bin", "id_offsets.npy"])
def test_a_file_that_is_cut_short_missing_or_another_is_refused_by_name(folder, name):
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=rf"{name}: is cut short: {len(whole) - 1} bytes"):
        SequenceStore(folder)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match=rf"{name}: is another file"):
        SequenceStore(folder)
    path.unlink()
    with pytest.raises(DataError, match=rf"{name}: is missing"):
        SequenceStore(folder)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"version": 2}, "is of version 2. Allowed: 1"),
        ({"alphabet": {"residues": "ACGT", "unknown": 4, "pad": 5}}, "has the alphabet .*ACGT"),
        ({"n_sequences": 4}, "names 4 sequences of 16 residues, but 3 of 16"),
        ({"files": {}}, "does not describe prepared sequences"),
    ],
)
def test_other_versions_and_alphabets_are_refused(folder, changed, told):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, **changed}))
    with pytest.raises(DataError, match=told):
        SequenceStore(folder)


def test_a_header_that_is_no_json_is_refused(folder):
    (folder / "meta.json").write_text("{")
    with pytest.raises(DataError, match=r"meta\.json: does not describe"):
        SequenceStore(folder)


def test_another_folder_is_no_store(tmp_path):
    assert not is_store(tmp_path)
    with pytest.raises(DataError, match=r"has no meta\.json"):
        SequenceStore(tmp_path)


def test_tokens_out_of_range_are_refused_where_they_are_met(folder):
    store = SequenceStore(folder)
    store.tokens = np.array(store.tokens)
    store.tokens[5] = 23
    with pytest.raises(DataError, match=r"store: sequence 1 has the number 23 at place 2.*prepare it again"):
        store.windows(np.array([1]), np.array([0]), np.array([5]), 5)
