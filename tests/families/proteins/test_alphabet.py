from __future__ import annotations

import doctest
import importlib
import string

import numpy as np
import pytest
import torch

from stablelit.errors import DataError
from stablelit.families.proteins.alphabet import AMINO_ACIDS, N_RESIDUES, PAD, UNKNOWN, decode, encode


def test_the_residues_are_all_letters_but_six_in_the_order_of_the_alphabet():
    assert sorted(set(string.ascii_uppercase) - set("BJOUXZ")) == list(AMINO_ACIDS)
    assert (N_RESIDUES, UNKNOWN, PAD) == (20, 20, 21)


def test_letters_become_their_places_in_the_alphabet_and_come_back():
    text = "MKVWYACDX" * 3
    codes = encode(text)
    assert codes.dtype == np.uint8
    assert codes.tolist() == [(AMINO_ACIDS + "X").index(letter) for letter in text]
    assert decode(codes) == text


def test_lower_case_is_upper_case_and_bytes_are_text():
    assert encode(b"acdx").tolist() == encode("ACDX").tolist()


@pytest.mark.parametrize("letter", "XBZUOJ")
def test_letters_that_are_none_of_the_twenty_are_unknown(letter):
    assert encode(letter).tolist() == [UNKNOWN]


@pytest.mark.parametrize("bad", ["-", "*", " ", "1", "é", "\n"])
def test_what_is_no_residue_is_refused_with_its_position(bad):
    with pytest.raises(DataError, match="position 3"):
        encode("AC" + bad)


def test_padding_at_the_end_is_left_out_of_the_letters():
    assert decode(torch.tensor([0, 1, 20, PAD, PAD])) == "ACX"
    assert decode([PAD]) == ""


@pytest.mark.parametrize("codes", [[0, PAD, 1], [0, 22], [-1]])
def test_numbers_that_are_no_residues_are_refused(codes):
    with pytest.raises(DataError, match="is no residue"):
        decode(codes)


def test_encoded_residues_may_be_changed():
    codes = encode("AC")
    codes[0] = 5
    assert decode(codes) == "GC"


@pytest.mark.parametrize("room", ["alphabet", "crops", "splits", "fasta_writer"])
def test_examples_are_true(room):
    done = doctest.testmod(importlib.import_module(f"stablelit.families.proteins.{room}"))
    assert done.attempted > 0
    assert done.failed == 0
