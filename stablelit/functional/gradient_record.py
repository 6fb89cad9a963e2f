"""The books of an epoch's gradient norms: counts, exact extremes, and quantiles in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

_COUNTS = ("steps", "non_finite", "zero", "clip_steps", "clipped", "overflowed", "shares")
_SUMS = ("coefficients", "share", "largest")
_PLAIN = (*_COUNTS, *_SUMS, "stride", "max_norm")


class GradientRecord:
    """Takes the norm of every optimizer step of one optimizer; answers for the epoch.

    Quantiles are exact up to `capacity` steps. Beyond, every second, fourth, ... norm is kept, evenly over the epoch:
    no random numbers, so that a resumed run has the same. Counts and the largest norm are always exact.

    Args:
        capacity: how many norms are kept, at least 2.
    """

    def __init__(self, capacity: int = 8192) -> None:
        self.capacity = capacity
        self.begin()

    def begin(self) -> None:
        """Empties the books: a new epoch. `max_norm` is the threshold of a clip by norm where it is a fixed number."""
        self.steps = self.non_finite = self.zero = 0
        self.clip_steps = self.clipped = self.overflowed = self.shares = 0
        self.coefficients = self.share = self.largest = 0.0
        self.max_norm: float | None = None
        self.kept: list[float] = []
        self.stride = 1

    @property
    def finite(self) -> int:
        """Steps whose norm was finite."""
        return self.steps - self.non_finite

    def add(
        self,
        norm: float,
        coefficient: float | None = None,
        clipped: bool | None = None,
        clipped_share: float | None = None,
        overflowed: bool = False,
    ) -> None:
        """Takes one optimizer step.

        Args:
            norm: before the clip.
            coefficient: what the clip multiplied with; None where no clip has one.
            clipped: whether it made the gradients smaller; None where nothing clips by norm.
            clipped_share: of a clip by value, the share of elements; None where it was not measured.
            overflowed: whether the clip's own norm was infinite where the true one is not.
        """
        self.steps += 1
        if not math.isfinite(norm):
            self.non_finite += 1
            return
        if (self.finite - 1) % self.stride == 0:
            self.kept.append(norm)
            if len(self.kept) > self.capacity:
                self.kept, self.stride = self.kept[::2], 2 * self.stride
        self.largest = max(self.largest, norm)
        self.zero += norm == 0.0
        self.overflowed += overflowed
        if clipped is not None and coefficient is not None:
            self.clip_steps += 1
            self.clipped += clipped
            self.coefficients += coefficient
        if clipped_share is not None:
            self.shares += 1
            self.share += clipped_share

    @property
    def clip_ratio(self) -> float | None:
        """The share of finite steps in which the clip made the gradients smaller; None where nothing clips by norm."""
        return self.clipped / self.clip_steps if self.clip_steps else None

    def quantile(self, share: float) -> float:
        """The norm that `share` of the finite steps do not exceed, interpolated as numpy does; NaN where none was."""
        return float(np.quantile(self.kept, share)) if self.kept else math.nan

    def summary(self, quantiles: Sequence[float] = (0.5, 0.95)) -> dict[str, float]:
        """The epoch by names: `norm_p50`, ..., `norm_max`, and what a clip did, where there is one."""
        values = {f"norm_p{100 * share:g}": self.quantile(share) for share in quantiles} if self.kept else {}
        if self.kept:
            values["norm_max"] = self.largest
        if (ratio := self.clip_ratio) is not None:
            values["clip_ratio"] = ratio
            values["mean_clip_coef"] = self.coefficients / self.clip_steps
        if self.shares:
            values["value_clipped_share"] = self.share / self.shares
        return values

    def pinned_share(self, tolerance: float = 1e-4) -> float:
        """The share of kept norms that lie within a relative `tolerance` below the largest.

        Norms that were clipped at c before anybody looked are all c; norms of stochastic gradients are hardly ever
        equal to four digits.
        """
        if not self.kept or self.largest == 0.0:
            return 0.0
        return sum(norm >= self.largest * (1.0 - tolerance) for norm in self.kept) / len(self.kept)

    def state_dict(self) -> dict[str, Any]:
        """The books as plain numbers."""
        return {name: getattr(self, name) for name in _PLAIN} | {"kept": list(self.kept)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up books that an earlier run of the same epoch kept."""
        for name in _PLAIN:
            setattr(self, name, state[name])
        self.kept = list(state["kept"])
