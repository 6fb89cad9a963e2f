"""Means and spreads of each feature of a leaf, over looks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stablelit.doctor.evidence.batches import LeafFacts
from stablelit.doctor.probes.tensors import rows_differ

_MOST_FEATURES = 256
_MOST_ROWS = 128
_MOST_LOOKS = 12


class LeafBook:
    """Facts of one leaf: moments from at most 128 rows of each of the first 12 looks, finiteness in all.

    Args:
        name: of the leaf.
        leaf: as it is first seen.
    """

    def __init__(self, name: str, leaf: Tensor) -> None:
        floats = leaf.is_floating_point()
        self.facts = LeafFacts(name, "float" if floats else "boolean" if leaf.dtype is torch.bool else "integer")
        self._count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None
        self._looks: list[tuple[int, Tensor, float]] = []

    def add(self, leaf: Tensor) -> bool:
        """Takes a batch; returns whether all of its values are finite."""
        facts = self.facts
        facts.looks += 1
        facts.shape = tuple(leaf.shape)
        facts.rows += leaf.shape[0] if leaf.ndim else 1
        leaf = leaf.detach()
        if facts.looks <= _MOST_LOOKS and leaf.ndim:
            facts.varying_looks += rows_differ(leaf[:_MOST_ROWS])
        if facts.kind != "float" or not leaf.numel():
            return True
        finite = bool(torch.isfinite(leaf.sum())) or bool(leaf.isfinite().all())
        facts.non_finite += not finite
        # one number for a whole batch has no features
        if finite and facts.looks <= _MOST_LOOKS and leaf.ndim:
            self._add_moments(leaf)
        return finite

    def _add_moments(self, leaf: Tensor) -> None:
        if leaf.ndim > 1:
            leaf = leaf[:_MOST_ROWS]
            # channels of pictures come second, features of everything else last
            axis = 1 if leaf.ndim >= 4 else leaf.ndim - 1
            by_feature = leaf.transpose(0, axis)[:_MOST_FEATURES].flatten(1).double()
        else:
            by_feature = leaf.reshape(1, -1).double()
        self._add_drift(leaf)
        n = by_feature.shape[1]
        mean = by_feature.mean(1)
        squares = (by_feature - mean[:, None]).square().sum(1)
        if self._mean is None or self._squares is None or self._mean.shape != mean.shape:
            self._count, self._mean, self._squares = n, mean, squares
        else:
            # Chan, Golub and LeVeque 1979, eq. 2.1
            total = self._count + n
            gap = mean - self._mean
            self._squares = self._squares + squares + gap.square() * (self._count * n / total)
            self._mean = self._mean + gap * (n / total)
            self._count = total
        facts = self.facts
        variance = self._squares / self._count
        packed = torch.cat([self._mean, variance, by_feature.abs().max().reshape(1)]).tolist()
        half = len(self._mean)
        facts.mean, facts.std = packed[:half], [math.sqrt(max(v, 0.0)) for v in packed[half : 2 * half]]
        facts.largest = max(facts.largest, packed[-1])
        facts.rms = math.sqrt(sum(m * m + s * s for m, s in zip(facts.mean, facts.std, strict=True)) / half)

    def _add_drift(self, leaf: Tensor) -> None:
        """A row counts once, however many places it has: those of a picture are no samples of their own."""
        rows = leaf.reshape(len(leaf), -1, leaf.shape[-1]) if leaf.ndim > 2 else leaf.reshape(len(leaf), 1, -1)
        means = rows[..., :_MOST_FEATURES].double().mean(1)
        if self._looks and self._looks[-1][1].shape != means.shape[1:]:
            self._looks.clear()
        self._looks.append((len(means), means.mean(0), float(means.var(0, correction=0).sum()) * len(means)))
        if len(self._looks) < 3:
            return
        counts = [n for n, _, _ in self._looks]
        total = sum(counts)
        of_looks, weights = torch.stack([mean for _, mean, _ in self._looks]), means.new_tensor(counts)[:, None]
        mean = (weights * of_looks).sum(0) / total
        between = float((weights * (of_looks - mean).square()).sum()) / (len(self._looks) - 1)
        within = sum(w for _, _, w in self._looks) / max(total - len(self._looks), 1)
        self.facts.drift = between / within if within > 0 else math.inf
