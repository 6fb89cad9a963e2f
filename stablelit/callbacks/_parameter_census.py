"""Which parameters have no gradient, or one that is exactly zero, in every step of an epoch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stablelit.functional.gradients import tensor_norms


class ParameterCensus:
    """Looks at all parameters in an epoch's first step, and after that only at those that had nothing.

    So it is exact over the epoch and costs next to nothing where everything learns. The device is read in the steps
    1, 2, 4, 8, ... of an epoch.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._dead: dict[int, list[Any]] = {}
        self._steps: dict[int, int] = {}
        self._saved: dict[int, list[str]] = {}
        self._alive: dict[int, Tensor] = {}
        self.rms: dict[int, float] = {}

    def attach(self, pl_module: Any) -> None:
        """Takes the parameters' names; when they have their final form."""
        self._names = {id(p): name for name, p in pl_module.named_parameters()}
        self._dead, self._alive = {}, {}

    def begin(self) -> None:
        """A new epoch."""
        self._dead, self._steps, self._saved, self._alive, self.rms = {}, {}, {}, {}, {}

    def look(self, index: int, optimizer: Any) -> None:
        """Looks at the gradients of optimizer `index`, in each of its steps.

        The steps are counted for each optimizer. Of a first step, `rms` keeps the largest root mean square gradient
        that a parameter has.
        """
        step = self._steps[index] = self._steps.get(index, 0) + 1
        if index not in self._dead:
            every = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
            if index in self._saved:
                names = set(self._saved[index])
                self._dead[index] = [p for p in every if self._name(p) in names]
            else:
                self._dead[index] = self._first_look(index, every)
                return
        dead = self._dead[index]
        if not dead:
            return
        seen = [place for place, p in enumerate(dead) if p.grad is not None]
        if seen:
            norms = tensor_norms([dead[place].grad for place in seen])
            alive = self._alive.setdefault(index, torch.zeros(len(dead), dtype=torch.bool, device=norms.device))
            alive[torch.tensor(seen, device=alive.device)] |= norms != 0
        if step & (step - 1) == 0:
            self._narrow(index)

    def dead(self) -> dict[str, str]:
        """The names of those that had nothing all epoch, and what is wrong: `None` or `zero`; reads the device."""
        for index in list(self._dead):
            self._narrow(index)
        # a saved optimizer that has not stepped since is not judged
        return {
            self._name(p): "None" if p.grad is None else "zero"
            for parameters in self._dead.values()
            for p in parameters
        }

    def state_dict(self) -> dict[str, Any]:
        """The names still under suspicion, and the steps, by optimizer."""
        for index in list(self._dead):
            self._narrow(index)
        names = {str(i): list(n) for i, n in self._saved.items()}
        names |= {str(i): [self._name(p) for p in dead] for i, dead in self._dead.items()}
        steps = {str(i): n for i, n in self._steps.items()}
        return {"dead": names, "steps": steps, "rms": {str(i): rms for i, rms in self.rms.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with the epoch of an earlier run."""
        self.begin()
        self._saved = {int(i): list(names) for i, names in state["dead"].items()}
        self._steps = {int(i): int(n) for i, n in state["steps"].items()}
        self.rms = {int(i): float(rms) for i, rms in state["rms"].items()}

    def _first_look(self, index: int, parameters: list[Any]) -> list[Any]:
        seen = [p for p in parameters if p.grad is not None]
        norms = tensor_norms([p.grad for p in seen])
        sizes = torch.tensor([max(1, p.numel()) for p in seen], dtype=norms.dtype, device=norms.device)
        rms = norms / sizes.sqrt()
        alive, largest = (norms != 0).tolist(), (float(rms.max()) if seen else 0.0)
        self.rms[index] = largest
        living = {id(p) for p, lives in zip(seen, alive, strict=True) if lives}
        return [p for p in parameters if id(p) not in living]

    def _narrow(self, index: int) -> None:
        alive = self._alive.pop(index, None)
        if alive is not None:
            lives = alive.tolist()
            self._dead[index] = [p for p, living in zip(self._dead[index], lives, strict=True) if not living]

    def _name(self, parameter: Any) -> str:
        return self._names.get(id(parameter), "a parameter outside the module")
