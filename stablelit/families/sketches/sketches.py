"""What a reader returns: sketches as pictures or as strokes, with their classes, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stablelit.families.sketches.strokes import Strokes

SHOWN = 3


@dataclass
class LeftOutSketches:
    """How many sketches were left out, by reason, with the first places of each."""

    counts: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, place: str) -> None:
        """Counts one, which lies at `place`: a file, or file:line."""
        self.counts[reason] += 1
        shown = self.places.setdefault(reason, [])
        if len(shown) < SHOWN:
            shown.append(place)

    def lines(self) -> list[str]:
        """One line a reason, for the user."""
        return [f"left out {n}: {reason} ({', '.join(self.places[reason])})" for reason, n in self.counts.items()]


@dataclass(frozen=True)
class Sketches:
    """n sketches in memory: as pictures, or as strokes.

    Args:
        images: ``(n, S, S)`` uint8, ink 255 on paper 0; None where there are strokes.
        strokes: of the n drawings; None where there are pictures.
        labels: ``(n,)`` int64, into `classes`; -1 without one.
        classes: their names, sorted.
        groups: of each class, the name of what it belongs to (an alphabet); None where there are none.
        places: of each sketch: its file, or file:line.
        left_out: what the reader did not take.
    """

    images: NDArray[np.uint8] | None
    strokes: Strokes | None
    labels: NDArray[np.int64]
    classes: list[str]
    groups: list[str] | None
    places: Sequence[str]
    left_out: LeftOutSketches = field(default_factory=LeftOutSketches)

    def __len__(self) -> int:
        return len(self.labels)
