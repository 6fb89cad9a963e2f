"""Whether and how an encoder is trained: its place in the optimizers, and its gradient."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from stablelit.callbacks._step_health import scale_left
from stablelit.findings import Finding
from stablelit.functional.gradients import total_norm

_MOST_NAMES = 5


def missing_from_optimizers(trainer: Any, encoder: nn.Module | None) -> Finding | None:
    """A finding where an encoder has trainable parameters that no optimizer holds."""
    if encoder is None:
        return None
    held = {id(p) for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"]}
    trained = [(name, p) for name, p in encoder.named_parameters() if p.requires_grad]
    missing = [name for name, p in trained if id(p) not in held]
    if not missing:
        return None
    shown = ", ".join(missing[:_MOST_NAMES]) + (", ..." if len(missing) > _MOST_NAMES else "")
    return Finding(
        "encoder-not-optimised",
        "critical",
        f"{len(missing)} of {len(trained)} trainable parameters of the encoder are in no optimizer: {shown}.",
        {"missing": len(missing), "trainable": len(trained)},
        "give configure_optimizers all parameters (self.parameters()), or requires_grad_(False) to those that are "
        "meant to stay",
    )


def is_frozen(encoder: nn.Module | None) -> bool:
    """Whether an encoder has parameters, and none of them is trained."""
    parameters = [] if encoder is None else list(encoder.parameters())
    return bool(parameters) and not any(p.requires_grad for p in parameters)


def gradient_norm(trainer: Any, optimizer: Any, encoder: nn.Module) -> Tensor | None:
    """The norm of the encoder's gradients that an optimizer is about to use, shape (); None where it holds none.

    As Lightning hands them over: before the Trainer's clip in automatic optimisation. The factor of a gradient scaler
    is taken off where the optimizer takes it off only later (a fused one).
    """
    mine = {id(p) for p in encoder.parameters()}
    held = [p for group in optimizer.param_groups for p in group["params"] if id(p) in mine and p.grad is not None]
    if not held:
        return None
    norm = total_norm(p.grad for p in held)
    scale = scale_left(trainer, optimizer)
    return norm if scale is None else norm / scale.to(norm.device)
