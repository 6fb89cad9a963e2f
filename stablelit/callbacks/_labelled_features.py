"""Features with labels, as steps return them: rows of both in the same order, unknown ones marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stablelit.callbacks._ranks import gather_from_ranks
from stablelit.errors import ContractError, did_you_mean


class FeatureReader:
    """Reads features and labels by their keys; nothing waits for the device.

    Args:
        features: key of a step's outputs, ``(n, d)`` or ``(n, d, 1, 1)``; of two views of each sample all first views
            come before all second ones.
        labels: key of the outputs, else of the batch, ``(n,)`` or one for each view pair; below 0 is unknown.
        owner: for messages.
    """

    def __init__(self, features: str, labels: str, owner: str) -> None:
        self.features, self.labels, self.owner = features, labels, owner

    def read(self, pl_module: Any, outputs: Any, batch: Any, step: str) -> tuple[Tensor, Tensor]:
        """Detached float32 features ``(n, d)`` and labels ``(n,)``; rows that are not finite are zero, and unknown.

        Raises:
            ContractError: the step does not return them, or their rows do not fit; the message has what is there.
        """
        h = outputs.get(self.features) if isinstance(outputs, Mapping) else None
        if not isinstance(h, Tensor) or h.dim() < 2:
            raise self._missing(pl_module, outputs, "features", self.features, step)
        label = outputs.get(self.labels)
        if label is None and isinstance(batch, Mapping):
            label = batch.get(self.labels)
        if not isinstance(label, Tensor):
            raise self._missing(pl_module, outputs, "labels", self.labels, step)
        h, label = h.detach().flatten(1).float(), label.detach().reshape(-1).long()
        if not len(label) or len(h) % len(label):
            raise ContractError(
                f"{self.owner}: {step} of {type(pl_module).__name__} returns {len(h)} rows of {self.features!r} and "
                f"{len(label)} of {self.labels!r}; it needs a label for each row, or for each sample of several views."
            )
        label = label.repeat(len(h) // len(label))
        finite = torch.isfinite(h).all(1)
        return torch.where(finite[:, None], h, 0.0), torch.where(finite, label, -1)

    def _missing(self, pl_module: Any, outputs: Any, what: str, key: str, step: str) -> ContractError:
        names = [str(name) for name in outputs] if isinstance(outputs, Mapping) else []
        there = f"{', '.join(names)}" if names else f"a {type(outputs).__name__}"
        near = did_you_mean(key, names)
        return ContractError(
            f"{self.owner}: {step} of {type(pl_module).__name__} returns no tensor {key!r} for {what}; it returns "
            f"{there}. {near + ' ' if near else ''}Give {what}= a key that is there, or return it."
        )


def joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Batches of rows and labels as one."""
    if not parts:
        return torch.zeros(0, 0), torch.zeros(0, dtype=torch.long)
    return torch.cat([h for h, _ in parts]), torch.cat([label for _, label in parts])


def rows_of_all_ranks(trainer: Any, pl_module: Any, mine: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Rows and labels of all ranks, which may have different numbers of them; every rank must call it."""
    if trainer.world_size == 1:
        return mine
    parts = gather_from_ranks(trainer, tuple(t.cpu() for t in mine))
    h, label = joined([(rows, labels) for rows, labels in parts if len(rows)])
    return h.to(pl_module.device), label.to(pl_module.device)
