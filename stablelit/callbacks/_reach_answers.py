"""What GradientReachCheck finds out in one training step: a line for each pair of component and target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stablelit.errors import ContractError, did_you_mean
from stablelit.functional.gradient_reach import Reach, component_gradients, judge_reach, unexplained_share

# a part of the loss that sends no gradient leaves it a combination of the other parts', but for rounding
_ROUNDING = 1e-3


@dataclass(frozen=True)
class ReachLine:
    """One line of the table: what of a component's gradient arrives at a target.

    Args:
        component: its name.
        target: where; "all parameters" for the whole module.
        share: of the component in the loss, by value.
        reach: what was found.
    """

    component: str
    target: str
    share: float
    reach: Reach

    def __str__(self) -> str:
        reach = self.reach
        parts = f", {reach.reached} of {reach.parameters} parameters" if reach.parameters else ""
        return (
            f"{self.component} ({100 * self.share:.3g} % of the loss) -> {self.target}: "
            f"{reach.state}, gradient norm {reach.norm:.3g}{parts}"
        )


class ReachAnswers:
    """Looks at one step's components; what it finds is plain data, for the other ranks.

    Raises:
        ContractError: a component that is not there, or a graph that is gone.
    """

    def __init__(
        self, pl_module: Any, outputs: Any, pairs: list[tuple[str, str]], dominant_share: float, owner: str
    ) -> None:
        self._module, self._pairs, self._owner = pl_module, pairs, owner
        self._named = {_plain_name(n): p for n, p in pl_module.named_parameters() if p.requires_grad}
        self._components = components_of(outputs)
        self._dominant_share = dominant_share
        for name, _ in self._pairs:
            if name not in self._components:
                raise self._no_such(name, outputs)
        self._gradients: dict[str, list[Tensor | None]] = {}
        loss = abs(self._value("loss")) if "loss" in self._components else 0.0
        self._share = {n: abs(self._value(n)) / loss if loss else 0.0 for n in self._components}

    def plain(self) -> dict[str, list[ReachLine]]:
        table = [
            ReachLine(c, t, self._share[c], self._reach(c, parameters_at(self._module, t, self._owner)))
            for c, t in self._pairs
        ]
        return {"table": table, "dominant": self._dominant()}

    def _dominant(self) -> list[ReachLine]:
        found = []
        for name in self._components:
            # a value beside the loss that is larger than it (an unweighted one) is no part of it
            if not self._dominant_share <= self._share[name] <= 1.0 + _ROUNDING:
                continue
            reach = self._reach(name, None)
            dead = reach.state in ("unused", "zero")
            if dead or (reach.state == "detached" and self._adds_nothing()):
                found.append(ReachLine(name, "all parameters", self._share[name], reach))
        return found

    def _adds_nothing(self) -> bool:
        """Whether the loss's gradient is made of those of the small live components: what is detached sends none."""
        small = [n for n, c in self._components.items() if c.requires_grad and self._share[n] < self._dominant_share]
        if not small or not self._components["loss"].requires_grad:
            return False
        return unexplained_share(self._of("loss"), [self._of(name) for name in small]) < _ROUNDING

    def _reach(self, name: str, wanted: set[str] | None) -> Reach:
        chosen = [g for n, g in zip(self._named, self._of(name), strict=True) if wanted is None or n in wanted]
        return judge_reach(self._components[name], chosen, any_trainable=bool(chosen))

    def _of(self, name: str) -> list[Tensor | None]:
        if name not in self._gradients:
            try:
                self._gradients[name] = component_gradients(self._components[name], list(self._named.values()))
            except RuntimeError as error:
                raise ContractError(
                    f"{self._owner}: the gradient of {name!r} of {type(self._module).__name__} cannot be looked at: "
                    f"{error} "
                    f"With manual optimisation call self.manual_backward(loss), not loss.backward(); with activation "
                    f"checkpointing use_reentrant=False."
                ) from error
        return self._gradients[name]

    def _value(self, name: str) -> float:
        value = float(self._components[name].detach().double().mean())
        return value if math.isfinite(value) else 0.0

    def _no_such(self, name: str, outputs: Any) -> ContractError:
        there = sorted(self._components)
        kind = "no tensor" if not there else ", ".join(there)
        return ContractError(
            f"{self._owner}: {type(self._module).__name__}.training_step returns no component {name!r}. "
            f"It returns {kind} ({type(outputs).__name__}). {did_you_mean(name, there)} Return it live: "
            f"{{'loss': loss, {name!r}: value}}, without .detach()."
        )


def components_of(outputs: Any) -> dict[str, Tensor]:
    """The numbers that a step returned, by name: of its keys, and of a mapping under `loss_components`."""
    if isinstance(outputs, Tensor):
        return {"loss": outputs}
    if not isinstance(outputs, Mapping):
        return {}
    nested = outputs.get("loss_components")
    flat = {**(nested if isinstance(nested, Mapping) else {}), **outputs}
    numbers = {str(k): torch.as_tensor(v) for k, v in flat.items() if isinstance(v, Tensor | int | float)}
    return {k: v if v.is_floating_point() else v.double() for k, v in numbers.items() if v.numel() > 0}


def parameters_at(pl_module: Any, target: str, owner: str) -> set[str]:
    """The names of a target's parameters.

    Raises:
        ContractError: there is no such submodule or parameter, or none of its own.
    """
    names = [_plain_name(name) for name, _ in pl_module.named_parameters()]
    found = {name for name in names if name == target or name.startswith(f"{target}.")}
    if found:
        return found
    modules = [_plain_name(name) for name, _ in pl_module.named_modules() if name]
    kind = type(pl_module).__name__
    if target in modules:
        raise ContractError(
            f"{owner}: the submodule {target!r} of {kind} has no parameters, so no gradient can reach it."
        )
    children = [n for n, child in pl_module.named_children() if next(child.parameters(), None) is not None]
    top = dict.fromkeys([*children, *(name for name in names if "." not in name)])
    raise ContractError(
        f"{owner}: {kind} has no submodule or parameter {target!r}. At its top it has {', '.join(top) or 'none'}. "
        f"{did_you_mean(target, [*modules, *names])} Give a dotted name as in named_parameters()."
    )


def _plain_name(name: str) -> str:
    return name.replace("_orig_mod.", "")
