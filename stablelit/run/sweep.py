"""Sweeps: where their runs lie, and what cannot be swept.

A sweep's directory is Hydra's to make; here it is made first, so that two sweeps do not share one, and taken away again
where no run was kept in it (fast_dev_run).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import lightning.pytorch as pl
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from stablelit.errors import ConfigurationError

SWEEP_DIR_VARIABLE = "STABLELIT_SWEEP_DIR"
"""What `hydra.sweep.dir` reads: Hydra asks for it anew in every job, and jobs can differ in name and time."""


class SweepDirectory(Callback):
    """Claims the sweep's directory before the first job and tidies up after the last."""

    def __init__(self) -> None:
        self._made: list[Path] = []

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Makes the directory; where another sweep has it already, the name gets a number."""
        os.environ.pop(SWEEP_DIR_VARIABLE, None)
        wanted = Path(config.hydra.sweep.dir)
        os.environ[SWEEP_DIR_VARIABLE] = f"{wanted}-2"
        if Path(config.hydra.sweep.dir) == wanted:
            return  # the user's own hydra.sweep.dir: shared, if they say so
        for number in range(1, 10_000):
            path = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
            os.environ[SWEEP_DIR_VARIABLE] = str(path)
            missing = [p for p in (path, *path.parents) if not p.exists()]
            try:
                path.mkdir(parents=True, exist_ok=False)
            except FileExistsError:
                if not path.is_dir():
                    _leave(f"The sweep cannot be kept at {path}: a file of that name is there.")
                continue
            except OSError as error:
                _leave(f"The sweep cannot be kept at {path}: {error.strerror}. Choose another root with runs=DIR.")
            self._made = missing
            return

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Removes a sweep in which no run left anything, and the folders that were made for it."""
        path = Path(config.hydra.sweep.dir)
        os.environ.pop(SWEEP_DIR_VARIABLE, None)
        if not self._made or any(p.is_file() and p.name != "multirun.yaml" for p in path.rglob("*")):
            return
        (path / "multirun.yaml").unlink(missing_ok=True)
        for folder in sorted((p for p in path.rglob("*") if p.is_dir()), reverse=True):
            folder.rmdir()
        for folder in self._made:
            if not any(folder.iterdir()):
                folder.rmdir()


def _leave(message: str) -> NoReturn:
    # Hydra turns any other exception of a callback into a warning and goes on
    print(f"ConfigurationError: {message}", file=sys.stderr)
    raise SystemExit(2)


def sweep_job_directory() -> Path | None:
    """The directory of this job where it is part of a sweep."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().runtime.output_dir)


def refuse_subprocess_ddp(trainer: pl.Trainer) -> None:
    """Complains where Lightning would start this program again, sweep and all, for every further device.

    Raises:
        ConfigurationError: with what to use instead.
    """
    launcher = type(getattr(trainer.strategy, "launcher", None)).__name__
    if launcher == "_SubprocessScriptLauncher" and trainer.num_devices * trainer.num_nodes > 1:
        raise ConfigurationError(
            "A sweep (-m) cannot use a strategy that starts the program again for each device: every process would run "
            "the whole sweep. Use trainer.strategy=ddp_fork (CPU), trainer.strategy=ddp_spawn, trainer.devices=1, or a "
            "launcher that starts each job as a process of its own (hydra/launcher=joblib or submitit)."
        )
