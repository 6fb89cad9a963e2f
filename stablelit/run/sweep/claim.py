"""A sweep's directory: made before the first job, so that no two sweeps share one; removed where it stays empty."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig

from stablelit.errors import ConfigurationError
from stablelit.run.sweep.record import SWEEP_FILE
from stablelit.run.sweep.results import TABLE_FILE

SWEEP_DIR_VARIABLE = "STABLELIT_SWEEP_DIR"
"""What `hydra.sweep.dir` reads: Hydra asks for it anew in every job, and jobs can differ in name and time."""

PICTURE_FILE = "summary.png"
_OWN_FILES = ("multirun.yaml", SWEEP_FILE, TABLE_FILE, PICTURE_FILE)


def claim_sweep_directory(config: DictConfig) -> list[Path]:
    """Makes the directory; where another sweep has it already, the name gets a number.

    Returns:
        The folders that were made.

    Raises:
        ConfigurationError: it cannot be made.
    """
    given = given_sweep_directory(config)
    if given is not None:
        return _make(given, exist_ok=True) or []
    wanted = Path(config.hydra.sweep.dir)
    for number in range(1, 10_000):
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        os.environ[SWEEP_DIR_VARIABLE] = str(path)
        made = _make(path, exist_ok=False)
        if made is not None:
            return made
    raise ConfigurationError(
        f"{wanted.parent} has 10,000 sweeps that began at {wanted.name}; give hydra.sweep.dir=DIR."
    )


def given_sweep_directory(config: DictConfig) -> Path | None:
    """The user's own `hydra.sweep.dir`, which may be there: a sweep goes on in it. None where we choose."""
    os.environ.pop(SWEEP_DIR_VARIABLE, None)
    wanted = Path(config.hydra.sweep.dir)
    os.environ[SWEEP_DIR_VARIABLE] = f"{wanted}-2"
    given = Path(config.hydra.sweep.dir) == wanted
    os.environ.pop(SWEEP_DIR_VARIABLE)
    return wanted if given else None


def tidy_sweep_directory(directory: Path, made: list[Path]) -> bool:
    """Removes a sweep in which no run left anything, and the folders that were made for it; whether it did."""
    os.environ.pop(SWEEP_DIR_VARIABLE, None)
    if not made or any(p.is_file() and p.name not in _OWN_FILES for p in directory.rglob("*")):
        return False
    for name in _OWN_FILES:
        (directory / name).unlink(missing_ok=True)
    for folder in sorted((p for p in directory.rglob("*") if p.is_dir()), reverse=True):
        folder.rmdir()
    for folder in made:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return True


def _make(path: Path, exist_ok: bool) -> list[Path] | None:
    """The folders that were made, innermost first; None where it is there and must not be."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    try:
        path.mkdir(parents=True, exist_ok=exist_ok)
    except FileExistsError:
        if path.is_dir():
            return None
        raise ConfigurationError(f"The sweep cannot be kept at {path}: a file of that name is there.") from None
    except OSError as error:
        raise ConfigurationError(
            f"The sweep cannot be kept at {path}: {error.strerror}. Choose another root with runs=DIR."
        ) from None
    return missing
