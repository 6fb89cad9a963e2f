"""Many sequences as two arrays, in memory or memory-mapped: all residues, and where each sequence begins."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError
from stablelit.families.proteins.alphabet import PAD, UNKNOWN


class Sequences:
    """Sequences end to end.

    Args:
        tokens: residues 0 to 19 or `UNKNOWN` of all sequences, uint8, shape ``(R,)``.
        offsets: where each begins, and the end of the last, int64, shape ``(N + 1,)``.
        buckets: of the split, see `splits`, uint16, shape ``(N,)``.
        source: where they come from, for messages.

    Raises:
        DataError: arrays that do not fit each other, or of other types.
    """

    def __init__(
        self,
        tokens: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        buckets: NDArray[np.uint16],
        source: str,
    ) -> None:
        for name, array, kind in (("tokens", tokens, "u1"), ("offsets", offsets, "i8"), ("buckets", buckets, "u2")):
            if array.ndim != 1 or array.dtype != np.dtype(kind):
                raise DataError(
                    f"{source}: {name} have shape {array.shape} and type {array.dtype}. Allowed: one dimension of "
                    f"{np.dtype(kind)}."
                )
        if len(offsets) != len(buckets) + 1 or len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(tokens):
            raise DataError(
                f"{source}: {len(offsets)} offsets from {offsets[:1]} to {offsets[-1:]} do not fit {len(buckets)} "
                f"buckets and {len(tokens)} residues. Allowed: one or more sequences, from 0 to the number of residues."
            )
        self.tokens, self.offsets, self.buckets, self.source = tokens, offsets, buckets, source

    def __len__(self) -> int:
        return len(self.buckets)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """The residues of one sequence, shape ``(L,)``."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{index} of {len(self)} sequences")
        row = index % len(self)
        return np.array(self.tokens[int(self.offsets[row]) : int(self.offsets[row + 1])])

    def lengths(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """Residues of each of some sequences, shape ``(n,)``."""
        ends = self.offsets[rows + 1]
        ends -= self.offsets[rows]
        return ends

    def windows(
        self, rows: NDArray[np.int64], first: NDArray[np.int64], length: NDArray[np.int64], width: int
    ) -> NDArray[np.uint8]:
        """A stretch of each of some sequences, padded at the end.

        Args:
            rows: which sequences, shape ``(B,)``.
            first: where in each the stretch begins, shape ``(B,)``.
            length: of each stretch, shape ``(B,)``.
            width: of the result, at least the longest.

        Returns:
            Residues and `PAD`, shape ``(B, width)``.

        Raises:
            DataError: a number that is no residue, with the sequence and the place.
        """
        column = np.arange(width)
        inside = column < length[:, None]
        place = (self.offsets[rows] + first)[:, None] + column
        # places behind the end are read and then covered: no slower, and no loop
        tokens = self.tokens[np.minimum(place, len(self.tokens) - 1)]
        tokens[~inside] = PAD
        if tokens.size and int(tokens.max()) > UNKNOWN:
            self._refuse_other_numbers(tokens, inside, rows, first)
        return np.asarray(tokens)

    def sequence_id(self, row: int) -> str:
        """What a sequence is called: by its number, where there is no file to name it."""
        return f"sequence_{row + 1}"

    def identity(self) -> dict[str, Any]:
        """What data these are."""
        return {"source": self.source, "n_sequences": len(self), "n_residues": len(self.tokens)}

    def _refuse_other_numbers(
        self, tokens: NDArray[np.uint8], inside: NDArray[np.bool_], rows: NDArray[np.int64], first: NDArray[np.int64]
    ) -> None:
        wrong = np.argwhere(inside & (tokens > UNKNOWN))
        if len(wrong):
            row, column = wrong[0].tolist()
            raise DataError(
                f"{self.source}: sequence {int(rows[row])} has the number {int(tokens[row, column])} at place "
                f"{int(first[row]) + column}. Allowed: 0 to {UNKNOWN}. The file is damaged: prepare it again."
            )
