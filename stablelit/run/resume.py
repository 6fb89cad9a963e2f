"""`resume=`: the command line of a run that goes on, put together from the one that began it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from omegaconf import DictConfig

from stablelit.errors import ConfigurationError
from stablelit.run.checkpoint import epochs_completed, locate_run, read_checkpoint, require_match
from stablelit.run.command_line import CommandLine, merge_overrides, quoted
from stablelit.run.compose import read_command
from stablelit.run.resumable import checkpoint_to_resume, require_resumable_file
from stablelit.run.same_data import require_same_data


def resumed_command(line: CommandLine) -> CommandLine:
    """The saved overrides merged with the new ones, with `resume=` the checkpoint and `run_dir=` the run's directory.

    It happens before Hydra sees the command line, for Hydra holds overrides against the composed configuration: one
    that the saved experiment has would be unknown without it.

    Raises:
        ConfigurationError: nothing to go on from, a sweep, or `weights=` beside it.
    """
    if line.is_multirun:
        raise ConfigurationError("resume= goes on with one run; it cannot be swept (-m).")
    if (weights := line.value("weights")) not in (None, "null"):
        raise ConfigurationError(
            f"resume= goes on with the weights of its run, and weights={weights} begins a new one with others. "
            f"Leave one of the two out."
        )
    run_dir, checkpoint = _run_and_checkpoint(line.value("resume") or "")
    asked_dir = line.value("run_dir")
    if asked_dir and Path(asked_dir).expanduser().absolute() != run_dir:
        raise ConfigurationError(
            f"A resumed run goes on in its own directory, {run_dir}; leave run_dir={asked_dir} out. "
            f"To start a new run from its configuration: --config-dir {run_dir} --config-name config"
        )
    saved = read_command(run_dir)
    new = [o for o in line.overrides if o.partition("=")[0] not in ("resume", "run_dir")]
    # a run that began in a sweep goes on alone: neither the sweep's file nor the right to name targets is inherited
    kept = [o for o in saved.overrides if not o.startswith(("+sweep=", "sweep=", "allow_targets=", "+allow_targets="))]
    options = [o for o in line.options if o[0] not in ("--config-dir", "-cd", "--config-name", "-cn")]
    directory = line.option("--config-dir", "-cd") or saved.config_dir
    options += [("--config-dir", directory)] if directory else []
    options += [("--config-name", line.option("--config-name", "-cn") or saved.config_name)]
    overrides = [*merge_overrides(kept, new), f"run_dir={quoted(str(run_dir))}", f"resume={quoted(str(checkpoint))}"]
    return CommandLine(tuple(options), tuple(overrides))


def _run_and_checkpoint(given: str) -> tuple[Path, Path]:
    path = Path(given).expanduser().absolute()
    if path.is_dir():
        return path, checkpoint_to_resume(path)
    run_dir, checkpoint = locate_run(given, "resume")
    require_resumable_file(checkpoint)
    return run_dir, checkpoint


class MovedCheckpoints(pl.Callback):
    """Tells ModelCheckpoint where its files are now, in a run directory that was moved since.

    Without it ModelCheckpoint finds another directory in its saved state and forgets which checkpoint was the best; the
    first epoch after the resume would then overwrite it.
    """

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Runs before the callbacks get their state back."""
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint.get("callbacks", {}).get(callback.state_key)
            here = getattr(callback, "dirpath", None)
            there = (state or {}).get("dirpath")
            if here and there and str(here) != str(there):
                moved = {name: _moved(value, str(there), str(here)) for name, value in state.items()}
                checkpoint["callbacks"][callback.state_key] = moved


def _moved(value: Any, there: str, here: str) -> Any:
    if isinstance(value, str):
        return here + value[len(there) :] if value.startswith(there) else value
    if isinstance(value, dict):
        return {_moved(k, there, here): _moved(v, there, here) for k, v in value.items()}
    return value


def require_resumable(
    checkpoint_path: Path, module: object, config: DictConfig, may_be_over: bool = False, datamodule: object = None
) -> None:
    """Looks before training: a whole checkpoint, made for this model and of these data, and something left to do.

    Args:
        checkpoint_path: what to go on from.
        module: that shall take it.
        config: of the run.
        may_be_over: a job of a sweep that was killed after its last epoch is still to be tested and summed up.
        datamodule: with the data to go on with.

    Raises:
        ConfigurationError: any of these.
    """
    checkpoint = read_checkpoint(checkpoint_path)
    require_match(checkpoint, module, checkpoint_path)  # type: ignore[arg-type]
    if datamodule is not None:
        require_same_data(Path(config.run_dir), datamodule, checkpoint)
    done, planned = epochs_completed(checkpoint), config.trainer.get("max_epochs")
    if planned is not None and 0 <= planned <= done and not may_be_over:
        raise ConfigurationError(
            f"{checkpoint_path} has {done} epochs behind it, and trainer.max_epochs={planned}: nothing is left to do. "
            f"Give it more: trainer.max_epochs={2 * done}"
        )
