"""Scores and labels as groups of ties: sorted once, merged where they come in parts, thinned where they are too many.

Values of one score are kept together: the distinct scores, and how many samples and positives have come by then. That
is all that a threshold can see, and it bounds the memory of a long validation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stablelit.errors import DataError

Array = np.ndarray[Any, np.dtype[Any]]


class ScoreGroups(NamedTuple):
    """Distinct scores in descending order, with running counts.

    Args:
        scores: (G,) float32 or float64, strictly descending.
        predicted: (G + 1,) how many samples the first g groups have, g = 0, ..., G.
        true_positives: (G + 1,) how many positives they have.
        dtype: what the scores were; a threshold is a number of this type, so that comparing does not round it.
    """

    scores: Array
    predicted: Array
    true_positives: Array
    dtype: torch.dtype = torch.float32

    @property
    def total(self) -> int:
        """Samples, N."""
        return int(self.predicted[-1])

    @property
    def positives(self) -> int:
        """Positives, P."""
        return int(self.true_positives[-1])


def group_scores(scores: Tensor | Array, targets: Tensor | Array, owner: str = "group_scores") -> ScoreGroups:
    """Sorts once, the label packed into the lowest bit of the score's own bits, and gathers what ties.

    A float32 without its sign has 31 bits, so score and label are one uint32, whose sort numpy does with vector
    instructions; the two signs are sorted apart. float64 is sorted twice instead: all scores, and those of positives.

    Raises:
        DataError: as `sweep`.
    """
    kept, labels, dtype = _checked(scores, targets, owner)
    if kept.dtype == np.float64:
        return _grouped_float64(kept, labels)
    negative = np.signbit(kept)
    parts = []
    for sign in (False, True):
        chosen = negative == sign
        if chosen.all():
            parts.append(_grouped_magnitudes(kept, labels, sign))
        elif chosen.any():
            parts.append(_grouped_magnitudes(kept[chosen], labels[chosen], sign))
    if len(parts) == 1:
        return ScoreGroups(*parts[0], dtype)
    (above, first, right), (below, second, also_right) = parts
    scores, predicted = np.concatenate([above, below]), np.concatenate([first, second[1:] + first[-1]])
    return ScoreGroups(scores, predicted, np.concatenate([right, also_right[1:] + right[-1]]), dtype)


def merge_groups(parts: Iterable[ScoreGroups]) -> ScoreGroups:
    """The groups of all parts together."""
    several = list(parts)
    if len(several) == 1:
        return several[0]
    scores, places = np.unique(np.concatenate([part.scores for part in several]), return_inverse=True)

    def summed(running: list[Array]) -> Array:
        counts = np.bincount(places, np.concatenate([np.diff(sums) for sums in running]), len(scores))
        return _running(counts[::-1].astype(np.int64))

    predicted = summed([part.predicted for part in several])
    hits = summed([part.true_positives for part in several])
    return ScoreGroups(scores[::-1], predicted, hits, several[0].dtype)


def thin_groups(groups: ScoreGroups, bins: int) -> ScoreGroups:
    """At most `bins` groups of about as many samples each; a group stands at the middle one of its scores.

    What a threshold counts on the thinned groups and on the samples differs by at most ``total / bins`` samples, or by
    the largest tie where that is larger.
    """
    if len(groups.scores) <= bins:
        return groups
    ends = groups.predicted[1:]
    # the last group of each bin of equal mass
    last = np.flatnonzero(np.diff((ends - 1) * bins // ends[-1], append=bins))
    kept = np.concatenate([[0], last + 1])
    middle = (kept[:-1] + last) // 2
    return ScoreGroups(groups.scores[middle], groups.predicted[kept], groups.true_positives[kept], groups.dtype)


def _checked(scores: Tensor | Array, targets: Tensor | Array, owner: str) -> tuple[Array, Array, torch.dtype]:
    # a tensor of another device comes here: sorting it there would save less than the copy of the labels costs
    values, labels = (torch.as_tensor(x).detach().cpu() for x in (scores, targets))
    if values.shape != labels.shape:
        raise DataError(
            f"{owner}: scores have shape {tuple(values.shape)} and targets {tuple(labels.shape)}; allowed: the same "
            f"shape. A trailing dimension of 1 is taken off with scores.squeeze(-1)."
        )
    if values.numel() == 0:
        raise DataError(f"{owner}: there are no scores.")
    if not values.is_floating_point():
        values = values.double()
    dtype = values.dtype
    flat = np.asarray((values if dtype == torch.float64 else values.float()).reshape(-1).numpy())
    if (nan := np.isnan(flat)).any():
        raise DataError(
            f"{owner}: {int(nan.sum())} of {flat.size} scores are NaN, the first at place {int(nan.argmax())}. "
            f"Look for a division by zero, a log of zero, or weights that are not finite."
        )
    marks = labels.reshape(-1).numpy()
    if marks.dtype != np.bool_:
        other = (marks != 0) & (marks != 1)
        if other.any():
            raise DataError(
                f"{owner}: {int(other.sum())} of {marks.size} targets are neither 0 nor 1, the first at place "
                f"{int(other.argmax())}: {marks[other.argmax()]}. Leave padded places out, and give classes one by one."
            )
        marks = marks.astype(np.bool_)
    # minus zero is zero
    return flat + flat.dtype.type(0), marks, dtype


def _grouped_magnitudes(scores: Array, labels: Array, negative: bool) -> tuple[Array, Array, Array]:
    keys = scores.view(np.uint32) << np.uint32(1)
    keys |= labels
    keys.sort()
    if not negative:
        keys = keys[::-1]
    right = _running(keys & np.uint32(1))
    keys >>= np.uint32(1)
    begins = np.concatenate([[True], keys[1:] != keys[:-1], [True]]).nonzero()[0]
    scores = keys[begins[:-1]]
    scores |= np.uint32(negative << 31)
    return scores.view(np.float32), begins, right if len(begins) == len(right) else right[begins]


def _grouped_float64(scores: Array, labels: Array) -> ScoreGroups:
    descending = np.sort(scores)[::-1]
    begins = np.concatenate([[True], descending[1:] != descending[:-1], [True]]).nonzero()[0]
    distinct = descending[begins[:-1]]
    hits = np.sort(scores[labels])
    right = len(hits) - np.searchsorted(hits, distinct, "left")
    return ScoreGroups(distinct, begins, np.concatenate([[0], right]), torch.float64)


def _running(counts: Array) -> Array:
    sums = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=sums[1:])
    return sums
