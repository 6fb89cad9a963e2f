"""A probe: looks at a run from inside, in the steps in which the doctor looks, and keeps facts."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from stablelit.doctor.evidence import Evidence


class Probe:
    """Every method is called only in a look: in each of the first steps, and then as often as the budget allows.

    A look is one batch of training from its start to its end, or one batch of validation. A probe changes nothing of
    the run: no random number is drawn, no gradient touched, no mode switched. Hooks that it registers on modules in
    `batch_start` are `harmless`, and removed in `batch_end` at the latest, and in `leave`. It never raises: what it
    cannot see it does not say. On an accelerator it may wait for the device in a look, and at no other time.
    """

    def begin(self, trainer: Any, pl_module: Any, evidence: Evidence) -> None:
        """Training is about to begin: optimizers and loaders are there."""

    def batch_start(self, trainer: Any, pl_module: Any, batch: Any, step: int) -> None:
        """A training batch is on the device, `training_step` has not been called."""

    def before_backward(self, trainer: Any, pl_module: Any, loss: Tensor, step: int) -> None:
        """The graph is there; `loss` is divided by accumulation (and scaled, under fp16)."""

    def after_backward(self, trainer: Any, pl_module: Any, step: int) -> None:
        """Gradients are there, not yet unscaled or clipped."""

    def before_step(self, trainer: Any, pl_module: Any, optimizer: Any, step: int) -> None:
        """Just before an optimizer steps: unscaled; before the clip in automatic, after it in manual optimisation."""

    def batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, step: int) -> None:
        """The batch is over."""

    def validation_batch_start(self, trainer: Any, pl_module: Any, batch: Any, step: int) -> None:
        """A validation batch is about to be evaluated."""

    def validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, step: int) -> None:
        """It is over."""

    def tell(self, evidence: Evidence) -> None:
        """Writes its facts and its new points of curves into the evidence."""

    def leave(self, pl_module: Any) -> None:
        """Takes every hook away; also after an exception."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs, as plain data and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it up."""
