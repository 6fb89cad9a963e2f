"""Drawings as strokes: all points of all drawings in one array, and where each stroke and each drawing begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Strokes:
    """The strokes of n drawings, in the order in which they were drawn.

    Args:
        points: ``(M, 2)`` float32, x to the right and y down, in whatever unit each drawing came; `rasterise` and
            `StrokeAugment` look at a drawing's own bounding box.
        begins: ``(M,)`` bool, True where a stroke begins; a stroke of one point is a dot.
        offsets: ``(n + 1,)`` int64: drawing i is ``points[offsets[i] : offsets[i + 1]]``.
    """

    points: NDArray[np.float32]
    begins: NDArray[np.bool_]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, drawings: Sequence[Sequence[NDArray[np.floating]]]) -> Strokes:
        """From lists of strokes, each ``(P, 2)``; empty strokes are left out.

        >>> import numpy as np
        >>> drawings = Strokes.of([[np.zeros((3, 2)), np.ones((1, 2))], [np.zeros((2, 2))]])
        >>> drawings.offsets.tolist(), drawings.begins.tolist()
        ([0, 4, 6], [True, False, False, True, True, False])
        """
        kept = [[np.asarray(s, dtype=np.float32).reshape(-1, 2) for s in strokes if len(s)] for strokes in drawings]
        lengths = np.array([sum(map(len, strokes)) for strokes in kept], dtype=np.int64)
        flat = [stroke for strokes in kept for stroke in strokes]
        begins = np.zeros(int(lengths.sum()), dtype=bool)
        if flat:
            begins[np.cumsum([0, *(len(stroke) for stroke in flat[:-1])])] = True
        points = np.concatenate(flat) if flat else np.zeros((0, 2), dtype=np.float32)
        return cls(points, begins, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def drawing(self, i: int) -> list[NDArray[np.float32]]:
        """The strokes of drawing i, each ``(P, 2)``."""
        here = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        points, begins = self.points[here], np.flatnonzero(self.begins[here])
        return np.split(points, begins[1:]) if len(points) else []

    def take(self, which: NDArray[np.int64]) -> Strokes:
        """The drawings of these numbers, in this order."""
        lengths = (self.offsets[1:] - self.offsets[:-1])[which]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][which] - offsets[:-1], lengths)
        return Strokes(self.points[places], self.begins[places], offsets)

    def __iter__(self) -> Iterator[list[NDArray[np.float32]]]:
        return (self.drawing(i) for i in range(len(self)))
