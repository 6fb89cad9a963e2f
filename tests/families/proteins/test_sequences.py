from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.proteins.alphabet import PAD, encode
from stablelit.families.proteins.sequences import Sequences


def of(*texts: str) -> Sequences:
    lengths = [len(text) for text in texts]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(encode("".join(texts)), offsets, np.zeros(len(texts), dtype=np.uint16), "three words")


@pytest.fixture
def three() -> Sequences:
    return of("MKV", "ACDEF", "W")


def test_a_sequence_is_found_by_its_number(three):
    assert three[1].tolist() == encode("ACDEF").tolist()
    assert three[-1].tolist() == encode("W").tolist()
    with pytest.raises(IndexError, match="3 of 3"):
        three[3]


def test_windows_are_stretches_padded_to_the_width(three):
    rows, first, length = np.array([2, 1, 0, 1]), np.array([0, 2, 0, 0]), np.array([1, 3, 3, 5])
    found = three.windows(rows, first, length, width=6)
    for row, begin, size, window in zip(rows, first, length, found, strict=True):
        assert window.tolist() == [*three[row][begin : begin + size].tolist(), *[PAD] * (6 - size)]


def test_a_number_that_is_no_residue_is_refused_with_its_place():
    broken = of("MKV", "ACDEF")
    broken.tokens[5] = 77
    with pytest.raises(DataError, match="three words: sequence 1 has the number 77 at place 2"):
        broken.windows(np.array([1]), np.array([1]), np.array([3]), 3)


@pytest.mark.parametrize(
    "offsets",
    [[0, 3], [0, 3, 8, 9, 9], [1, 3, 8, 9], [0, 3, 8, 10]],
)
def test_offsets_that_do_not_fit_are_refused(three, offsets):
    with pytest.raises(DataError, match="do not fit"):
        Sequences(three.tokens, np.array(offsets, dtype=np.int64), three.buckets, "x")


def test_other_types_are_refused(three):
    with pytest.raises(DataError, match="tokens have shape .* and type int64"):
        Sequences(three.tokens.astype(np.int64), three.offsets, three.buckets, "x")
