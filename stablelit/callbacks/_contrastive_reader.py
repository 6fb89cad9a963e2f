"""Finds the two views' embeddings, the features and the encoder's input of a contrastive step, in anybody's module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stablelit.callbacks._batch import sample_count, tensors_of
from stablelit.errors import ContractError, did_you_mean


@dataclass(frozen=True)
class Pairs:
    """Of one batch: embeddings of both views (N, d), features of both (2N, e), and what was looked at; all detached."""

    z0: Tensor
    z1: Tensor
    h: Tensor | None = None


class ContrastiveReader:
    """Reads what `training_step` returns, or listens to two submodules while it runs.

    A submodule may be called once with both views, once for each, or in chunks: its outputs one after the other are
    the rows of the first view and then those of the second. Calls inside `backward` (a recomputed forward pass) are
    not listened to.

    Args:
        keys: of the outputs: `z0`, `z1`, `h`.
        projector: path of the submodule whose outputs are the embeddings; None takes what is returned.
        encoder: path of the submodule that makes the features; None takes ``encoder`` where there is one.
        temperature: a path, or the number itself.
        owner: for messages.
    """

    def __init__(
        self, keys: Mapping[str, str], projector: str | None, encoder: str | None, temperature: str | float, owner: str
    ) -> None:
        self.keys, self.owner = dict(keys), owner
        self._paths = {"projector": projector, "encoder": encoder}
        self._temperature = temperature
        self._ears: dict[str, _Ear] = {}
        self._module: Any = None
        self.encoder: nn.Module | None = None

    @property
    def listens(self) -> bool:
        """Whether the embeddings come from a submodule."""
        return self._paths["projector"] is not None

    def attach(self, pl_module: Any) -> None:
        """Finds the submodules and begins to listen.

        Raises:
            ContractError: no submodule at a path that was given; no number at a path of the temperature that was given.
        """
        self.detach()
        self._module = pl_module
        for what, path in self._paths.items():
            found = self._submodule(what, path)
            if found is not None:
                self._ears[what] = _Ear(found)
        self.encoder = self._ears["encoder"].module if "encoder" in self._ears else None
        if self._temperature != "temperature":
            self.temperature()

    def detach(self) -> None:
        """Stops listening."""
        for ear in self._ears.values():
            ear.handle.remove()
        self._ears, self._module, self.encoder = {}, None, None

    def open(self, looks: bool) -> None:
        """A batch begins; `looks` says whether it will be looked at, or only counted."""
        if not looks and not self.listens:
            return
        for ear in self._ears.values():
            ear.begin(looks)

    def close(self) -> None:
        """The forward pass is over: what runs now is the backward pass."""
        for ear in self._ears.values():
            ear.is_open = False

    def n_pairs(self, outputs: Any, batch: Any) -> int:
        """N of this batch on this rank."""
        if self.listens:
            rows = self._ears["projector"].rows
            return rows // 2 if rows else sample_count(batch)
        is_mapping = type(outputs) is dict or isinstance(outputs, Mapping)
        z0 = outputs.get(self.keys["z0"]) if is_mapping else None
        return z0.shape[0] if isinstance(z0, Tensor) and z0.dim() else sample_count(batch)

    def pairs(self, outputs: Any) -> Pairs:
        """The embeddings of this batch.

        Raises:
            ContractError: they are not there; the message lists what is.
        """
        if self.listens:
            z = self._ears["projector"].output()
            if z is None:
                raise ContractError(
                    f"{self.owner}: {self._paths['projector']!r} of {type(self._module).__name__} was not called in "
                    f"training_step, or returned no tensor. Name the submodule whose outputs are the embeddings."
                )
            z = z.flatten(1)
            if len(z) % 2:
                raise ContractError(
                    f"{self.owner}: {self._paths['projector']!r} gave {len(z)} rows in one step; two views of a batch "
                    f"are an even number."
                )
            z0, z1 = z.chunk(2)
        else:
            z0, z1 = (self._matrix(outputs, self.keys[name]) for name in ("z0", "z1"))
            if z0.shape != z1.shape:
                raise ContractError(
                    f"{self.owner}: {self.keys['z0']!r} has shape {tuple(z0.shape)} and {self.keys['z1']!r} "
                    f"{tuple(z1.shape)}; both must be (N, d), row i of each of sample i."
                )
        return Pairs(z0.detach(), z1.detach(), self._features(outputs))

    def input(self) -> Tensor | None:
        """What the encoder was given in this batch."""
        return self._ears["encoder"].input() if "encoder" in self._ears else None

    def forget(self) -> None:
        """Lets go of this batch's tensors."""
        for ear in self._ears.values():
            ear.begin(False)
            ear.is_open = False

    def temperature(self) -> float | None:
        """T now; None where nobody has named a place and the usual one is empty. A tensor's number is a wait.

        Raises:
            ContractError: nothing, or no number, at the path.
        """
        if not isinstance(self._temperature, str):
            return float(self._temperature)
        holder: Any = self._module
        for part in self._temperature.split("."):
            holder = getattr(holder, part, None)
        if isinstance(holder, Tensor) and holder.numel() == 1:
            return float(holder.detach())
        if isinstance(holder, int | float) and not isinstance(holder, bool):
            return float(holder)
        if self._temperature == "temperature":
            return None
        raise ContractError(
            f"{self.owner}: {type(self._module).__name__} has no number at temperature={self._temperature!r}. Give a "
            f"path such as 'criterion.temperature', or the number itself."
        )

    def _features(self, outputs: Any) -> Tensor | None:
        h = outputs.get(self.keys["h"]) if isinstance(outputs, Mapping) else None
        if h is None and "encoder" in self._ears:
            h = self._ears["encoder"].output()
        return h.detach().flatten(1) if isinstance(h, Tensor) and h.dim() >= 2 and h.numel() else None

    def _matrix(self, outputs: Any, key: str) -> Tensor:
        found = outputs.get(key) if isinstance(outputs, Mapping) else None
        if isinstance(found, Tensor) and found.dim() == 2 and found.numel():
            return found
        module = type(self._module).__name__
        has = sorted(str(k) for k in outputs) if isinstance(outputs, Mapping) else []
        what = f"is of shape {tuple(found.shape)}, not (N, d)" if isinstance(found, Tensor) else "is not there"
        raise ContractError(
            f"{self.owner}: {key!r} {what} in what {module}.training_step returns: "
            f"{', '.join(has) or 'no dictionary'}. {did_you_mean(key, has)} Return the embeddings of both views "
            f"({{'loss': loss, 'z0': z0, 'z1': z1}}), or name the submodule that makes them: projector='projector'."
        )

    def _submodule(self, what: str, path: str | None) -> nn.Module | None:
        modules: dict[str, nn.Module] = dict(self._module.named_modules())
        if path is None:
            return modules.get("encoder") if what == "encoder" else None
        if path in modules:
            return modules[path]
        near = did_you_mean(path, modules)
        children = ", ".join(name for name, _ in self._module.named_children())
        raise ContractError(
            f"{self.owner}: {type(self._module).__name__} has no submodule {what}={path!r}. It has {children or 'none'}"
            f" and what is in them. {near}".rstrip()
        )


class _Ear:
    """Hears the calls of one submodule in a training batch."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.handle = module.register_forward_hook(self._hear)
        self.begin(False)
        self.is_open = False

    def begin(self, looks: bool) -> None:
        self.is_open, self._looks, self.rows = True, looks, 0
        self._inputs: list[Tensor] = []
        self._outputs: list[Tensor] = []

    def input(self) -> Tensor | None:
        return _joined(self._inputs)

    def output(self) -> Tensor | None:
        return _joined(self._outputs)

    def _hear(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self.is_open:
            return
        if isinstance(output, Tensor) and output.dim() >= 2:
            self.rows += len(output)
            if self._looks:
                self._outputs.append(output.detach())
        if self._looks:
            given = next(tensors_of(args), None)
            if given is not None and given.dim() >= 2:
                self._inputs.append(given.detach())

    def __deepcopy__(self, memo: dict[int, Any]) -> _Ear:
        return self  # a copy of the module (an averaged model) must not listen


def _joined(parts: list[Tensor]) -> Tensor | None:
    if len({part.shape[1:] for part in parts}) != 1:
        return parts[0] if parts else None
    return parts[0] if len(parts) == 1 else torch.cat(parts)
