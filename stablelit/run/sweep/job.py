"""What one run has to know of the sweep that it is part of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from stablelit.errors import ConfigurationError
from stablelit.run.door import RunFailure

if TYPE_CHECKING:
    import lightning.pytorch as pl

_WAYS_OUT = (
    "Use trainer.strategy=ddp_fork (CPU), trainer.strategy=ddp_spawn, trainer.devices=1, or a cluster whose scheduler "
    "starts the processes of a job (hydra/launcher=submitit_slurm with hydra.launcher.tasks_per_node)."
)


def sweep_job_directory() -> Path | None:
    """The directory of this job where it is part of a sweep."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().runtime.output_dir)


def repeats_the_sweep(trainer: pl.Trainer) -> str:
    """What is wrong where Lightning would start this program again, sweep and all, for each device; else empty."""
    launcher = type(getattr(trainer.strategy, "launcher", None)).__name__
    if launcher != "_SubprocessScriptLauncher" or trainer.num_devices * trainer.num_nodes < 2:
        return ""
    return (
        "A sweep (-m) cannot use a strategy that starts the program again for each device: every process would run "
        f"the whole sweep. {_WAYS_OUT}"
    )


def refuse_subprocess_ddp(trainer: pl.Trainer) -> None:
    """Complains where Lightning would start this program again, sweep and all, for every further device.

    Raises:
        ConfigurationError: with what to use instead.
    """
    if complaint := repeats_the_sweep(trainer):
        raise ConfigurationError(complaint)


def end_the_sweep_if_asked(trainer: pl.Trainer) -> None:
    """Ends the sweep on an interrupt that came so late that the job was over all the same.

    Raises:
        RunFailure: somebody asked.
    """
    asked = [getattr(callback, "asked_to_end", None) for callback in trainer.callbacks]  # type: ignore[attr-defined]
    for number in filter(None, asked):
        raise RunFailure("Interrupted: this job was over, and the sweep ends.", 128 + number)
