from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.proteins.alphabet import PAD, UNKNOWN
from stablelit.families.proteins.dataset import SequenceDataset
from stablelit.families.proteins.sequences import Sequences
from stablelit.families.proteins.training_order import DrawnBatch


@pytest.fixture
def sequences() -> Sequences:
    """Forty of 1 to 30 residues, one of each ten unknown."""
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 31, 40))]).astype(np.int64)
    tokens = rng.integers(0, 20, int(offsets[-1])).astype(np.uint8)
    tokens[rng.random(len(tokens)) < 0.1] = UNKNOWN
    return Sequences(tokens, offsets, np.zeros(40, dtype=np.uint16), "forty")


@pytest.fixture
def equal() -> Sequences:
    """A hundred of 20 residues."""
    tokens = np.random.default_rng(1).integers(0, 20, 2000).astype(np.uint8)
    return Sequences(tokens, np.arange(0, 2001, 20), np.zeros(100, dtype=np.uint16), "equal")


def test_a_batch_is_what_a_loop_over_sequences_makes(sequences):
    dataset = SequenceDataset(sequences, np.arange(3, 40, 2), max_length=64)
    places = [4, 0, 11]
    batch = dataset.__getitems__(places)
    rows = [dataset.rows[place] for place in places]
    width = max(len(sequences[row]) for row in rows)
    for i, row in enumerate(rows):
        residues = sequences[row].tolist()
        padding = width - len(residues)
        assert batch["tokens"][i].tolist() == residues + [PAD] * padding
        assert batch["pad_mask"][i].tolist() == [True] * len(residues) + [False] * padding
        assert batch["loss_mask"][i].tolist() == [r != UNKNOWN for r in residues] + [False] * padding
        assert batch["length"][i] == len(residues)
        assert batch["id"][i] == row
    kinds = {name: value.dtype for name, value in batch.items()}
    assert kinds == {
        "tokens": torch.int64,
        "loss_mask": torch.bool,
        "pad_mask": torch.bool,
        "length": torch.int64,
        "id": torch.int64,
    }


def test_batches_are_padded_to_a_multiple(sequences):
    batch = SequenceDataset(sequences, range(40), multiple_of=8).__getitems__([0, 1, 2])
    assert batch["tokens"].shape[1] % 8 == 0
    assert batch["tokens"].shape[1] - int(batch["length"].max()) < 8
    assert not batch["pad_mask"][:, int(batch["length"].max()) :].any()


def test_training_windows_are_another_in_each_epoch_and_all_are_met(sequences):
    row = int(np.argmax(np.diff(sequences.offsets)))
    dataset, whole = SequenceDataset(sequences, [row], max_length=10), sequences[row].tolist()
    windows = {tuple(dataset.__getitems__(DrawnBatch([0], epoch, 1.0))["tokens"][0].tolist()) for epoch in range(300)}
    assert windows == {tuple(whole[first : first + 10]) for first in range(len(whole) - 9)}


def test_a_window_does_not_depend_on_its_batch(sequences):
    dataset = SequenceDataset(sequences, range(40), max_length=5, seed=2)
    together = dataset.__getitems__(DrawnBatch(range(40), 3, 1.0))
    for place in (0, 17, 39):
        alone = dataset.__getitems__(DrawnBatch([place], 3, 1.0))
        length = int(alone["length"][0])
        assert alone["tokens"][0].tolist() == together["tokens"][place, :length].tolist()


def test_tiles_have_every_residue_once_and_ids_of_their_own(sequences):
    dataset = SequenceDataset(sequences, range(40), max_length=7, crop="tile")
    batch = dataset.__getitems__(range(len(dataset)))
    assert len(batch["id"].unique()) == len(dataset)
    found = {}
    for i in np.argsort(batch["id"].numpy()):
        residues = batch["tokens"][i, : int(batch["length"][i])].tolist()
        found.setdefault(int(batch["id"][i]) % 40, []).extend(residues)
    assert found == {row: sequences[row].tolist() for row in range(40)}
    assert (dataset.n_residues_cut, dataset.n_cut) == (0, int((np.diff(sequences.offsets) > 7).sum()))


def test_what_the_first_window_leaves_out_is_counted(sequences):
    dataset = SequenceDataset(sequences, range(40), max_length=7, crop="first")
    lengths = np.diff(sequences.offsets)
    assert dataset.n_residues_cut == int(np.maximum(lengths - 7, 0).sum())
    assert dataset[5]["tokens"][0].tolist() == sequences[5][:7].tolist()


def test_windows_are_shorter_when_easy(equal):
    dataset = SequenceDataset(equal, range(100), max_length=512, shorter_when_easy=True)
    for difficulty, longest in ((1.0, 20), (0.5, 10), (0.51, 11), (0.0, 1)):
        batch = dataset.__getitems__(DrawnBatch([0, 1], 0, difficulty))
        assert batch["tokens"].shape == (2, longest)
        text = equal[0].tolist()
        window = batch["tokens"][0].tolist()
        assert any(text[at : at + longest] == window for at in range(21 - longest))


def test_the_easiest_are_drawn_when_easy_each_as_often_as_any_other(equal):
    hardness = np.random.default_rng(3).random(100)
    dataset = SequenceDataset(equal, range(100), hardness=hardness)
    for n_drawn in (1, 20, 50, 100):
        ids = dataset.__getitems__(DrawnBatch(range(100), 0, n_drawn / 100))["id"].numpy()
        assert set(ids) == set(np.argsort(hardness)[:n_drawn])
        assert set(np.bincount(ids, minlength=100)[np.unique(ids)]) == {100 // n_drawn}
    assert dataset.__getitems__(DrawnBatch([7, 3], 0, 1.0))["id"].tolist() == [7, 3]


def test_places_without_an_epoch_are_at_full_difficulty(equal):
    dataset = SequenceDataset(equal, range(100), shorter_when_easy=True, hardness=np.arange(100.0)[::-1])
    assert dataset[3]["id"].tolist() == [3]
    assert dataset[-1]["length"].tolist() == [20]
    with pytest.raises(IndexError, match="100 of 100"):
        dataset[100]


def test_hardness_of_sequences_of_different_lengths_is_refused(sequences):
    with pytest.raises(ConfigurationError, match="hardness needs sequences of one length"):
        SequenceDataset(sequences, range(40), hardness=np.zeros(40))


def test_hardness_that_is_not_finite_or_not_of_each_is_refused(equal):
    for hardness in (np.zeros(99), np.full(100, np.nan)):
        with pytest.raises(ConfigurationError, match="a finite number for each of the 100"):
            SequenceDataset(equal, range(100), hardness=hardness)


def test_a_data_set_without_a_sequence_is_refused(equal):
    with pytest.raises(DataError, match="has no sequence"):
        SequenceDataset(equal, [])


@pytest.mark.parametrize(
    ("argument", "value"), [("max_length", 0), ("crop", "middle"), ("seed", -1), ("multiple_of", 0)]
)
def test_arguments_outside_their_range_are_refused(equal, argument, value):
    with pytest.raises(ConfigurationError, match=argument):
        SequenceDataset(equal, [0], **{argument: value})


def test_what_a_drawn_batch_carries_reaches_a_worker():
    batch = pickle.loads(pickle.dumps(DrawnBatch([3, 1], 5, 0.25)))
    assert (list(batch), batch.epoch, batch.difficulty) == ([3, 1], 5, 0.25)
