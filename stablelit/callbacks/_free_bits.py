"""Puts free bits in the place of a module's `kl_penalty`, for as long as it trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stablelit.contracts import HasKLPenalty, Scalar
from stablelit.errors import ConfigurationError, ContractError, bad_argument
from stablelit.functional.free_bits import FreeBitsReduce, free_bits_kl
from stablelit.functional.schedules import check_number

_EXAMPLE = (
    "    def kl_penalty(self, kl_per_dim):  # (B, d) nats -> (B,)\n"
    "        return self.kl_weight * kl_per_dim.sum(-1)\n"
    "and in training_step: loss = (recon + self.kl_penalty(kl_per_dim)).mean()"
)


class FreeBits:
    """``weight * free_bits_kl(...)`` while the Trainer trains, the module's own `kl_penalty` else.

    Args:
        free_bits: nats per dimension.
        reduce: `batch` or `sample`.
        kl_target: of the controller beside it, which cannot hold a KL below the sum of the floors.
        owner: for messages.

    Raises:
        ConfigurationError: a floor that is not above 0, an unknown `reduce`.
    """

    def __init__(self, free_bits: float, reduce: FreeBitsReduce, kl_target: float | None, owner: str) -> None:
        self.free_bits = check_number(owner, "free_bits", free_bits, above=0.0)
        if reduce not in ("batch", "sample"):
            raise bad_argument(owner, "free_bits_reduce", reduce, "batch, sample")
        self.reduce, self.kl_target, self.owner = reduce, kl_target, owner
        self._trainer: Any = None
        self._weight: Scalar | None = None
        self._original: Any = None
        self._on_instance: Any = None
        self._called = self._checked = False

    def require(self, pl_module: Any) -> None:
        """Looks for the contract.

        Raises:
            ContractError: the module has no `kl_penalty`; the message shows one.
        """
        if not isinstance(pl_module, HasKLPenalty):
            raise ContractError(
                f"{self.owner}: mode='free_bits' needs {type(pl_module).__name__}.kl_penalty(kl_per_dim), because no "
                f"scalar weight can express it. Write\n{_EXAMPLE}"
            )

    def attach(self, trainer: Any, pl_module: Any, weight: Scalar) -> None:
        """Stands in for `kl_penalty` on the instance."""
        if self._trainer is not None:
            return
        self._trainer, self._weight = trainer, weight
        self._on_instance, self._original = vars(pl_module).get("kl_penalty"), pl_module.kl_penalty
        vars(pl_module)["kl_penalty"] = self
        self._called = self._checked = False

    def detach(self, pl_module: Any) -> None:
        """Puts the module's own back; a second call does nothing."""
        if self._trainer is None:
            return
        if vars(pl_module).get("kl_penalty") is self:
            del vars(pl_module)["kl_penalty"]
            if self._on_instance is not None:
                vars(pl_module)["kl_penalty"] = self._on_instance
        self._trainer = self._weight = self._original = self._on_instance = None

    def check_called(self, pl_module: Any) -> None:
        """After a batch: a penalty that nobody asks for is no penalty.

        Raises:
            ContractError: `training_step` does not call `kl_penalty`.
        """
        if not self._called:
            raise ContractError(
                f"{self.owner}: {type(pl_module).__name__}.training_step did not call self.kl_penalty, so free bits "
                f"have no effect. Write\n{_EXAMPLE}"
            )

    def __call__(self, kl_per_dim: Tensor) -> Tensor:
        if self._trainer is None or not self._trainer.training:
            original = self._original
            if original is None:  # a copy of the module that outlived the fit
                raise RuntimeError(f"{self.owner}: kl_penalty of a copied module is called after its training ended")
            result: Tensor = original(kl_per_dim)
            return result
        self._called = True
        if not self._checked:
            self._check(kl_per_dim)
        mean = None
        if self.reduce == "batch" and self._trainer.world_size > 1:
            mean = self._trainer.strategy.reduce(kl_per_dim.detach().float().mean(dim=0), reduce_op="mean")
        assert self._weight is not None
        return self._weight.value * free_bits_kl(kl_per_dim, self.free_bits, self.reduce, mean)

    def __deepcopy__(self, memo: dict[int, Any]) -> FreeBits:
        # a copy of the module (an averaged model) must not copy the Trainer; a copy of the callback has none
        return self if self._trainer is not None else FreeBits(self.free_bits, self.reduce, self.kl_target, self.owner)

    def _check(self, kl_per_dim: Tensor) -> None:
        if not isinstance(kl_per_dim, torch.Tensor) or kl_per_dim.dim() != 2:
            got = tuple(kl_per_dim.shape) if isinstance(kl_per_dim, torch.Tensor) else type(kl_per_dim).__name__
            raise ContractError(f"{self.owner}: kl_penalty was given {got}; free bits need the KL as (B, d), nats.")
        d = kl_per_dim.shape[1]
        if self.kl_target is not None and self.free_bits * d > self.kl_target:
            raise ConfigurationError(
                f"{self.owner}: free_bits={self.free_bits:g} in each of {d} dimensions keeps the KL at "
                f"{self.free_bits * d:g} nats or more, above kl_target={self.kl_target:g}. Give free_bits of at most "
                f"{self.kl_target / d:.3g}, a larger kl_target, or leave kl_target out."
            )
        self._checked = True
