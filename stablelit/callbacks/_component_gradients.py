"""The gradient of each loss component alone, taken between `training_step` and backward, while the graph is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from stablelit.errors import ConfigurationError, ContractError, did_you_mean
from stablelit.functional.gradients import total_norm


class ComponentGradients:
    """Wraps `training_step` on the instance for one step, and takes its hands off again.

    A component of shape () or (B,) counts by its mean, without a scaler's factor and not divided by
    `accumulate_grad_batches`; on several ranks it is this rank's, from its part of the batch.

    Args:
        every_n_steps: optimizer steps between two measurements.
        names: keys of the components; None takes the mapping under `loss_components`, else every other key with a
            live floating-point tensor of shape () or (B,).
        owner: for messages.
    """

    def __init__(self, every_n_steps: int, names: Sequence[str] | None, owner: str) -> None:
        self.every_n_steps, self.names, self.owner = every_n_steps, names, owner
        self.norms: dict[str, Tensor] = {}
        self._armed = False
        self._was: Any = None
        self._mine: Any = None

    def refuse(self, pl_module: Any) -> None:
        """Before training.

        Raises:
            ConfigurationError: manual optimisation, where the graph is gone when `training_step` returns; sharded
                parameters, whose hooks a second backward would disturb.
        """
        if not pl_module.automatic_optimization:
            raise ConfigurationError(
                f"{self.owner}: components_every_n_steps needs automatic optimisation; {type(pl_module).__name__} runs "
                f"backward itself, so the graph is gone when training_step returns. Set components_every_n_steps=0."
            )

    def arm_when_due(self, trainer: Any, pl_module: Any, batch_idx: int) -> None:
        """Before a batch: makes its `training_step` measure, if it is the first of an optimizer step that is due."""
        step = trainer.fit_loop.epoch_loop._batches_that_stepped
        if step % self.every_n_steps == 0 and batch_idx % int(trainer.accumulate_grad_batches) == 0:
            self.arm(pl_module)

    def arm(self, pl_module: Any) -> None:
        """Makes the next `training_step` measure."""
        if any(hasattr(p, "device_mesh") for p in pl_module.parameters()):
            raise ConfigurationError(
                f"{self.owner}: components_every_n_steps with sharded parameters (FSDP2) would run their hooks twice. "
                f"Set components_every_n_steps=0."
            )
        self._was, original = vars(pl_module).get("training_step"), pl_module.training_step

        def training_step(*args: Any, **kwargs: Any) -> Any:
            outputs = original(*args, **kwargs)
            if self._armed:
                self.disarm(pl_module)
                self.norms = self._measure(pl_module, outputs)
            return outputs

        self._armed, self._mine = True, training_step
        vars(pl_module)["training_step"] = training_step

    def disarm(self, pl_module: Any) -> None:
        """Puts `training_step` back as it was; where somebody has wrapped it since, ours only passes on."""
        self._armed = False
        if self._mine is not None and vars(pl_module).get("training_step") is self._mine:
            del vars(pl_module)["training_step"]
            if self._was is not None:
                vars(pl_module)["training_step"] = self._was
        self._was = self._mine = None

    def take(self) -> dict[str, float]:
        """The norms of the step that was measured and their shares in the sum, once; waits for the device."""
        taken, self.norms = self.norms, {}
        norms = {name: float(norm) for name, norm in taken.items()}
        total = sum(norms.values()) or 1.0
        shares = {f"share/{name}": norm / total for name, norm in norms.items()}
        return {f"component/{name}": norm for name, norm in norms.items()} | shares

    def _measure(self, pl_module: Any, outputs: Any) -> dict[str, Tensor]:
        parameters = [p for p in pl_module.parameters() if p.requires_grad]
        norms = {}
        for name, value in self._live(pl_module, outputs).items():
            gradients = torch.autograd.grad(value.mean(), parameters, retain_graph=True, allow_unused=True)
            norms[name] = total_norm([g for g in gradients if g is not None])
        return norms

    def _live(self, pl_module: Any, outputs: Any) -> dict[str, Tensor]:
        if outputs is None:
            return {}
        given = outputs if isinstance(outputs, Mapping) else {}
        inner = given.get("loss_components")
        there = inner if isinstance(inner, Mapping) else {k: v for k, v in given.items() if k != "loss"}
        live = {str(k): v for k, v in there.items() if isinstance(v, Tensor) and v.requires_grad and v.dim() <= 1}
        wanted = list(live) if self.names is None else list(self.names)
        step = f"{type(pl_module).__name__}.training_step"
        for name in wanted:
            if name in live:
                continue
            if isinstance(there.get(name), Tensor) and not there[name].requires_grad:
                raise ContractError(
                    f"{self.owner}: {step} returns {name!r} detached. Return it live, without .detach()."
                )
            raise ContractError(
                f"{self.owner}: {step} returns no loss component {name!r} of shape () or (B,). It returns "
                f"{', '.join(map(str, there)) or 'no dictionary of components'}. {did_you_mean(name, map(str, there))}"
            )
        if not wanted:
            raise ContractError(
                f"{self.owner}: {step} returns no live loss component, so components_every_n_steps has nothing to "
                f"measure. Return them undetached: {{'loss': loss, 'recon': recon, ...}}, or set it to 0."
            )
        return {name: live[name] for name in wanted}
