"""What a sweep does around each of its jobs: skip what is done, go on with what was interrupted, note what failed.

A job that fails counts as the worst value of its objective, and the others go on; an interrupt ends all of them.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from stablelit.errors import ConfigurationError
from stablelit.run.compose import read_command, write_configuration
from stablelit.run.directory import OVERRIDES_FILE
from stablelit.run.door import RunFailure, users_mistake
from stablelit.run.objective_error import ObjectiveNotLogged
from stablelit.run.resumable import checkpoint_to_resume
from stablelit.run.summary import write_summary
from stablelit.run.sweep.record import SweepRecord, of_the_job, read_sweep
from stablelit.run.sweep.results import number_in, summary_of, write_table
from stablelit.run_files import CONFIG_FILE

SWEEP_PROCESS_VARIABLE = "STABLELIT_SWEEP_PROCESS"
"""The process that a sweep was begun in: the output of jobs in others says whose it is."""


def run_swept_job(config: DictConfig, job_dir: Path, work: Callable[[DictConfig], float | None]) -> float | None:
    """Does a job of a sweep, if it is not done.

    Args:
        config: the job's.
        job_dir: its directory; what an earlier start of this sweep has left there is used.
        work: trains; `config.resume` and `config.run_dir` are set where it goes on.

    Returns:
        What `work` returns, or has returned before; the worst possible value of a job that failed.

    Raises:
        RunFailure: the job was interrupted, and the sweep with it.
        ConfigurationError: the directory holds another job.
    """
    sweep_dir = Path(HydraConfig.get().sweep.dir).absolute()
    record = read_sweep(sweep_dir)
    began = time.monotonic()
    with _told_apart(str(HydraConfig.get().job.num)):
        try:
            known, value = _from_before(config, job_dir)
            if known:
                return value
            return work(config)
        except RunFailure:
            raise
        except Exception as error:
            _note_failure(config, job_dir, error, time.monotonic() - began)
            if isinstance(error, ObjectiveNotLogged) and record is not None and _all_log_the_same(record):
                raise RunFailure("All jobs have this objective, and none would log it: the sweep ends.", 2) from error
            return worst_of(config)
        finally:
            if record is not None:
                write_table(sweep_dir, record)


def _all_log_the_same(record: SweepRecord) -> bool:
    """Whether the jobs differ in numbers alone, and not in their model or their callbacks."""
    return all("." in key or key == "seed" for key in record.swept)


def worst_of(config: DictConfig) -> float:
    """The value that no job is worse than: never NaN, which a sweeper cannot rank."""
    mode = (config.get("objective") or {}).get("mode", "min")
    return -math.inf if mode == "max" else math.inf


def clear(job_dir: Path) -> None:
    """Takes away what a job has left, to begin it anew."""
    shutil.rmtree(job_dir, ignore_errors=True)
    job_dir.mkdir(parents=True, exist_ok=True)


def note_killed(job_dir: Path, times: int) -> None:
    """Writes down a job whose process was killed each time that it was begun."""
    write_summary(job_dir, status="failed", error=f"its process was killed {times} times, for want of memory perhaps")


def _checkpoint_in(job_dir: Path) -> Path | None:
    """What a job can go on from: the furthest checkpoint that is whole."""
    try:
        return checkpoint_to_resume(job_dir)
    except ConfigurationError:
        return None


def _from_before(config: DictConfig, job_dir: Path) -> tuple[bool, float | None]:
    """Whether the job needs nothing more, and its value; where it does, it is made ready to go on or to begin."""
    if not (job_dir / OVERRIDES_FILE).is_file() and not (job_dir / CONFIG_FILE).is_file():
        return False, None
    _require_same_job(job_dir)
    what = f"job {HydraConfig.get().job.num}"
    summary = summary_of(job_dir)
    status = summary.get("status") if summary else "interrupted"
    if summary and status == "finished":
        value = number_in((summary.get("objective") or {}).get("best"))
        print(f"{what}: done already{'' if value is None else f' ({value:.4g})'}.", flush=True)
        return True, value
    if status in ("failed", "diverged"):
        if not config.get("retry_failed"):
            print(f"{what}: {status} before; it counts as {worst_of(config)}. Again: retry_failed=true", flush=True)
            return True, worst_of(config)
        print(f"{what}: {status} before; again.", flush=True)
        clear(job_dir)
        return False, None
    checkpoint = _checkpoint_in(job_dir)
    if checkpoint is None:
        print(f"{what}: was ended before its first checkpoint; it begins anew.", flush=True)
        clear(job_dir)
        return False, None
    print(f"{what}: goes on from {checkpoint}.", flush=True)
    with open_dict(config):
        config.resume, config.run_dir = str(checkpoint), str(job_dir)
    return False, None


def _require_same_job(job_dir: Path) -> None:
    mine, its = of_the_job(HydraConfig.get().overrides.task), of_the_job(read_command(job_dir).overrides)
    if mine != its:
        # not one job's failure: none after it would be where it belongs
        raise RunFailure(
            f"ConfigurationError: {job_dir} holds another job: there {_only(its - mine)}, here {_only(mine - its)}. A "
            f"sweep goes on with the jobs that it began with; a sweeper that draws at random needs a seed to draw the "
            f"same again (hydra.sweeper.sampler.seed=0). Give another grid a directory of its own.",
            2,
        )


def _only(overrides: frozenset[str]) -> str:
    return " ".join(sorted(overrides)) or "nothing more"


def _note_failure(config: DictConfig, job_dir: Path, error: Exception, seconds: float) -> None:
    message = users_mistake(error)
    if message is None:
        traceback.print_exc()
        message = f"{type(error).__name__}: {error}"
    else:
        print(message, file=sys.stderr)
    if not isinstance(error, ObjectiveNotLogged):
        print(f"The sweep goes on; this run counts as {worst_of(config)}.", flush=True)
    summary = summary_of(job_dir)
    if summary is not None and summary.get("status") in ("failed", "diverged"):
        return
    job_dir.mkdir(parents=True, exist_ok=True)
    if not (job_dir / CONFIG_FILE).is_file():
        write_configuration(job_dir, config)
    objective = config.get("objective") or {}
    write_summary(
        job_dir,
        name=config.get("name"),
        status="failed",
        error=message if message.startswith(type(error).__name__) else f"{type(error).__name__}: {error}",
        seed=config.get("seed"),
        seconds=round(seconds, 3),
        objective={"metric": objective.get("metric"), "mode": objective.get("mode", "min"), "best": None},
    )


@contextmanager
def _told_apart(number: str) -> Iterator[None]:
    """Puts the job's number before each line, where jobs run beside each other."""
    if os.environ.get(SWEEP_PROCESS_VARIABLE) in (None, str(os.getpid())):
        yield
        return
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Numbered(stream, number)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Numbered:
    """A stream whose lines begin with a job's number; a line is written whole."""

    def __init__(self, stream: TextIO, number: str) -> None:
        self._stream, self._prefix, self._line = stream, f"[job {number}] ", ""

    def write(self, text: str) -> int:
        *whole, self._line = (self._line + text).split("\n")
        for line in whole:
            self._stream.write(f"{self._prefix}{line}\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return False  # a bar of one job would be written over by another's

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
