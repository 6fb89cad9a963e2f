"""The running means of an epoch as they were before a batch."""

from __future__ import annotations

from typing import Any

import torch


class RunningMeans:
    """Takes a NaN that a skipped batch has logged out of the epoch's mean, which would be NaN for it.

    Lightning makes a new tensor for every sum, so that a reference keeps the old one and costs nothing.
    """

    def __init__(self) -> None:
        self._before: dict[str, dict[str, Any]] = {}

    def keep(self, trainer: Any) -> None:
        """Remembers the present sums."""
        self._before = {key: _sums(result) for key, result in _results(trainer)}

    def restore(self, trainer: Any) -> None:
        """Puts back those that are not finite any more."""
        for key, result in _results(trainer):
            now, before = _sums(result), self._before.get(key)
            if bool(torch.isfinite(now["value"])):
                continue
            for name, value in now.items():
                setattr(result, name, torch.zeros_like(value) if before is None else before[name])
            result._computed = None


def _results(trainer: Any) -> list[tuple[str, Any]]:
    found = trainer.fit_loop.epoch_loop._results.items()
    return [(k, r) for k, r in found if r.is_tensor and r.meta.on_epoch and not r.meta.is_custom_reduction]


def _sums(result: Any) -> dict[str, Any]:
    names = ("value", "cumulated_batch_size") if result.meta.is_mean_reduction else ("value",)
    return {name: getattr(result, name) for name in names}
