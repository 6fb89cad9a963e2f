"""What is known of how a run was configured."""

from __future__ import annotations

from dataclasses import dataclass, field

Plain = float | int | str | bool


@dataclass
class OptimizerSettings:
    """One parameter group of one optimizer.

    Args:
        kind: the optimizer's class, ``Adam``.
        learning_rate: of the group when training began, before a schedule has changed it.
        weight_decay: of the group.
        maximize: whether it steps uphill.
        momentum: share of the last step's direction that is kept (Adam's first beta); NaN where there is none.
        epsilon: Adam's.
        parameters: numbers in the group.
        trainable: of these, in tensors with ``requires_grad``.
    """

    kind: str = ""
    learning_rate: float = float("nan")
    weight_decay: float = 0.0
    maximize: bool = False
    momentum: float = float("nan")
    epsilon: float = float("nan")
    parameters: int = 0
    trainable: int = 0


@dataclass
class Settings:
    """Every field may be unknown: None, or empty.

    Args:
        module: class of the module.
        batch_size: samples in a training batch of one rank.
        accumulated: batches in an optimizer step.
        ranks: processes.
        automatic: whether Lightning steps the optimizers.
        clip_value: `gradient_clip_val` of the Trainer (or of a callback that clips).
        clip_algorithm: ``norm`` or ``value``.
        precision: of the Trainer, ``32-true``.
        optimizers: parameter groups of all optimizers.
        schedules: classes of the learning rate schedulers, with their interval: ``CosineAnnealingLR/epoch``.
        steps_per_epoch: optimizer steps in an epoch.
        max_epochs: planned.
        overfit_batches: whether a few batches are repeated on purpose, or all data are one batch.
        hyperparameters: every one that was written down, flat, by dotted key: ``{"model.latent_dim": 128}``.
        keys: Hydra keys, or names of hyperparameters, by what they set: ``{"learning_rate": "model.lr"}``.
    """

    module: str = ""
    batch_size: int | None = None
    accumulated: int | None = None
    ranks: int = 1
    automatic: bool | None = None
    clip_value: float | None = None
    clip_algorithm: str = "norm"
    precision: str = ""
    optimizers: list[OptimizerSettings] = field(default_factory=list)
    schedules: list[str] = field(default_factory=list)
    steps_per_epoch: float | None = None
    max_epochs: int | None = None
    overfit_batches: bool = False
    keys: dict[str, str] = field(default_factory=dict)
    hyperparameters: dict[str, Plain] = field(default_factory=dict)

    @property
    def learning_rate(self) -> float | None:
        """The largest of all groups; None where it is not known."""
        rates = [group.learning_rate for group in self.optimizers if group.learning_rate == group.learning_rate]
        return max(rates, default=None)

    def override(self, what: str, value: float | int | str) -> str:
        """``key=value`` as a person would type it after the command."""
        shown = f"{value:.3g}" if isinstance(value, float) else str(value)
        return f"{self.keys.get(what, what)}={shown}"
