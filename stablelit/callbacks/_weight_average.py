"""The average of a module's trainable parameters, and its exchange with the weights that are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stablelit.errors import ConfigurationError
from stablelit.functional.averaging import average_dtype, blend_, copy_


@dataclass
class _Averaged:
    """A parameter, all names that it has (tied weights have several), and its average."""

    names: list[str]
    live: nn.Parameter
    average: Tensor


class WeightAverage:
    """Follows parameters from the moment on when they become trainable: until then they are their own average.

    Args:
        owner: for messages.

    Attributes:
        n_averaged: updates so far.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.n_averaged = 0
        self._parts: dict[str, _Averaged] = {}
        self._raw: list[Tensor] | None = None
        self._loaded: dict[str, Tensor] = {}
        self._all: list[nn.Parameter] = []
        self._trainable: list[bool] = []

    @property
    def is_in_place(self) -> bool:
        """Whether the module has the average in the place of the weights that are trained."""
        return self._raw is not None

    def follow(self, module: nn.Module) -> None:
        """Takes up every parameter that is trainable, or whose average a checkpoint has brought.

        Raises:
            ConfigurationError: a parameter that was followed is no longer there, or is another one.
        """
        names: dict[nn.Parameter, list[str]] = {}
        for name, parameter in module.named_parameters(remove_duplicate=False):
            names.setdefault(parameter, []).append(name)
        self._all = list(names)
        self._trainable = [parameter.requires_grad for parameter in self._all]
        first = {aliases[0]: parameter for parameter, aliases in names.items()}
        for name, part in self._parts.items():
            if first.get(name) is not part.live:
                raise ConfigurationError(
                    f"{self.owner}: {type(module).__name__}.{name} was averaged and is now "
                    f"{'another parameter' if name in first else 'gone'}, so that its average means nothing. Fill the "
                    f"parameter in place of replacing it, or begin another fit."
                )
        for parameter, aliases in names.items():
            loaded = next((self._loaded[name] for name in aliases if name in self._loaded), None)
            wanted = loaded is not None or parameter.requires_grad
            if wanted and aliases[0] not in self._parts and _is_number(parameter):
                self._parts[aliases[0]] = _Averaged(aliases, parameter, _like(parameter, loaded))
        self._loaded = {}

    def follow_unfrozen(self, module: nn.Module) -> None:
        """Takes up what has become trainable since, before a step changes it."""
        if [parameter.requires_grad for parameter in self._all] != self._trainable:
            self.follow(module)

    def update(self, decay: float) -> None:
        """One step of the average."""
        parts = self._parts.values()
        blend_([part.average for part in parts], [part.live for part in parts], decay)
        self.n_averaged += 1

    def put_in(self) -> None:
        """Puts the average in the place of the weights, and keeps those; without an update there is no average yet."""
        if self.n_averaged and self._raw is None:
            parts = self._parts.values()
            self._raw = [part.live.detach().clone() for part in parts]
            copy_([part.live for part in parts], [part.average for part in parts])

    def take_out(self) -> None:
        """Puts the weights back, bit by bit."""
        raw, self._raw = self._raw, None
        if raw is not None:
            copy_([part.live for part in self._parts.values()], raw)

    def raw(self) -> dict[str, Tensor]:
        """The weights that are trained, by the first of a parameter's names; of the followed ones."""
        parts = self._parts.values()
        values = [part.live.detach() for part in parts] if self._raw is None else self._raw
        return dict(zip(self._parts, values, strict=True))

    def to_host(self) -> None:
        """Makes room on the device when the fit is over."""
        if self._raw is not None:
            self._raw = [value.cpu() for value in self._raw]
            for part in self._parts.values():
                part.average = part.average.cpu()

    def write(self, checkpoint: dict[str, Any]) -> None:
        """Puts averages into `state_dict`, and the weights that are trained into `current_model_state`."""
        state: dict[str, Any] = checkpoint["state_dict"]
        trained, averaged = dict(state), dict(state)
        left_out: dict[str, Tensor] = {}
        for part, raw in zip(self._parts.values(), self.raw().values(), strict=True):
            average = part.average if self.n_averaged else raw
            present = [name for name in part.names if name in state]
            trained.update(dict.fromkeys(present, raw))
            averaged.update(dict.fromkeys(present, average))
            if not present:  # the module's own state_dict leaves it out
                left_out[part.names[0]] = average
        checkpoint["state_dict"], checkpoint["current_model_state"] = averaged, trained
        checkpoint["averaging_state"] = {"n_averaged": torch.tensor(self.n_averaged), **left_out}

    def read(self, checkpoint: Mapping[str, Any]) -> None:
        """Takes up the averages of a checkpoint: at once for parameters that are followed, else when they are."""
        trained: dict[str, Any] = checkpoint["current_model_state"]
        state = dict(checkpoint["averaging_state"])
        self.n_averaged = int(state.pop("n_averaged"))
        found = {**checkpoint["state_dict"], **state}
        self._raw = None
        for part in self._parts.values():
            loaded = next((found[name] for name in part.names if name in found), None)
            if loaded is not None:
                copy_([part.average], [loaded])
        if not self._parts:
            # what was frozen is its own average; where the two differ it was not frozen from the beginning
            self._loaded = {
                name: value
                for name, value in found.items()
                if isinstance(value, Tensor) and not (name in trained and _equal(value, trained[name]))
            }


def _is_number(parameter: nn.Parameter) -> bool:
    return parameter.is_floating_point() or parameter.is_complex()


def _like(parameter: nn.Parameter, loaded: Tensor | None) -> Tensor:
    # in inference mode the average would be a tensor that nothing outside of it may change
    with torch.inference_mode(False), torch.no_grad():
        source = parameter.detach() if loaded is None else loaded
        return source.to(device=parameter.device, dtype=average_dtype(parameter), copy=True)


def _equal(a: Tensor, b: Any) -> bool:
    return isinstance(b, Tensor) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
