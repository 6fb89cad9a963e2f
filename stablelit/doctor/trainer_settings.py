"""How a run is configured, read from its Trainer and module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch.nn.parameter import is_lazy

from stablelit.doctor.evidence import OptimizerSettings, Settings
from stablelit.doctor.evidence.settings import Plain

_NAMES = {
    "learning_rate": ("learning_rate", "lr", "base_lr", "max_lr", "peak_lr"),
    "weight_decay": ("weight_decay", "wd"),
    "batch_size": ("batch_size",),
    "dropout": ("dropout", "dropout_rate", "p_dropout", "drop_rate", "dropout_p"),
    "kl_weight": ("kl_weight", "beta", "kl_beta", "kld_weight"),
}


def read_settings(trainer: Any, pl_module: Any) -> Settings:
    """What the Trainer and the module say; what they do not say, or say in a way of their own, stays unknown."""
    try:
        return _read(trainer, pl_module)
    except Exception as error:
        rank_zero_info(f"TrainingDoctor: how this run is configured cannot be read, and is left out: {error!r}")
        return Settings(module=type(pl_module).__name__, automatic=bool(pl_module.automatic_optimization))


def _read(trainer: Any, pl_module: Any) -> Settings:
    batches = trainer.num_training_batches
    accumulated = int(trainer.accumulate_grad_batches)
    steps = math.ceil(batches / accumulated) if math.isfinite(batches) and batches else None
    held = {
        group: dict(getattr(owner, "hparams", None) or {})
        for group, owner in (("model", pl_module), ("data", trainer.datamodule))
    }
    return Settings(
        module=type(pl_module).__name__,
        accumulated=accumulated,
        ranks=int(trainer.world_size),
        automatic=bool(pl_module.automatic_optimization),
        clip_value=_number(trainer.gradient_clip_val),
        clip_algorithm=str(trainer.gradient_clip_algorithm or "norm").rpartition(".")[2].lower(),
        precision=str(trainer.precision),
        optimizers=[group for optimizer in trainer.optimizers for group in _groups(optimizer)],
        schedules=[f"{type(c.scheduler).__name__}/{c.interval}" for c in trainer.lr_scheduler_configs],
        steps_per_epoch=steps,
        max_epochs=trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None,
        # a datamodule whose batch size is None gives all of its data in every step
        overfit_batches=bool(trainer.overfit_batches) or getattr(trainer.datamodule, "batch_size", 0) is None,
        keys=find_keys(held),
        hyperparameters={
            f"{group}.{key}": value
            for group, values in held.items()
            for key, value in values.items()
            if isinstance(value, Plain)
        },
    )


def planned_steps(trainer: Any, pl_module: Any) -> int | None:
    """Steps of the whole run, in batches that step; None where it has no end, or it is not known."""
    try:
        planned = trainer.estimated_stepping_batches
    except Exception:
        # Lightning raises where accumulation changes from epoch to epoch
        return None
    if not pl_module.automatic_optimization and trainer.max_steps > 0 and len(trainer.optimizers) > 1:
        # every step of every optimizer counts towards max_steps, and nobody knows how many a batch makes
        return None
    return int(planned) if math.isfinite(planned) and planned > 0 else None


def find_keys(hyperparameters: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Under which key each setting stands: ``{"learning_rate": "model.lr"}`` for ``{"model": {"lr": 1e-3}}``."""
    keys = {"clip_value": "trainer.gradient_clip_val"}
    for group, held in hyperparameters.items():
        for what, names in _NAMES.items():
            found = [name for name in names if name in held]
            if found and what not in keys:
                keys[what] = f"{group}.{found[0]}" if group else found[0]
    return keys


def _groups(optimizer: Any) -> list[OptimizerSettings]:
    kind = type(getattr(optimizer, "optimizer", optimizer)).__name__
    if kind == "_MockOptimizer":
        # what Lightning puts where `configure_optimizers` returns None
        return []
    settings = []
    for group in optimizer.param_groups:
        sizes = [(_size(parameter), parameter.requires_grad) for parameter in group["params"]]
        settings.append(
            OptimizerSettings(
                kind=kind,
                learning_rate=_float(group.get("initial_lr", group.get("lr")), math.nan),
                weight_decay=_float(group.get("weight_decay"), 0.0),
                maximize=bool(group.get("maximize", False)),
                momentum=_float(group.get("momentum", next(iter(group.get("betas") or ()), None)), math.nan),
                epsilon=_float(group.get("eps"), math.nan),
                parameters=sum(size for size, _ in sizes),
                trainable=sum(size for size, trainable in sizes if trainable),
            )
        )
    return settings


def _size(parameter: Any) -> int:
    # a lazy layer that has seen no batch has no size yet
    return 0 if is_lazy(parameter) else int(parameter.numel())


def _float(value: Any, otherwise: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return otherwise


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
