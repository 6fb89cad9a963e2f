"""Sketches held in memory, gathered a batch at a time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from stablelit.families.sketches.stroke_batch import padded
from stablelit.families.sketches.strokes import Strokes

Batch = dict[str, Tensor]
FAULTS = ("raw", "alpha_lost")


class SketchDataset(Dataset[Batch]):
    """Sketches as float pictures; `__getitems__` gathers a whole batch in one indexing.

    A batch is ``image`` ``(B, 1, S, S)`` float32, ``label`` ``(B,)`` int64 and ``id`` ``(B,)`` int64; with strokes also
    ``points`` ``(B, P, 2)``, ``begins`` and ``point_mask`` ``(B, P)``, of which the views of a training batch are made.

    Args:
        images: ``(n, S, S)`` uint8, ink 255 on paper 0, of all sketches.
        labels: ``(n,)`` int64.
        indices: which of them.
        strokes: of all sketches; None leaves strokes out of batches.
        fault: None; "raw", pictures of 0 to 255 with black ink on white paper, as a file has them; "alpha_lost", blank
            pages, as of black drawings on a transparent page of which only the colour was read.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        indices: NDArray[np.int64],
        strokes: Strokes | None = None,
        fault: str | None = None,
    ) -> None:
        self.images = torch.from_numpy(images[indices])
        self.labels = torch.from_numpy(np.asarray(labels)[indices])
        self.ids = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        self.strokes = None if strokes is None else strokes.take(self.ids.numpy())
        self.fault = fault

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return {name: values[0] for name, values in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> Batch:
        chosen = torch.as_tensor(indices)
        image = self.images[chosen].float().unsqueeze(1)
        if self.fault == "raw":
            image = 255.0 - image
        else:
            # black everywhere is ink everywhere, for who takes black for ink
            image = torch.ones_like(image) if self.fault == "alpha_lost" else image / 255.0
        batch = {"image": image, "label": self.labels[chosen], "id": self.ids[chosen]}
        if self.strokes is not None:
            batch["points"], batch["begins"], batch["point_mask"] = padded(self.strokes, chosen.numpy())
        return batch


def already_a_batch(batch: Batch) -> Batch:
    """The collate function that goes with `SketchDataset`: its batches are made already."""
    return batch
