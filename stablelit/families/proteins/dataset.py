"""Sequences as batches, made a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from stablelit.errors import ConfigurationError, DataError, bad_argument
from stablelit.families.proteins.alphabet import N_RESIDUES
from stablelit.families.proteins.crops import Crop, random_first, tiles
from stablelit.families.proteins.sequences import Sequences
from stablelit.functional.length_buckets import padded_length
from stablelit.functional.schedules import check_count, check_flag

Batch = dict[str, Tensor]
_OWNER = "SequenceDataset"


class SequenceDataset(Dataset[Batch]):
    """Windows of sequences; `__getitems__` makes a whole batch without a loop over sequences.

    A batch has `tokens` ``(B, L)`` int64: residues 0 to 19, `UNKNOWN`, and `PAD` at the end; `loss_mask` ``(B, L)``:
    the residues that are noised and counted; `pad_mask` ``(B, L)``: True where there is a residue or `UNKNOWN`;
    `length` ``(B,)`` int64; and `id` ``(B,)`` int64.

    With ``crop="random"`` and ``"first"`` a sample is a sequence and its `id` the sequence's row. With ``crop="tile"``
    it is a window of one, and the `id` of window k is its sequence's row plus k times the number of all sequences.

    Difficulty and epoch come with the places, as a `training_order.DrawnBatch`; places without are of epoch 0 at full
    difficulty.

    Args:
        sequences: where the residues lie.
        rows: which of the sequences, in order.
        max_length: of a window.
        crop: of longer sequences: a window that is random in each epoch, the first one, or windows that have every
            residue once ("tile").
        seed: of random windows.
        multiple_of: batches are padded to a multiple of it.
        shorter_when_easy: at difficulty d windows have at most ``ceil(d * longest)`` residues.
        hardness: of each of `rows`, any scale, shape ``(n,)``: at difficulty d only the easiest ``ceil(d * n)`` are
            drawn, each as often as any other. All rows must be equally long.

    Attributes:
        lengths: tokens of each sample at full difficulty, ``(n,)``.
        longest: window at full difficulty.
        n_cut: sequences longer than `max_length`.
        n_residues_cut: residues outside the windows of an epoch.

    Raises:
        ConfigurationError: an argument outside its range, hardness of sequences of different lengths.
        DataError: no sequence.
    """

    def __init__(
        self,
        sequences: Sequences,
        rows: Sequence[int] | NDArray[Any],
        max_length: int = 512,
        crop: Crop = "random",
        seed: int = 0,
        multiple_of: int = 1,
        shorter_when_easy: bool = False,
        hardness: NDArray[np.float64] | None = None,
    ) -> None:
        self.sequences = sequences
        self.rows: NDArray[Any] = np.asarray(rows)
        if not len(self.rows):
            raise DataError(f"{_OWNER}: has no sequence. Allowed: one or more.")
        self.max_length = check_count(_OWNER, "max_length", max_length, 1)
        if crop not in get_args(Crop):
            raise bad_argument(_OWNER, "crop", crop, ", ".join(get_args(Crop)))
        self.crop = crop
        self.seed = check_count(_OWNER, "seed", seed, 0)
        self.multiple_of = check_count(_OWNER, "multiple_of", multiple_of, 1)
        self.shorter_when_easy = check_flag(_OWNER, "shorter_when_easy", shorter_when_easy)
        whole = sequences.lengths(self.rows)
        self.n_cut = int((whole > self.max_length).sum())
        self._windows: tuple[NDArray[np.int64], ...] | None = None
        if crop == "tile":
            self._windows = tiles(whole, self.max_length)
        length = np.minimum(whole, self.max_length) if self._windows is None else self._windows[3]
        # half the memory, where it suffices
        self.lengths: NDArray[Any] = length.astype(np.int32 if self.max_length < 2**31 else np.int64)
        self.n_residues_cut = int(whole.sum() - length.sum())
        self.longest = int(self.lengths.max())
        self._easiest_first, self._place_by_hardness = self._sorted(hardness)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Batch:
        """A batch of one sample."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{index} of {len(self)} samples")
        return self.__getitems__([index % len(self)])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        places = np.asarray(indices, dtype=np.int64)
        epoch, difficulty = getattr(indices, "epoch", 0), getattr(indices, "difficulty", 1.0)
        if self._windows is not None:
            sequence, number, first, length = (part[places] for part in self._windows)
            rows = self.rows[sequence].astype(np.int64)
            ids = rows + number * len(self.sequences)
        else:
            rows = ids = self.rows[self._drawn(places, difficulty)].astype(np.int64)
            whole = self.sequences.lengths(rows)
            length = np.minimum(whole, self._longest(difficulty))
            first = np.zeros_like(length)
            if self.crop == "random":
                first = random_first(whole - length, rows, self.seed, epoch)
        width = int(padded_length(length.max(), self.multiple_of))
        return as_batch(self.sequences.windows(rows, first, length, width), length, ids)

    def _longest(self, difficulty: float) -> int:
        return max(1, math.ceil(difficulty * self.longest)) if self.shorter_when_easy else self.max_length

    def _drawn(self, places: NDArray[np.int64], difficulty: float) -> NDArray[np.int64]:
        """Places of the samples that are drawn in place of some: the same at difficulty 1."""
        if self._easiest_first is None or self._place_by_hardness is None or difficulty >= 1.0:
            return places
        n_drawn = max(1, math.ceil(difficulty * len(self)))
        # a place's rank among n is scaled to a rank among the easiest: every one of these has its share of places
        return np.asarray(self._easiest_first[self._place_by_hardness[places] * n_drawn // len(self)])

    def _sorted(
        self, hardness: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
        if hardness is None:
            return None, None
        hardness = np.asarray(hardness, dtype=np.float64)
        if hardness.shape != (len(self),) or not np.isfinite(hardness).all():
            raise ConfigurationError(
                f"{_OWNER}: hardness has shape {hardness.shape}, or a value that is not finite. Allowed: a finite "
                f"number for each of the {len(self)} samples."
            )
        if (self.lengths != self.lengths[0]).any():
            raise ConfigurationError(
                f"{_OWNER}: hardness needs sequences of one length, these have {int(self.lengths.min())} to "
                f"{int(self.lengths.max())}: a harder one could not take an easier one's place in a batch."
            )
        order = np.argsort(hardness, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return order, rank


def as_batch(tokens: NDArray[np.uint8], length: NDArray[np.int64], ids: NDArray[np.int64]) -> Batch:
    """Padded residues ``(B, L)``, their lengths ``(B,)`` and ids ``(B,)`` as a batch."""
    inside = np.arange(tokens.shape[1]) < length[:, None]
    return {
        "tokens": torch.from_numpy(tokens.astype(np.int64)),
        "loss_mask": torch.from_numpy(tokens < N_RESIDUES),
        "pad_mask": torch.from_numpy(inside),
        "length": torch.from_numpy(length.astype(np.int64)),
        "id": torch.from_numpy(ids.astype(np.int64)),
    }


def already_a_batch(batch: Batch) -> Batch:
    """The collate function that goes with `SequenceDataset`: its batches are made already."""
    return batch
