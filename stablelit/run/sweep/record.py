"""`sweep.json`: what a sweep was asked for, so that it can go on and its results can be read without Hydra."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from stablelit.data.files import replacing
from stablelit.errors import ConfigurationError
from stablelit.run.compose import SavedCommand

SWEEP_FILE = "sweep.json"
# these say where and how, not what
_NOT_REPEATED = ("hydra.sweep.dir", "hydra.mode", "retry_failed")
_OF_NO_JOB = ("resume", "run_dir", "retry_failed", "runs")


@dataclass(frozen=True)
class SweepRecord:
    """A sweep as it was asked for.

    Args:
        command: what was typed.
        swept: the keys that differ between jobs.
        metric: the objective; None where it is not the same for all.
        mode: `min` if less of it is better.
        jobs: the overrides of every job in order; None of a sweeper that chooses as it goes.
        identities: of each job, a name of what its whole configuration says.
    """

    command: SavedCommand
    swept: tuple[str, ...]
    metric: str | None
    mode: str
    jobs: tuple[tuple[str, ...], ...] | None = None
    identities: tuple[str, ...] = field(default=())


def write_sweep(directory: Path, record: SweepRecord) -> None:
    """Writes `sweep.json`."""
    with replacing(directory / SWEEP_FILE) as fresh:
        fresh.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")


def read_sweep(directory: Path) -> SweepRecord | None:
    """What was asked for; None where this is no sweep's directory.

    Raises:
        ConfigurationError: the file is not what `write_sweep` writes.
    """
    path = directory / SWEEP_FILE
    if not path.is_file():
        return None
    try:
        plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        command, jobs = plain["command"], plain["jobs"]
        return SweepRecord(
            SavedCommand(str(command["config_name"]), command["config_dir"], _texts(command["overrides"])),
            _texts(plain["swept"]),
            plain["metric"],
            "max" if plain["mode"] == "max" else "min",
            None if jobs is None else tuple(_texts(job) for job in jobs),
            _texts(plain["identities"]),
        )
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigurationError(f"{path} cannot be read as the record of a sweep: {error}") from error


def command_of(config: DictConfig) -> SavedCommand:
    """What was typed to begin a sweep, from its composed configuration."""
    sources = [s.path for s in config.hydra.runtime.config_sources if s.provider == "command-line"]
    typed = [*map(str, config.hydra.overrides.task), *map(str, config.hydra.overrides.hydra)]
    kept = tuple(o for o in typed if o.partition("=")[0].lstrip("+") not in _NOT_REPEATED)
    return SavedCommand(str(config.hydra.job.config_name), sources[0] if sources else None, kept)


def of_the_job(overrides: Any) -> frozenset[str]:
    """The overrides that say what a job does."""
    return frozenset(str(o) for o in overrides if str(o).partition("=")[0].lstrip("+") not in _OF_NO_JOB)


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r} is not a list of texts")
    return tuple(values)
