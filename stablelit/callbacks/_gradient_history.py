"""The gradient norms of one optimizer over a whole run, in bounded memory, for their picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

MOST_BUCKETS = 2048


@dataclass(slots=True)
class Bucket:
    """What is known of neighbouring optimizer steps; two of them make one without loss.

    Args:
        step: the first of them.
        norms: how many norms were finite and above 0; `low`, `high` and `logs`, the sum of their logarithms, are of
            these.
        zero: norms of exactly 0.
        non_finite: norms that were NaN or infinite.
        skipped: such norms under a gradient scaler, which skips the step and tries a smaller factor.
        clip_steps: finite norms at which a clip by norm looked, and `clipped`, those that it made smaller.
        bound: its last threshold; 0 where there is none.
    """

    step: int
    norms: int = 0
    zero: int = 0
    non_finite: int = 0
    skipped: int = 0
    low: float = math.inf
    high: float = 0.0
    logs: float = 0.0
    clip_steps: int = 0
    clipped: int = 0
    bound: float = 0.0

    def join(self, later: Bucket) -> None:
        """Takes the steps that come next into this one."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.low, self.high = min(self.low, later.low), max(self.high, later.high)
        self.bound = later.bound or self.bound


_COLUMNS = tuple(field.name for field in fields(Bucket))
_SUMS = ("norms", "zero", "non_finite", "skipped", "logs", "clip_steps", "clipped")


class GradientHistory:
    """Optimizer steps in buckets of `stride` steps; when there are too many buckets, the stride doubles.

    Thinning loses no spike and no count: a bucket keeps the smallest and the largest norm, and how many were clipped,
    not finite, or zero. No random numbers: a resumed run has the same buckets.

    Args:
        capacity: how many buckets are kept, at least 1.
    """

    def __init__(self, capacity: int = MOST_BUCKETS) -> None:
        self.capacity = capacity
        self.begin()

    def begin(self) -> None:
        """Forgets everything: a new run."""
        self.stride = 1
        self.buckets: list[Bucket] = []

    def add(
        self, step: int, norm: float, clipped: bool | None = None, bound: float | None = None, scaled: bool = False
    ) -> None:
        """Takes one optimizer step.

        Args:
            step: its number, not below the one before.
            norm: before the clip.
            clipped: whether the clip made the gradients smaller; None where nothing clips by norm.
            bound: the clip's threshold where it is known.
            scaled: whether a gradient scaler skips steps whose norm is not finite.
        """
        if self.buckets and step < self.buckets[-1].step:
            # the run was put back to a checkpoint that knows nothing of this one
            self.begin()
        bucket = self._bucket(step)
        if math.isfinite(norm):
            if norm > 0.0:
                bucket.norms += 1
                bucket.low, bucket.high = min(bucket.low, norm), max(bucket.high, norm)
                bucket.logs += math.log(norm)
            else:
                bucket.zero += 1
            if clipped is not None:
                bucket.clip_steps += 1
                bucket.clipped += clipped
        elif scaled:
            bucket.skipped += 1
        else:
            bucket.non_finite += 1
        if bound is not None and math.isfinite(bound):
            bucket.bound = bound

    def columns(self) -> dict[str, list[Any]]:
        """The buckets' fields by name."""
        return {name: [getattr(bucket, name) for bucket in self.buckets] for name in _COLUMNS}

    def state_dict(self) -> dict[str, Any]:
        """The buckets as plain numbers."""
        return {"stride": self.stride, "buckets": self.columns()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with the buckets of an earlier run."""
        self.stride = state["stride"]
        self.buckets = [Bucket(*row) for row in zip(*(state["buckets"][name] for name in _COLUMNS), strict=True)]

    def _bucket(self, step: int) -> Bucket:
        if self.buckets and step // self.stride == self.buckets[-1].step // self.stride:
            return self.buckets[-1]
        self.buckets.append(Bucket(step))
        while len(self.buckets) > self.capacity:
            self._thin()
        return self.buckets[-1]

    def _thin(self) -> None:
        self.stride *= 2
        kept: list[Bucket] = []
        for bucket in self.buckets:
            if kept and kept[-1].step // self.stride == bucket.step // self.stride:
                kept[-1].join(bucket)
            else:
                kept.append(bucket)
        self.buckets = kept
