"""Which parameter is in which optimizer: read anew only where something has changed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

# strategies whose optimizers hold flat or sharded tensors: membership cannot be told by identity
_SHARDED = ("fsdp", "deepspeed", "modelparallel", "xla")
_SHOWN = 8


@dataclass
class Census:
    """The trainable parameters of a module and where they are stepped.

    Args:
        names: of the trainable tensors.
        tensors: the same, in this order.
        owners: the modules that have them.
        optimizers: per tensor, the optimizers that hold it.
        groups: per tensor, the first parameter group that holds it; None where there is none.
        foreign: tensors that optimizers hold and the module does not have.
        sharded: whether membership cannot be told.
        frozen: numbers in tensors without ``requires_grad``.
    """

    names: list[str] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    owners: list[nn.Module] = field(default_factory=list)
    optimizers: list[tuple[int, ...]] = field(default_factory=list)
    groups: list[dict[str, Any] | None] = field(default_factory=list)
    foreign: int = 0
    sharded: bool = False
    frozen: int = 0
    fingerprint: tuple[int, ...] = ()
    held: list[int] = field(default_factory=list)

    @property
    def numbers(self) -> list[int]:
        """How many each tensor has."""
        return [tensor.numel() for tensor in self.tensors]

    def share(self, chosen: list[int], among: list[int]) -> float:
        """Of the numbers in `among`, those in `chosen` (both are indices)."""
        whole = sum(self.tensors[i].numel() for i in among)
        return sum(self.tensors[i].numel() for i in chosen) / whole if whole else 0.0

    def shown(self, chosen: list[int]) -> list[str]:
        """The first few names."""
        return [self.names[i] for i in chosen[:_SHOWN]]


def optimizers_of(trainer: Any) -> list[Any]:
    """The Trainer's optimizers; none where there are none."""
    return list(getattr(trainer, "optimizers", None) or [])


def fingerprint_of(trainer: Any, parameters: list[Tensor]) -> tuple[int, ...]:
    """Changes where an optimizer gets groups, or a parameter is frozen or thawed."""
    sizes = [len(group["params"]) for optimizer in optimizers_of(trainer) for group in optimizer.param_groups]
    return (sum(parameter.requires_grad for parameter in parameters), *sizes)


def take_census(trainer: Any, pl_module: nn.Module) -> Census:
    """Goes through all parameters and optimizers."""
    census = Census()
    strategy = type(getattr(trainer, "strategy", None)).__name__.lower()
    census.sharded = any(kind in strategy for kind in _SHARDED)
    holders: dict[int, list[int]] = defaultdict(list)
    groups: dict[int, dict[str, Any]] = {}
    for number, optimizer in enumerate(optimizers_of(trainer)):
        for group in optimizer.param_groups:
            for tensor in group["params"]:
                holders[id(tensor)].append(number)
                groups.setdefault(id(tensor), group)
    everything: list[Tensor] = []
    known: set[int] = set()
    for name, module in pl_module.named_modules():
        for own_name, tensor in module.named_parameters(recurse=False):
            if id(tensor) in known:
                continue
            known.add(id(tensor))
            everything.append(tensor)
            if isinstance(tensor, nn.parameter.UninitializedParameter):
                continue
            if not tensor.requires_grad:
                census.frozen += tensor.numel()
                continue
            census.names.append(f"{name}.{own_name}" if name else own_name)
            census.tensors.append(tensor)
            census.owners.append(module)
            census.optimizers.append(tuple(dict.fromkeys(holders.get(id(tensor), ()))))
            census.groups.append(groups.get(id(tensor)))
    census.foreign = sum(identity not in known for identity in holders)
    census.held = [i for i, held in enumerate(census.optimizers) if held]
    census.fingerprint = fingerprint_of(trainer, everything)
    return census


def rate_of(group: dict[str, Any] | None) -> float:
    """A group's learning rate now; NaN where it has none."""
    rate = group.get("lr", float("nan")) if group else float("nan")
    return float(rate)
