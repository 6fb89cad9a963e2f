"""From a checked configuration to the objects of a run: datamodule, module, callbacks, loggers, Trainer."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning.pytorch.callbacks import Checkpoint, ProgressBar, RichModelSummary, WeightAveraging
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from stablelit.errors import ConfigurationError, StablelitError, missing_extra
from stablelit.run.guarded_loggers import guard_loggers
from stablelit.run.rank_randomness import RankRandomness
from stablelit.run.record import RunRecorder

PROVIDED = {
    "model": {"optimizer", "lr_schedule"},
    "trainer": {"callbacks", "logger", "default_root_dir"},
    "optimizer": {"params", "lr"},
    "lr_schedule": {"optimizer", "total_steps"},
}
"""The arguments that are added here and that no configuration has to give."""

_EXTRAS = {"wandb": "wandb", "h5py": "hdf5"}


@dataclass
class Parts:
    """The objects of a run.

    Args:
        notes: what a person should know about how they were put together.
    """

    trainer: pl.Trainer
    recorder: RunRecorder
    datamodule: pl.LightningDataModule
    module: pl.LightningModule
    notes: list[str] = field(default_factory=list)


def build_trainer(
    config: DictConfig, run_dir: Path, own: Sequence[pl.Callback], leave_out: tuple[type, ...] = ()
) -> pl.Trainer:
    """The Trainer with its loggers, the run's own callbacks, and the configured ones but for classes in `leave_out`.

    Raises:
        ConfigurationError: Lightning refuses the settings, or the machine has no such device.
    """
    made = [built_from(node) for node in _nodes(config.get("callbacks"), "callbacks")]
    callbacks: list[pl.Callback] = [callback for callback in made if not isinstance(callback, leave_out)]
    # the run's own come last, since an objective may be what another callback logs when an epoch ends; an averaging
    # callback swaps the weights for validation: who looks at the model comes before it
    callbacks = [RankRandomness(), *sorted([*callbacks, *own], key=_averages)]
    summary = config.get("model_summary")
    if summary is not None:
        callbacks.append(RichModelSummary(max_depth=int(summary.max_depth)))
    arguments: dict[str, Any] = {}
    # without these Lightning adds a bar and a checkpoint of its own
    for name, kind in (("enable_progress_bar", ProgressBar), ("enable_checkpointing", Checkpoint)):
        if name not in config.trainer:
            arguments[name] = any(isinstance(c, kind) for c in callbacks)
    loggers = [built_from(node) for node in _nodes(config.get("logger"), "logger")]
    make = instantiate(config.trainer, _partial_=True, _convert_="all")
    arguments |= {"callbacks": callbacks, "logger": loggers or False, "default_root_dir": str(run_dir)}
    try:
        trainer: pl.Trainer = make(**arguments)
    except (MisconfigurationException, ValueError) as error:
        # of the machine, or of settings that do not go together
        if isinstance(error, StablelitError):
            raise
        raise _refused_trainer(config, error) from error
    guard_loggers(trainer)
    return trainer


def _refused_trainer(config: DictConfig, cause: BaseException) -> ConfigurationError:
    settings = {name: config.trainer.get(name) for name in ("accelerator", "devices", "strategy", "precision")}
    told = ", ".join(f"trainer.{name}={value}" for name, value in settings.items() if value is not None)
    missing = config.trainer.get("accelerator") in ("gpu", "cuda") and not torch.cuda.is_available()
    remedy = "This machine has no GPU that torch can use: choose trainer=cpu or trainer=ddp_cpu." if missing else ""
    return ConfigurationError(f"Lightning refuses {told}: {' '.join(str(cause).split())} {remedy}".strip())


def _averages(callback: pl.Callback) -> bool:
    return isinstance(callback, WeightAveraging) or getattr(callback, "averages_weights", False)


def build_data(config: DictConfig) -> pl.LightningDataModule:
    """The datamodule.

    Raises:
        ConfigurationError: the configuration names none.
    """
    _require(config, "data")
    datamodule: pl.LightningDataModule = built_from(config.data)
    return datamodule


def build_module(config: DictConfig, notes: list[str] | None = None) -> pl.LightningModule:
    """The module, with its optimizer and learning-rate schedule as functions to call later.

    A module that has no `optimizer` argument configures its own; that is noted, for a root `optimizer=` has no effect.

    Raises:
        ConfigurationError: the configuration names none.
    """
    _require(config, "model")
    make = instantiate(config.model, _partial_=True, _convert_="all")
    accepted = inspect.signature(get_object(config.model._target_)).parameters
    takes_anything = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    later = {}
    for name in ("optimizer", "lr_schedule"):
        node = config.get(name)
        if not node or name in config.model:
            continue
        if name in accepted or takes_anything:
            later[name] = built_from(node)
        elif notes is not None:
            owner = config.model._target_.rpartition(".")[2]
            notes.append(f"{owner} has no argument {name!r}: it configures its own, and `{name}=` is not used.")
    module: pl.LightningModule = make(**later)
    return module


def compiled(module: pl.LightningModule, wanted: bool) -> pl.LightningModule:
    """The module as the Trainer gets it."""
    if not wanted:
        return module
    for name in ("log", "log_dict"):
        # torch 2.13 fails inside Lightning's bookkeeping when it traces these
        setattr(module, name, torch.compiler.disable(getattr(module, name)))
    return torch.compile(module)  # type: ignore[return-value]


def built_from(node: DictConfig) -> Any:
    """Builds what a node of the configuration says."""
    # plain containers: a DictConfig among the hyper-parameters makes every resume fail
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        absent = error.__cause__
        for package, extra in _EXTRAS.items():
            if isinstance(absent, ImportError) and package in str(absent):
                raise missing_extra(package, extra, str(node._target_)) from absent
        raise


def _nodes(group: DictConfig | None, key: str) -> list[DictConfig]:
    """The members of a group merged by name; one that was set to null is left out.

    So are the settings that an experiment has for a member which the command line's list is without, and they are told.
    """
    if not group:
        return []
    if "_target_" in group:
        return [group]
    if bare := [str(name) for name, node in group.items() if node and "_target_" not in node]:
        rank_zero_only(print)(f"{key}: not in the run, so their settings are left out: {', '.join(bare)}", flush=True)
    return [node for node in group.values() if node and "_target_" in node]


def _require(config: DictConfig, group: str) -> None:
    node = config.get(group)
    if not node or "_target_" not in node:
        raise ConfigurationError(
            f"The configuration has no {group}: give an experiment (+experiment=...), or choose one ({group}=...)."
        )
