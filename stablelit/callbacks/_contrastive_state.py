"""From verdicts on single looks to the one that holds: it must last."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from stablelit.functional.contrastive_verdict import ContrastiveVerdict

_AT_ONCE = "non-finite-embeddings"


class VerdictKeeper:
    """Holds a verdict until another has lasted.

    The first trouble needs only that there is trouble for `patience` steps, under whatever names: a network that falls
    out of its cone goes through several. From one trouble to another, and back to ``ok``, the new name must last.

    Args:
        warmup: steps before which nothing is judged.
        patience: steps.
    """

    def __init__(self, warmup: int, patience: int) -> None:
        self.warmup, self.patience = warmup, patience
        self.begin()

    def begin(self) -> None:
        """Begins a run."""
        self.name, self._rival, self._since = "ok", "", 0

    def take(self, step: int, verdict: ContrastiveVerdict) -> bool:
        """Takes the verdict on a look; returns whether it is another one now than before."""
        seen = verdict.name
        if seen == _AT_ONCE:
            return self.force(seen)
        if step < self.warmup or seen == self.name:
            self._rival = ""
            return False
        if self._rival == "" or (self.name != "ok" and self._rival != seen):
            self._since = step
        self._rival = seen
        if step - self._since < self.patience:
            return False
        self.name, self._rival = seen, ""
        return True

    def force(self, name: str) -> bool:
        """Makes it hold at once; returns whether it is another one now."""
        changes, self.name, self._rival = self.name != name, name, ""
        return changes

    def state_dict(self) -> dict[str, Any]:
        return {"name": self.name, "rival": self._rival, "since": self._since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.name, self._rival, self._since = state["name"], state["rival"], state["since"]


class LossWindow:
    """The losses of the last batches with the pairs that each compared; nothing is read from the device.

    Args:
        size: batches.
        stride: of so many optimizer steps one is taken.
        begin: steps before that of which every one is.
    """

    def __init__(self, size: int, stride: int = 1, begin: int = 0) -> None:
        self._stride, self._begin = stride, begin
        self._kept: deque[tuple[Tensor, int, int]] = deque(maxlen=size)

    def wants(self, step: int) -> bool:
        """Whether the losses of a step, counted from 1, are taken."""
        return step <= self._begin or step % self._stride == 0

    def add(self, loss: Tensor, n_pairs: int, factor: int = 1) -> None:
        # multiplied when it is read: an operation a step costs more than all else that a step does
        self._kept.append((loss, n_pairs, factor))

    def mean(self) -> float:
        """Mean of the finite losses, infinity where the last is not finite; not a number where there is none.

        Waits for the device. A gradient scaler looks for its factor with losses that are not finite.
        """
        if not self._kept:
            return math.nan
        losses = self._losses()
        finite = losses.isfinite()
        mean = losses.where(finite, 0.0).sum() / finite.sum().clamp_min(1)
        return float(torch.where(finite[-1], mean, math.inf))

    def mean_over_sizes(self, value: Callable[[int], float]) -> float:
        """The mean over batches of a number that follows from the pairs of each; not a number where there is none."""
        counts = Counter(n for _, n, _ in self._kept)
        return sum(count * value(n) for n, count in counts.items()) / len(self._kept) if self._kept else math.nan

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self._losses().tolist() if self._kept else [], "pairs": [n for _, n, _ in self._kept]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._kept.clear()
        for loss, n in zip(state["losses"], state["pairs"], strict=True):
            self._kept.append((torch.tensor(loss), n, 1))

    def _losses(self) -> Tensor:
        # those that a checkpoint held are still on the host
        device = self._kept[-1][0].device
        factors = torch.tensor([float(factor) for _, _, factor in self._kept], device=device)
        return torch.stack([loss.to(device) for loss, _, _ in self._kept]) * factors
