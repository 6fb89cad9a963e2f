"""Where the way of the gradient is cut: modules that run, and whose parameters never get one.

Looked for only where a parameter in an optimizer has no gradient, by hooks on the modules that own parameters. A module
without a gradient whose result nothing uses (a pooler, a head for later) runs *after* modules that have one. Where the
way back is cut by a ``detach``, ``no_grad`` or an argmax, all that lies before the cut runs before whatever gets a
gradient, or hands its very result to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from stablelit.doctor.probes.hooks import harmless
from stablelit.doctor.probes.tensors import sample

_NUMBERS = 4096


@dataclass
class _Call:
    module: nn.Module
    training: bool
    with_graph: bool
    reads: set[int] = field(default_factory=set)
    writes: set[int] = field(default_factory=set)


@dataclass
class Cut:
    """What was found.

    Args:
        modules: that get no gradient, in the order in which they ran.
        last: the last of them.
        next: the first that gets one after it.
        without_graph: whether they ran under ``no_grad``.
    """

    modules: list[nn.Module]
    last: nn.Module
    next: nn.Module
    without_graph: bool


class CallOrder:
    """Writes down in which order modules are called, from `watch` to `unwatch`."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._handles: list[RemovableHandle] = []

    def watch(self, modules: list[nn.Module]) -> None:
        """Hangs a hook on each; they stay until `unwatch`."""
        self.unwatch()
        self._calls = []
        self._handles = [module.register_forward_hook(harmless(self._note)) for module in modules]

    def unwatch(self) -> None:
        """Takes the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _note(self, module: nn.Module, inputs: Any, output: Any) -> None:
        call = _Call(module, module.training, torch.is_grad_enabled())
        call.reads, call.writes = _addresses(inputs), _addresses(output)
        self._calls.append(call)

    def find(self, without: set[int], with_gradient: set[int]) -> Cut | None:
        """The cut between modules `without` and those `with_gradient` (ids); None where there is none to be told.

        A module in evaluation mode has been frozen on purpose, and one with a twin that learns (the target network of
        a momentum encoder) is not meant to get a gradient.
        """
        self.unwatch()
        calls = [call for call in self._calls if id(call.module) in without or id(call.module) in with_gradient]
        learns = [id(call.module) in with_gradient for call in calls]
        if not any(learns) or all(learns):
            return None
        first = learns.index(True)
        dark = calls[:first]
        following = calls[first]
        if not dark:
            written = [
                (address, call) for call, on in zip(calls, learns, strict=True) if not on for address in call.writes
            ]
            readers = [call for call, on in zip(calls, learns, strict=True) if on]
            handed = [(call, reader) for address, call in written for reader in readers if address in reader.reads]
            if not handed:
                return None
            dark, following = [handed[0][0]], handed[0][1]
        modules = list({id(call.module): call.module for call in dark}.values())
        learning = [call.module for call in calls if id(call.module) in with_gradient]
        if not all(call.training for call in dark) or _has_twins(modules, learning):
            return None
        return Cut(modules, dark[-1].module, following.module, not any(call.with_graph for call in dark))


def _addresses(value: Any) -> set[int]:
    tensors = value if isinstance(value, tuple | list) else (value,)
    return {
        t.data_ptr() for t in tensors if isinstance(t, Tensor) and t.layout is torch.strided and t.is_floating_point()
    }


@torch.no_grad()
def _has_twins(modules: list[nn.Module], learning: list[nn.Module]) -> bool:
    """Whether every weight matrix of `modules` is about equal to one that learns: two random ones are sqrt(2) apart."""
    living = [p for module in learning for p in module.parameters(recurse=False) if p.ndim >= 2]
    matrices = [p for module in modules for p in module.parameters(recurse=False) if p.ndim >= 2]
    for matrix in matrices:
        own = sample([matrix], _NUMBERS)[0]
        twins = [sample([other], _NUMBERS)[0] for other in living if other.shape == matrix.shape]
        if not any(bool((twin - own).norm() < 0.7 * own.norm()) for twin in twins):
            return False
    return bool(matrices)
