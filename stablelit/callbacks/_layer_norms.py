"""The gradient's norm by layer, one number a module or a parameter."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from stablelit.functional.gradients import group_norms

PerLayer = Literal["none", "module", "parameter"]


class LayerNorms:
    """Groups parameters by their names, and reads all groups' norms with one pass and one wait.

    Args:
        per_layer: `module` groups by the module that holds the parameter, `parameter` does not group.
        depth: of `module`, how many parts of the path are kept: 1 gives ``encoder``, 2 ``encoder.attention``.
    """

    def __init__(self, per_layer: PerLayer, depth: int) -> None:
        self.per_layer, self.depth = per_layer, depth
        self._group_of: dict[int, int] = {}
        self._names: list[str] = []
        self._measured: list[tuple[list[int], Tensor]] = []

    def attach(self, pl_module: Any) -> None:
        """Takes the parameters' names; when they have their final form."""
        names: dict[str, int] = {}
        self._group_of = {
            id(p): names.setdefault(self.layer(name), len(names)) for name, p in pl_module.named_parameters()
        }
        self._names, self._measured = list(names), []

    def layer(self, parameter: str) -> str:
        """The layer that a parameter's name belongs to."""
        parameter = parameter.replace("_orig_mod.", "")  # torch.compile puts it there
        if self.per_layer == "parameter":
            return parameter
        modules = parameter.split(".")[:-1][: self.depth]
        # a parameter that the LightningModule holds itself is its own layer
        return ".".join(modules) or parameter

    def measure(self, optimizer: Any, *factors: Tensor | None) -> None:
        """Measures the gradients of an optimizer's step.

        Args:
            optimizer: about to step.
            factors: what they carry already, of a clip or of a scaler; each is divided out.
        """
        held = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        held = [p for p in held if id(p) in self._group_of]
        if not held:
            return
        groups = [self._group_of[id(p)] for p in held]
        norms = group_norms([p.grad for p in held], groups, len(self._names))
        for factor in factors:
            norms = norms if factor is None else norms / factor
        self._measured.append((sorted(set(groups)), norms))

    def take(self) -> dict[str, float]:
        """Norms by layer since the last call; waits for the device."""
        measured, self._measured = self._measured, []
        values: dict[str, float] = {}
        for groups, norms in measured:
            numbers = norms.tolist()
            values.update({self._names[group]: numbers[group] for group in groups})
        return values
