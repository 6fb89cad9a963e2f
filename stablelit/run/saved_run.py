"""A run that is over, opened again: its configuration with overrides, its checkpoint, its module with the weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint
from omegaconf import DictConfig

from stablelit.errors import ConfigurationError
from stablelit.run.build import build_data, build_module, build_trainer
from stablelit.run.checkpoint import locate_run, read_checkpoint, require_match
from stablelit.run.command_line import CommandLine
from stablelit.run.compose import compose_saved_run
from stablelit.run.directory import BEST_CHECKPOINT
from stablelit.run.environment import remember_allowed_targets
from stablelit.run.train_job import check_configuration


@dataclass
class SavedRun:
    """A run's directory, one of its checkpoints, and its configuration."""

    directory: Path
    checkpoint: Path
    config: DictConfig


def open_run(line: CommandLine, overrides: Sequence[str], program: str) -> SavedRun:
    """Finds what `run=` names and composes its configuration with the overrides.

    Raises:
        ConfigurationError: `run=` is missing or names no run; a mistake in the overrides.
    """
    given = line.value("run")
    if not given:
        raise ConfigurationError(
            f"Which run? python -m stablelit.{program} run=runs/<name>/<date-time>, or run=<checkpoint>."
        )
    if line.options:
        raise ConfigurationError(f"{line.options[0][0]}: {program} takes key=value only.")
    directory, checkpoint = locate_run(given, "run", prefer=BEST_CHECKPOINT)
    remember_allowed_targets(line.overrides)
    config = compose_saved_run(directory, overrides)
    check_configuration(config)
    return SavedRun(directory, checkpoint, config)


def trained_module(run: SavedRun) -> tuple[pl.LightningModule, dict[str, Any]]:
    """The module with the checkpoint's weights, in evaluation mode, and the checkpoint.

    Raises:
        ConfigurationError: the checkpoint is damaged or is of another model.
    """
    checkpoint = read_checkpoint(run.checkpoint)
    module = build_module(run.config)
    require_match(checkpoint, module, run.checkpoint)
    module.on_load_checkpoint(checkpoint)
    # now it has all that it makes of a checkpoint: a name that differs is told as such
    require_match(checkpoint, module, run.checkpoint, complete=True)
    module.load_state_dict(checkpoint["state_dict"], strict=module.strict_loading)
    return module.eval(), checkpoint


def parts_beside(run: SavedRun, scratch: str) -> tuple[pl.Trainer, pl.LightningDataModule, pl.LightningModule]:
    """Trainer, data and module of a run without its loggers and checkpoints; callbacks write into `scratch`.

    The configuration must be open for new keys.
    """
    config = run.config
    config.run_dir, config.logger, config.model_summary = scratch, None, None
    trainer = build_trainer(config, Path(scratch), [], leave_out=(Checkpoint,))
    return trainer, build_data(config), build_module(config)


@contextmanager
def loading(run: SavedRun, module: pl.LightningModule) -> Iterator[str]:
    """The checkpoint's path for a Trainer, which inside says nothing of callbacks that are left out.

    Raises:
        ConfigurationError: the checkpoint is damaged or is of another model.
    """
    require_match(read_checkpoint(run.checkpoint), module, run.checkpoint)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint need to be provided.*")
        yield str(run.checkpoint)
