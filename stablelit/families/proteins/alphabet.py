"""Amino acids as small numbers: the 20 canonical residues, one number for what is not known, one for padding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
"""One-letter codes (IUPAC-IUB 1983) in the order of their numbers 0 to 19."""

N_RESIDUES = len(AMINO_ACIDS)

UNKNOWN = N_RESIDUES
"""X, and what a reader's policy turns into it: context for others, never noised and never counted."""

PAD = UNKNOWN + 1
"""Behind the end of a sequence in a batch."""

AMBIGUOUS = "XBZUOJ"
"""Letters of sequence files that are not among the 20: any (X), D or N (B), E or Q (Z), selenocysteine (U), pyrrolysine
(O), I or L (J)."""

_INVALID = 255
_LETTERS = AMINO_ACIDS + "X"


def _table() -> bytes:
    codes = bytearray([_INVALID]) * 256
    for letter in AMBIGUOUS:
        codes[ord(letter)] = codes[ord(letter.lower())] = UNKNOWN
    for code, letter in enumerate(AMINO_ACIDS):
        codes[ord(letter)] = codes[ord(letter.lower())] = code
    return bytes(codes)


_CODE_OF = _table()


def encode(sequence: str | bytes) -> NDArray[np.uint8]:
    """The numbers of a sequence's residues; lower case is upper case, and X, B, Z, U, O, J are `UNKNOWN`.

    Args:
        sequence: one-letter codes and nothing else; files are read by `readers.fasta`, which forgives more.

    Returns:
        Numbers 0 to 20, shape ``(L,)``.

    Raises:
        DataError: a character that is no residue, with its position (counted from 1).

    Example:
        >>> encode("ACX").tolist()
        [0, 1, 20]
    """
    text = sequence.encode("utf-8") if isinstance(sequence, str) else bytes(sequence)
    codes = np.frombuffer(text.translate(_CODE_OF), dtype=np.uint8)
    invalid = np.flatnonzero(codes == _INVALID)
    if len(invalid):
        at = int(invalid[0])
        raise DataError(
            f"encode: {text[at : at + 1]!r} at position {at + 1} is no residue. Allowed: {AMINO_ACIDS} and "
            f"{AMBIGUOUS} (unknown)."
        )
    return codes.copy()


def decode(codes: Any) -> str:
    """One-letter codes of numbers; `UNKNOWN` is X, and padding at the end is left out.

    Args:
        codes: numbers 0 to 21, shape ``(L,)``: an array, a tensor on the CPU, or a sequence of ints.

    Raises:
        DataError: a number that is no residue, or padding in front of one.

    Example:
        >>> decode([12, 0, 20, 21])
        'PAX'
    """
    numbers = np.asarray(codes)
    if numbers.ndim != 1 or (numbers.size and not np.issubdtype(numbers.dtype, np.integer)):
        raise DataError(
            f"decode: codes have shape {numbers.shape} and type {numbers.dtype}. Allowed: (L,) of integers."
        )
    inside = numbers[: int(np.flatnonzero(numbers != PAD)[-1]) + 1 if (numbers != PAD).any() else 0]
    wrong = np.flatnonzero((inside < 0) | (inside > UNKNOWN))
    if len(wrong):
        at = int(wrong[0])
        raise DataError(
            f"decode: {int(inside[at])} at place {at} is no residue. Allowed: 0 to {UNKNOWN}, and {PAD} (padding) at "
            f"the end."
        )
    letters = np.frombuffer(_LETTERS.encode(), dtype=np.uint8)
    return letters[inside.astype(np.intp)].tobytes().decode("ascii")
