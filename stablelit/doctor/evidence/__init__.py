"""What a rule may look at: curves and facts, of a run that goes on or of logs that it left.

Every part may be missing, and a rule says which parts it needs: what cannot be looked at is listed, never passed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from stablelit.doctor.evidence.batches import BatchFacts
from stablelit.doctor.evidence.curve import Curve
from stablelit.doctor.evidence.layers import LayerFacts
from stablelit.doctor.evidence.modes import ModeFacts
from stablelit.doctor.evidence.operations import OperationFacts
from stablelit.doctor.evidence.parameters import ParameterFacts
from stablelit.doctor.evidence.settings import OptimizerSettings, Settings
from stablelit.findings import Finding

__all__ = [
    "BatchFacts",
    "Curve",
    "Evidence",
    "LayerFacts",
    "ModeFacts",
    "OperationFacts",
    "OptimizerSettings",
    "ParameterFacts",
    "Settings",
]

# rules ask for curves that are not there a hundred times in a judgement, and change none
_NO_CURVE = Curve()


@dataclass
class Evidence:
    """Everything that is known of a run at one moment.

    Curves by name: ``loss`` (of training, not divided by accumulation), ``lr``, ``grad_norm`` (before a clip),
    ``update_ratio`` (the norm of a step over that of the weights, the largest over weight matrices),
    ``relative_step`` (the same, over what torch would have drawn where the weights are smaller than that),
    ``weight_norm``, ``step_seconds``, ``wait_seconds``, ``val_loss``, and everything that was logged under
    ``logged/<its name>``.

    Args:
        step: optimizer steps done.
        planned_steps: of the whole run; None where it has no end.
        origin: ``run`` (looked at from inside) or ``logs``.
        ended: whether the run is over.
        curves: by name; only those that exist.
        settings: how the run was configured.
        parameters: of weights, gradients and optimizers.
        layers: of activations and norms.
        modes: of training and evaluation mode as they were when it counted.
        batches: of what the data are.
        operations: of what the loss is made of.
        raised: what other callbacks have found.
    """

    step: int = 0
    planned_steps: int | None = None
    origin: Literal["run", "logs"] = "run"
    ended: bool = False
    curves: dict[str, Curve] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    parameters: ParameterFacts | None = None
    layers: LayerFacts | None = None
    modes: ModeFacts | None = None
    batches: BatchFacts | None = None
    operations: OperationFacts | None = None
    raised: list[Finding] = field(default_factory=list)

    def curve(self, name: str) -> Curve:
        """The curve of that name; an empty one where there is none."""
        return self.curves.get(name, _NO_CURVE)

    def own_curves(self) -> dict[str, Curve]:
        """The curves without those that are a logged one under the name of its role."""
        logged = {id(curve) for name, curve in self.curves.items() if name.startswith("logged/")}
        return {n: curve for n, curve in self.curves.items() if n.startswith("logged/") or id(curve) not in logged}

    def has(self, need: str) -> bool:
        """Whether what a rule needs is there: ``curves.loss``, ``parameters``, ``settings.clip_value``."""
        section, _, name = need.partition(".")
        if section == "curves":
            held_curve = self.curves.get(name)
            return len(held_curve or ()) > 0 if name else any(map(len, self.curves.values()))
        held: Any = getattr(self, section, None)
        if name:
            held = getattr(held, name, None)
        return held is not None and held != []
