"""The run directory: made by exactly one run, before any data are read, and shared by the processes of that run."""

from __future__ import annotations

import os
import re
import tempfile
from datetime import datetime
from pathlib import Path

from stablelit.errors import ConfigurationError, bad_argument
from stablelit.lost_reports import remedy, why
from stablelit.run_files import CONFIG_FILE

RUN_DIR_VARIABLE = "STABLELIT_RUN_DIR"
"""Tells the processes that Lightning starts for a data-parallel run where their run lives."""

OVERRIDES_FILE = "overrides.yaml"
SPLITS_FILE = "splits.json"
BEST_CHECKPOINT = "checkpoints/best.ckpt"
LAST_CHECKPOINT = "checkpoints/last.ckpt"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=,+-]*")


def claim_run_directory(
    name: str,
    runs: str | Path,
    *,
    run_dir: str | Path | None = None,
    resumed: bool = False,
    now: datetime | None = None,
) -> Path:
    """Makes this run's directory and returns it, absolute.

    Args:
        name: the experiment's name.
        runs: the root under which `<name>/<date-time>` is made.
        run_dir: an explicit directory instead; it may exist, but must not hold a run.
        resumed: the explicit directory holds the run that is going on.
        now: the time in the name; the present if None.

    Raises:
        ConfigurationError: a name that is no folder's name, no permission to write, a file in the way, a directory
            that holds another run, or several processes started from outside without `run_dir`.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise bad_argument("train", "name", name, "letters, digits and . _ = , + -, because it names a folder")
    inherited = os.environ.get(RUN_DIR_VARIABLE)
    if inherited and is_child_process():
        return Path(inherited)
    if run_dir is None:
        _refuse_to_guess_between_processes()
        return _claim_new(Path(runs).expanduser().absolute() / name, now or datetime.now())
    path = Path(run_dir).expanduser().absolute()
    if not resumed and process_rank() == 0 and (path / CONFIG_FILE).exists():
        if next((path / LAST_CHECKPOINT).parent.glob("*.ckpt"), None) is None:
            # resume= would say that there is nothing to go on from
            raise ConfigurationError(
                f"run_dir={path} holds a run already ({CONFIG_FILE}), which was ended before its first checkpoint or "
                f"is still on its way there. Name another directory, or take that one away."
            )
        raise ConfigurationError(
            f"run_dir={path} holds a run already ({CONFIG_FILE}). "
            f"Go on with it: resume={path}; or name another directory."
        )
    _make(path, exist_ok=True)
    _check_writable(path)
    return path


def cannot_be_kept(path: Path, error: OSError) -> ConfigurationError:
    """The error of a run whose directory cannot be made or written to, before anything is trained."""
    name = f" ({error.filename})" if error.filename and str(error.filename) != str(path) else ""
    return ConfigurationError(
        f"The run cannot be kept at {path}: {why(error)}{name}. {remedy(error)} Or give run_dir=DIR."
    )


def is_child_process() -> bool:
    """Whether Lightning started this process for a run that another one began."""
    return int(os.environ.get("LOCAL_RANK") or 0) > 0 and "RANK" not in os.environ


def process_rank() -> int:
    """This process's rank among those that a launcher outside started; 0 where there is none."""
    for variable in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if os.environ.get(variable, "").isdigit():
            return int(os.environ[variable])
    return 0


def _refuse_to_guess_between_processes() -> None:
    for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if rank in os.environ and int(os.environ.get(world) or 1) > 1:
            raise ConfigurationError(
                f"{os.environ[world]} processes were started from outside ({rank} is set), and each would make a run "
                f"directory of its own. Give one to all of them: run_dir=runs/my_run"
            )


def _claim_new(parent: Path, now: datetime) -> Path:
    _make(parent, exist_ok=True)
    stamp = now.strftime("%Y-%m-%d_%H-%M-%S")
    for number in range(1, 10_000):
        path = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            _make(path, exist_ok=False)  # mkdir is atomic: of two runs in one second one gets the next name
        except FileExistsError:
            continue
        return path
    raise ConfigurationError(f"{parent} has 10,000 runs that began at {stamp}; give run_dir=.")


def _make(path: Path, exist_ok: bool) -> None:
    try:
        path.mkdir(parents=True, exist_ok=exist_ok)
    except FileExistsError:
        if not exist_ok and path.is_dir():
            raise
        raise ConfigurationError(f"The run cannot be kept at {path}: a file of that name is there.") from None
    except NotADirectoryError:
        blocking = next(p for p in path.parents if p.exists())
        raise ConfigurationError(f"The run cannot be kept at {path}: {blocking} is a file.") from None
    except OSError as error:
        raise cannot_be_kept(path, error) from None


def _check_writable(path: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise cannot_be_kept(path, error) from None
