"""Finds the parts of a variational bound in what steps return or log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from torch import Tensor

from stablelit.callbacks._batch import tensors_of
from stablelit.callbacks._quantity import QuantityReader
from stablelit.contracts import Scalar
from stablelit.errors import ContractError
from stablelit.functional.kl import gaussian_kl_per_dim


class PosteriorReader:
    """Reads by the names it was given; what it makes itself has names that begin with ``~``.

    Args:
        keys: `kl`, `recon`, `kl_per_dim`, `mean`, `logvar`, `weight`, to the names in the module.
        encode: name of a method of a batch that gives mean and logvar.
        owner: for messages.
    """

    def __init__(self, keys: Mapping[str, str], encode: str | None, owner: str) -> None:
        self.keys, self.owner = dict(keys), owner
        self._encode = encode
        self._kl = QuantityReader(keys["kl"], owner, "KL")
        self._recon: QuantityReader | None = None
        self._scalar: Scalar | None = None

    @property
    def weight(self) -> Any:
        """The weight in force, a number or a tensor; None where the module has none."""
        return None if self._scalar is None else self._scalar.value

    def attach(self, pl_module: Any) -> None:
        """Finds the weight and begins to listen to `log`.

        Raises:
            ContractError: `encode` names nothing.
        """
        if self._encode is not None and not callable(getattr(pl_module, self._encode, None)):
            raise ContractError(
                f"{self.owner}: {type(pl_module).__name__} has no method {self._encode!r}. Give encode= a method that "
                f"takes a batch and returns (mean, logvar), each (B, d), or None."
            )
        try:
            self._scalar = Scalar(pl_module, self.keys["weight"], self.owner)
        except ContractError:
            self._scalar = None  # the callback says so after its first evaluation
        self._recon = QuantityReader(self.keys["recon"], self.owner, "reconstruction")
        for reader in (self._kl, self._recon):
            reader.attach(pl_module)

    def detach(self, pl_module: Any) -> None:
        """Stops listening."""
        for reader in (self._kl, self._recon):
            if reader is not None:
                reader.detach(pl_module)

    def train_values(
        self, pl_module: Any, outputs: Any, batch: Any, accumulated: int
    ) -> tuple[dict[str, Any], Tensor | None]:
        """The numbers of a training batch, shape () or (B,), by name; and the KL per dimension (B, d), if there is one.

        Raises:
            ContractError: no KL in two batches.
        """
        returned = outputs if type(outputs) is dict or isinstance(outputs, Mapping) else {}
        values: dict[str, Any] = {}
        for name, value in returned.items():
            if isinstance(value, Tensor) and value.ndim <= 1 and value.is_floating_point() and value.numel():
                values[str(name)] = value.detach()
        if "loss" in values and accumulated != 1:
            values["loss"] = values["loss"] * accumulated
        found = returned.get(self.keys["kl_per_dim"])
        kl_per_dim: Tensor | None = found.detach() if _is_matrix(found) else None
        kl = values.get(self.keys["kl"])
        if kl is None and kl_per_dim is not None:
            kl = kl_per_dim.sum(dim=-1)
        if kl is None:
            kl = self._kl.read(pl_module, outputs, batch)
        recon = values.get(self.keys["recon"])
        if recon is None and self._recon is not None:
            try:
                recon = self._recon.read(pl_module, outputs, batch)
            except ContractError:  # what needs it is said once, and the KL alone is looked at
                self._recon.detach(pl_module)
                self._recon = None
        if recon is not None:
            values["~recon"] = recon
        if kl is not None:
            values["~kl"] = kl
            if self._scalar is not None:
                weight = self._scalar.value
                if isinstance(weight, Tensor):
                    # a schedule fills the buffer in place; of a device's a copy, for its number would be a wait
                    weight = weight.item() if weight.is_cpu else weight.detach().clone()
                values["~weight"] = weight
        return values, kl_per_dim

    def validation_values(
        self, pl_module: Any, outputs: Any, batch: Any, size: int
    ) -> tuple[int, Tensor | None, Tensor | None, Tensor | None, tuple[Tensor, Tensor] | None]:
        """Of a validation batch: its size, recon, kl, kl_per_dim and (mean, logvar), None for what is not there."""
        returned = outputs if isinstance(outputs, Mapping) else {}
        recon, kl = (returned.get(self.keys[key]) for key in ("recon", "kl"))
        recon, kl = (value if isinstance(value, Tensor) else None for value in (recon, kl))
        mean, logvar = (_matrix(returned.get(self.keys[key])) for key in ("mean", "logvar"))
        if mean is None and logvar is None and self._encode is not None:
            mean, logvar = getattr(pl_module, self._encode)(batch)
        posterior = None if mean is None or logvar is None else (mean, logvar)
        kl_per_dim = _matrix(returned.get(self.keys["kl_per_dim"]))
        if kl_per_dim is None and posterior is not None:
            kl_per_dim = gaussian_kl_per_dim(*posterior)
        if kl_per_dim is not None:
            size = len(kl_per_dim)
        return size, recon, kl, kl_per_dim, posterior


def spread_of_features(batch: Any) -> tuple[float, int]:
    """Of the first batched floating-point tensor: the mean variance of a feature, and how many features it has.

    (0, 0) where there is none, or fewer than two samples. Waits for the device.
    """
    for tensor in tensors_of(batch):
        if tensor.is_floating_point() and tensor.dim() > 1 and len(tensor) > 1:
            flat = tensor.detach().float().reshape(len(tensor), -1)
            return float(flat.var(dim=0, correction=0).mean()), flat.shape[1]
    return 0.0, 0


def _is_matrix(value: Any) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.ndim == 2 and value.numel() > 0


def _matrix(value: Any) -> Tensor | None:
    return value.detach().float() if _is_matrix(value) else None
