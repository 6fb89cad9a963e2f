"""Means and spreads of each feature of a leaf, over looks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stablelit.doctor.evidence.batches import LeafFacts
from stablelit.doctor.probes.tensors import rows_differ

_MOST_FEATURES = 256
_MOST_ROWS = 128
_MOST_LOOKS = 12
# of small batches more looks are taken than rows in an order of their own need
_LOOKS, _ROWS = 8, 256
# of pictures and long sequences so many numbers, every so many places, say as much as all
_MOST_NUMBERS = 2**18


class LeafBook:
    """Facts of one leaf: moments of at most 128 rows of each of the first 8 looks (12 of few rows), finiteness of all.

    Args:
        name: of the leaf.
        leaf: as it is first seen.
    """

    def __init__(self, name: str, leaf: Tensor) -> None:
        floats = leaf.is_floating_point()
        self.facts = LeafFacts(name, "float" if floats else "boolean" if leaf.dtype is torch.bool else "integer")
        self._count = 0
        self._mean: NDArray[Any] | None = None
        self._squares: NDArray[Any] | None = None
        self._looks: list[tuple[int, NDArray[Any], float]] = []

    def add(self, leaf: Tensor) -> bool:
        """Takes a batch; returns whether all of its values are finite."""
        facts = self.facts
        facts.looks += 1
        facts.shape = tuple(leaf.shape)
        facts.rows += leaf.shape[0] if leaf.ndim else 1
        leaf = leaf.detach()
        counts = facts.looks <= (_LOOKS if facts.rows >= _ROWS else _MOST_LOOKS) and leaf.ndim > 0
        if counts:
            facts.varying_looks += rows_differ(leaf[:_MOST_ROWS])
        if facts.kind != "float" or not leaf.numel():
            return True
        finite = bool(torch.isfinite(leaf.sum())) or bool(leaf.isfinite().all())
        facts.non_finite += not finite
        # one number for a whole batch has no features
        if finite and counts:
            self._add_moments(leaf)
        return finite

    def _add_moments(self, leaf: Tensor) -> None:
        if leaf.ndim > 1:
            leaf = _thinned(leaf[:_MOST_ROWS])
            # channels of pictures come second, features of everything else last
            axis = 1 if leaf.ndim >= 4 else leaf.ndim - 1
            places = leaf.numel() // leaf.shape[axis]
            by_feature = _numbers(leaf.transpose(0, axis)[:_MOST_FEATURES]).reshape(-1, places)
        else:
            by_feature = _numbers(leaf.reshape(1, -1))
        self._add_drift(leaf)
        n = by_feature.shape[1]
        mean = by_feature.mean(1)
        squares = np.square(by_feature - mean[:, None]).sum(1)
        if self._mean is None or self._squares is None or self._mean.shape != mean.shape:
            self._count, self._mean, self._squares = n, mean, squares
        else:
            # Chan, Golub and LeVeque 1979, eq. 2.1
            total = self._count + n
            gap = mean - self._mean
            self._squares = self._squares + squares + np.square(gap) * (self._count * n / total)
            self._mean = self._mean + gap * (n / total)
            self._count = total
        facts = self.facts
        variance = self._squares / self._count
        facts.mean, facts.std = self._mean.tolist(), np.sqrt(variance).tolist()
        facts.largest = max(facts.largest, float(np.abs(by_feature).max()))
        facts.rms = math.sqrt(float(np.square(self._mean).mean() + variance.mean()))

    def _add_drift(self, leaf: Tensor) -> None:
        """A row counts once, however many places it has: those of a picture are no samples of their own."""
        rows = leaf.reshape(len(leaf), -1, leaf.shape[-1]) if leaf.ndim > 2 else leaf.reshape(len(leaf), 1, -1)
        numbers = _numbers(rows[..., :_MOST_FEATURES])
        means = numbers.mean(1) if numbers.shape[1] != 1 else numbers[:, 0]
        if self._looks and self._looks[-1][1].shape != means.shape[1:]:
            self._looks.clear()
        mean = means.mean(0)
        self._looks.append((len(means), mean, float(np.square(means - mean).sum())))
        if len(self._looks) < 3:
            return
        counts = [n for n, _, _ in self._looks]
        total = sum(counts)
        of_looks, weights = np.stack([mean for _, mean, _ in self._looks]), np.array(counts, dtype=float)[:, None]
        mean = (weights * of_looks).sum(0) / total
        between = float((weights * np.square(of_looks - mean)).sum()) / (len(self._looks) - 1)
        within = sum(w for _, _, w in self._looks) / max(total - len(self._looks), 1)
        self.facts.drift = between / within if within > 0 else math.inf


def _thinned(rows: Tensor) -> Tensor:
    """Every so many places of pictures and of sequences, along their longest side; features are all kept."""
    if rows.numel() <= _MOST_NUMBERS or rows.ndim < 3:
        return rows
    sides = range(2, rows.ndim) if rows.ndim >= 4 else (1,)
    longest = max(sides, key=lambda side: rows.shape[side])
    every = min(-(-rows.numel() // _MOST_NUMBERS), rows.shape[longest])
    return rows[(slice(None),) * longest + (slice(None, None, every),)]


def _numbers(values: Tensor) -> NDArray[Any]:
    """As doubles of numpy, whose operations on a few thousand numbers take a third of the time of torch's."""
    return np.asarray(values.cpu().double().numpy())
