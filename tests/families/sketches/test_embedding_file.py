from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from stablelit.errors import DataError
from stablelit.families.sketches.embedding_file import write_embeddings

BATCHES = [
    {"embedding": torch.tensor([[1.0, 2.0], [3.0, 4.5]]), "label": torch.tensor([1, -1]), "id": torch.tensor([7, 3])},
    {"embedding": torch.tensor([[0.1, 0.2]]), "label": torch.tensor([0]), "id": torch.tensor([9])},
]


def test_arrays_come_back_as_they_were(tmp_path):
    assert write_embeddings(BATCHES, tmp_path / "a.npz") == {"sketches": 3, "dimensions": 2}
    with np.load(tmp_path / "a.npz", allow_pickle=False) as back:
        assert back["embedding"].dtype == np.float32
        assert np.array_equal(back["embedding"], np.float32([[1.0, 2.0], [3.0, 4.5], [0.1, 0.2]]))
        assert back["label"].tolist() == [1, -1, 0]
        assert back["id"].tolist() == [7, 3, 9]


def test_a_table_has_a_row_a_sketch(tmp_path):
    write_embeddings(BATCHES, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["7", "3", "9"]
    assert float(rows[1]["h1"]) == 4.5
    assert rows[0].keys() == {"id", "label", "h0", "h1"}


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_files_and_classes_stand_beside_their_embeddings(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_embeddings(BATCHES, path, [f"page, {i}.png" for i in range(10)], ["cat", "dog"])
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as back:
            found = list(
                zip(back["source"].tolist(), back["class"].tolist(), back["embedding"][:, 0].tolist(), strict=True)
            )
    else:
        with path.open(newline="") as file:
            found = [(row["source"], row["class"], float(row["h0"])) for row in csv.DictReader(file)]
    assert [(source, name) for source, name, _ in found] == [
        ("page, 7.png", "dog"),
        ("page, 3.png", ""),
        ("page, 9.png", "cat"),
    ]
    assert [h for *_, h in found] == pytest.approx([1.0, 3.0, 0.1])


def test_an_embedding_that_is_not_finite_is_named_and_nothing_is_written(tmp_path):
    broken = [{**BATCHES[0], "embedding": torch.tensor([[1.0, 2.0], [float("nan"), 0.0]])}, BATCHES[1]]
    with pytest.raises(DataError, match="1 of 3 embeddings are not finite, the first of sketch 3"):
        write_embeddings(broken, tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())
