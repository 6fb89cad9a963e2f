"""Looks at training and evaluation mode where it counts: in the moment in which a module is called.

In training, hooks on dropouts and batch norms write down the mode of each call that has gradients, and that of the
module around it: a batch norm that alone is in evaluation mode has been frozen on purpose, one in a whole that is has
not. The first look, and one after a look in which all of them were in evaluation mode, ask every trainable part. In
validation nothing is hooked, since a hook takes the fast path from torch's transformers: modes are read when a batch
is over.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.evidence.modes import ModeFacts
from stablelit.doctor.probes.hooks import harmless, has_compiled_parts
from stablelit.doctor.probes.modes_batch_norm import BatchNormMemory, batch_norms_of
from stablelit.doctor.probes.probe import Probe

_MOST = 64
_SHOWN = 8
_NAMED_LIKE = ("dropout", "droppath", "stochasticdepth")


class ModeProbe(Probe):
    """Fills `Evidence.modes`."""

    def __init__(self) -> None:
        self.facts = ModeFacts()
        self._sensitive: dict[str, nn.Module] = {}
        self._around: dict[int, nn.Module] = {}
        self._owners: dict[str, nn.Module] = {}
        self._memory = BatchNormMemory({})
        self._handles: list[RemovableHandle] = []
        self._calls: dict[int, set[tuple[bool, bool]]] = {}
        self._leaf_calls: dict[int, set[bool]] = {}
        self._suspicious = False
        self._asking = False
        self._compiled = False
        self._read = False

    def begin(self, trainer: Any, pl_module: Any, evidence: Evidence) -> None:
        """Finds the modules whose mode changes what they compute."""
        self._compiled = has_compiled_parts(pl_module)
        parents = {id(child): module for module in pl_module.modules() for child in module.children()}
        found = {name: part for name, part in pl_module.named_modules() if name and _is_sensitive(part)}
        self._sensitive = found
        self._around = {id(part): parents[id(part)] for part in found.values()}
        self._memory = BatchNormMemory(batch_norms_of(pl_module))
        self._owners = {n: part for n, part in pl_module.named_modules() if n and part._parameters}
        self.facts.sensitive = len(found)
        rates = {n: float(part.p) for n, part in found.items() if isinstance(part, nn.modules.dropout._DropoutNd)}
        if rates:
            self.facts.dropout_name = max(rates, key=rates.__getitem__)
            self.facts.dropout = rates[self.facts.dropout_name]

    def batch_start(self, trainer: Any, pl_module: Any, batch: Any, step: int) -> None:
        """Hangs the hooks on."""
        self.leave(pl_module)
        self._calls, self._leaf_calls, self._read = {}, {}, False
        self._asking = self._suspicious or self.facts.looks == 0
        if self._compiled:
            return
        chosen = list(self._sensitive.values())
        kept = {id(part): part for part in chosen[:: max(1, -(-len(chosen) // _MOST))]}
        kept |= {id(part): part for part in chosen if id(part) in self._memory.modules}
        self._handles = [part.register_forward_pre_hook(harmless(self._note)) for part in kept.values()]
        if self._asking:
            leaves = [part for part in self._owners.values() if id(part) not in kept and _is_trainable(part)]
            self._handles += [part.register_forward_pre_hook(harmless(self._note_leaf)) for part in leaves]

    def before_backward(self, trainer: Any, pl_module: Any, loss: Tensor, step: int) -> None:
        """The forward pass is over."""
        if not self._read:
            self._read = True
            self._conclude(pl_module)
        self.leave(pl_module)

    def batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, step: int) -> None:
        """A batch in manual optimisation may have had no backward pass that could be seen."""
        if not self._read and self._calls:
            self._conclude(pl_module)
        self.leave(pl_module)
        self._memory.take()
        self.facts.looks += 1

    def validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, step: int) -> None:
        """Reads the modes."""
        facts = self.facts
        facts.validation_looks += 1
        on = [name for name, part in self._sensitive.items() if part.training]
        norms = [
            part.training for part in self._sensitive.values() if isinstance(part, nn.modules.batchnorm._BatchNorm)
        ]
        share = len(on) / max(1, len(self._sensitive))
        facts.training_in_validation = on[:_SHOWN]
        facts.training_in_validation_looks = facts.training_in_validation_looks + 1 if share > 0.9 or any(norms) else 0
        around = [self._around[id(self._sensitive[name])].training for name in on]
        facts.training_in_validation_whole = bool(on) and all(norms) and all(around) and share > 0.9

    def tell(self, evidence: Evidence) -> None:
        """Writes the facts."""
        self.facts.batch_norms = self._memory.facts()
        evidence.modes = self.facts

    def leave(self, pl_module: Any) -> None:
        """Takes hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _note(self, module: nn.Module, inputs: Any) -> None:
        if not torch.is_grad_enabled():
            return
        self._calls.setdefault(id(module), set()).add((module.training, self._around[id(module)].training))
        if module.training and self.facts.looks >= _MEMORY_AFTER:
            self._memory.note(module, inputs)

    def _note_leaf(self, module: nn.Module, inputs: Any) -> None:
        if torch.is_grad_enabled():
            self._leaf_calls.setdefault(id(module), set()).add(module.training)

    def _conclude(self, pl_module: nn.Module) -> None:
        """Whether every trainable part was in evaluation mode, in this look and in the one before."""
        facts = self.facts
        called = [part for part in self._sensitive.values() if id(part) in self._calls]
        modes: set[tuple[bool, bool]] = set().union(*(self._calls[id(part)] for part in called))
        closed = modes <= {(False, False)} or (all(not own for own, _ in modes) and _know_nothing(called))
        counted = [part for part in called if _is_trainable(self._around[id(part)])] if closed else called
        if counted:
            leaf_modes: set[bool] = set().union(*self._leaf_calls.values())
            unasked = True not in leaf_modes or _is_untrained(counted)
            evaluating = closed and self._asking and unasked
            self._suspicious = closed
        else:
            owners = [part for part in self._owners.values() if _is_trainable(part)] if self._all_evaluate() else []
            evaluating = bool(owners)
        if evaluating:
            names = {id(part): name for name, part in self._sensitive.items()}
            facts.evaluating = [names[id(part)] for part in counted][:_SHOWN] or list(self._owners)[:_SHOWN]
            facts.evaluating_root = not pl_module.training
            facts.evaluating_looks += 1
        else:
            facts.evaluating, facts.evaluating_looks = [], 0

    def _all_evaluate(self) -> bool:
        return not any(part.training and _is_trainable(part) for part in self._owners.values())


# what a batch norm remembers is no news in the first steps
_MEMORY_AFTER = 5


def _is_sensitive(part: nn.Module) -> bool:
    if isinstance(part, nn.modules.batchnorm._BatchNorm):
        return part.track_running_stats
    if isinstance(part, nn.modules.dropout._DropoutNd):
        return part.p > 0
    if isinstance(part, nn.MultiheadAttention | nn.RNNBase):
        return bool(part.dropout > 0)
    kind = type(part).__name__.lower()
    return any(name in kind for name in _NAMED_LIKE) and not list(part.children())


def _is_untrained(parts: list[nn.Module]) -> bool:
    """Whether batch norms among them have never counted a batch: nobody keeps statistics that were never taken."""
    norms = [part for part in parts if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    counted = [norm.num_batches_tracked for norm in norms]
    return bool(norms) and all(count is not None and int(count) == 0 for count in counted)


def _know_nothing(parts: list[nn.Module]) -> bool:
    """Whether all are batch norms with the statistics that they were built with: mean 0 and variance 1."""
    norms = [part for part in parts if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    return len(norms) == len(parts) > 0 and all(
        norm.running_mean is not None
        and norm.running_var is not None
        and not bool(norm.running_mean.any())
        and bool((norm.running_var == 1).all())
        for norm in norms
    )


def _is_trainable(part: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in part.parameters())
