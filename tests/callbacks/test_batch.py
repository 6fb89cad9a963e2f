from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch_geometric.data import Batch, Data

from stablelit.callbacks._batch import ItemCounter, fingerprint, sample_count, tensors_of


@dataclass
class Record:
    x: torch.Tensor
    name: str = "a"


X, Y = torch.arange(6.0).reshape(3, 2), torch.arange(3)
GRAPHS = Batch.from_data_list([Data(x=torch.ones(n, 2), edge_index=torch.zeros(2, 0).long()) for n in (2, 3)])


@pytest.mark.parametrize(
    ("batch", "count"),
    [
        (X, 1),
        ([X, Y], 2),
        ({"x": X, "deep": {"y": (Y, "word")}}, 2),
        (Record(X), 1),
        ([Record(X), None, 3], 1),
        ("word", 0),
        (None, 0),
        (X.to_sparse(), 0),
        ([[[[[[X]]]]]], 0),
    ],
)
def test_the_tensors_of_a_batch(batch, count):
    assert len(list(tensors_of(batch))) == count


@pytest.mark.parametrize(
    ("batch", "samples"),
    [(X, 3), ([X, Y], 3), ({"x": X}, 3), (Record(X), 3), (GRAPHS, 2), ("word", 1), (torch.tensor(1.0), 1), ([], 1)],
)
def test_the_number_of_samples(batch, samples):
    assert sample_count(batch) == samples


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.bool, torch.int64, torch.complex64])
def test_fingerprints_tell_batches_apart_whatever_they_are_made_of(dtype):
    some, other = torch.tensor([0, 1, 1]).to(dtype), torch.tensor([1, 0, 1]).to(dtype)
    assert fingerprint([some]) == fingerprint({"x": some.clone()})
    assert fingerprint([some]) != fingerprint([other])
    assert fingerprint(some[1]) == fingerprint(some[2]) != fingerprint(some[0])


def test_a_fingerprint_sees_the_second_tensor_and_a_graph():
    assert fingerprint([X, Y]) != fingerprint([X, Y + 1])
    assert fingerprint(GRAPHS)
    assert fingerprint(["word"]) == ""
    assert fingerprint(torch.zeros(0)) != ""


def test_items_of_an_object_with_attributes():
    counter = ItemCounter("x", None, "test")
    counter.add(Record(X > 2))
    assert counter.take() == (3.0, 6.0)
    assert counter.take() == (0.0, 0.0)
