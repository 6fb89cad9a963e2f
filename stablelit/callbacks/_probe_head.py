"""A linear classifier of features that are given, trained a batch at a time, outside of any module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import batch_norm, cross_entropy

_MOMENTUM = 0.1


class ProbeHead:
    """``W standardised(h) + b`` with Adam; it begins at zero, draws no random number and never waits for the device.

    Args:
        dim: d of the features.
        n_classes: C.
        lr: Adam's.
        device: where features come from.
    """

    def __init__(self, dim: int, n_classes: int, lr: float, device: torch.device) -> None:
        self.weight = torch.zeros(n_classes, dim, device=device, requires_grad=True)
        self.bias = torch.zeros(n_classes, device=device, requires_grad=True)
        self.mean, self.variance = torch.zeros(dim, device=device), torch.ones(dim, device=device)
        self.optimizer = torch.optim.Adam([self.weight, self.bias], lr=lr)
        # samples of each class that were trained on; right ones and known ones of the epoch; labels of no class here
        self.seen = torch.zeros(n_classes, dtype=torch.long, device=device)
        self.hits, self.known, self.beyond = (torch.zeros((), dtype=torch.long, device=device) for _ in range(3))

    @property
    def shape(self) -> tuple[int, int]:
        """C and d."""
        return self.weight.shape[0], self.weight.shape[1]

    def train_on(self, h: Tensor, label: Tensor) -> None:
        """One step on ``(n, d)`` and ``(n,)``, whose accuracy before the step counts for the epoch."""
        n_classes = len(self.bias)
        known = (label >= 0) & (label < n_classes)
        target = torch.where(known, label, 0)
        # as a batch of many steps is standardised; a single row has no spread
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(h.device.type, enabled=False):
            logits = self._logits(h.clone(), training=len(h) > 1)
            loss = (cross_entropy(logits, target, reduction="none") * known).sum() / known.sum().clamp(min=1)
            self.optimizer.zero_grad()
            torch.autograd.backward(loss)
            self.optimizer.step()
        with torch.no_grad():
            self.hits += ((logits.argmax(1) == target) & known).sum()
            self.known += known.sum()
            self.beyond += (label >= n_classes).sum()
            self.seen.index_add_(0, target, known.long())

    def judge(self, h: Tensor, label: Tensor, seen: Tensor) -> Tensor:
        """Right ones, known ones, and those of a class in `seen` ``(C,)``, of ``(n, d)``: three counts."""
        known = label >= 0
        inside = known & (label < len(self.bias))
        with torch.no_grad(), torch.autocast(h.device.type, enabled=False):
            right = self._logits(h, training=False).argmax(1) == label
        familiar = inside & (seen[torch.where(inside, label, 0)] > 0)
        return torch.stack([(right & known).sum(), known.sum(), familiar.sum()])

    def average_over_ranks(self, world_size: int) -> Tensor:
        """Makes all ranks' heads their mean; returns the samples of each class that all of them have seen."""
        seen = self.seen.clone()
        if world_size > 1:
            with torch.no_grad():
                for own in (self.weight, self.bias, self.mean, self.variance):
                    torch.distributed.all_reduce(own.data)
                    own.data /= world_size
            torch.distributed.all_reduce(seen)
        return seen

    def begin_epoch(self) -> None:
        """Forgets the accuracy of the last."""
        for count in (self.hits, self.known):
            count.zero_()

    def plain(self) -> dict[str, Any]:
        """For a checkpoint."""
        tensors = {name: getattr(self, name).detach().cpu().clone() for name in _TENSORS}
        return {**tensors, "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Takes it up, wherever it was saved."""
        with torch.no_grad():
            for name in _TENSORS:
                getattr(self, name).copy_(state[name])
        lr = self.optimizer.param_groups[0]["lr"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.optimizer.param_groups[0]["lr"] = lr

    def _logits(self, h: Tensor, training: bool) -> Tensor:
        z = batch_norm(h.float(), self.mean, self.variance, training=training, momentum=_MOMENTUM)
        return z @ self.weight.T + self.bias


_TENSORS = ("weight", "bias", "mean", "variance", "seen", "hits", "known", "beyond")
