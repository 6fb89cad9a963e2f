"""All jobs of a sweep, composed and checked before the first starts.

Each job's configuration is read as a single run's is. Then, for each distinct section, once: the Trainer, the data, the
callbacks and the model are built and thrown away, since what their constructors refuse would otherwise end a job after
hours of others. Nothing is read, trained or written.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from stablelit.errors import ConfigurationError
from stablelit.run.environment import quiet_libraries
from stablelit.run.problems import Problem
from stablelit.run.sweep.composition import JobComposer
from stablelit.run.sweep.grouping import told_once
from stablelit.run.sweep.plan import SweepJob, SweepPlan

LOCAL_LAUNCHERS = (".BasicLauncher", ".JoblibLauncher")
_SHOWN_EVERY_S = 1.0
_MOST_TOLD = 20


@dataclass
class Checked:
    """What was looked at.

    Args:
        plan: the jobs.
        objective: the metric and its mode.
        identities: of each job, a name of what it will do; the same of two jobs that do the same.
        notes: what is no mistake and worth knowing.
        seconds: it took.
    """

    plan: SweepPlan
    objective: tuple[str | None, str]
    identities: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def check_all_jobs(config: DictConfig, loader: Any, plan: SweepPlan) -> Checked:
    """Composes and checks every job.

    Args:
        config: the sweep's composed configuration, with its `hydra` section.
        loader: Hydra's.
        plan: its jobs.

    Raises:
        ConfigurationError: with everything that is wrong, each problem once, and the values that cause it.
    """
    # torch takes seconds to import, and a sweep whose command line is wrong needs none
    from stablelit.run.sweep.construction import Construction
    from stablelit.run.sweep.sameness import identity_of, resolved, same_runs
    from stablelit.run.train_job import configuration_problems

    quiet_libraries()
    began = time.monotonic()
    composer = JobComposer(loader, config)
    construction = Construction(local=str(config.hydra.launcher.get("_target_", "")).endswith(LOCAL_LAUNCHERS))
    problems: dict[int, list[Problem]] = {}
    checked = Checked(plan, (None, "min"))
    say = _progress(len(plan.jobs))
    modes = set()
    # a job all of whose values were right in other jobs that are made of the same files need not be read again
    right: set[tuple[tuple[str, ...], str]] = set()
    for job in plan.jobs:
        say(job.number)
        composed = composer.compose(job.overrides)
        found = list(composed.problems)
        if composed.config is not None:
            values = {(composed.files, override) for override in job.overrides}
            if found or not values <= right:
                found = configuration_problems(composed.config, found) + _shared_directory(job)
            if not found:
                right |= values
                plain = resolved(composed.config)
                found = construction.problems(composed.config, plain)
            if not found:
                checked.identities[job.number] = identity_of(plain)
                objective = composed.config.get("objective") or {}
                checked.objective = (objective.get("metric"), str(objective.get("mode", "min")))
                modes.add(checked.objective)
        if found:
            problems[job.number] = found
    say(None)
    texts = told_once(problems, plan)
    texts += same_runs(checked.identities, plan)
    texts += _wrong_direction(config, {mode for _, mode in modes})
    if texts:
        raise ConfigurationError(_told(texts, plan))
    checked.notes += construction.notes
    if len(modes) > 1:
        names = ", ".join(sorted(f"{metric} ({mode})" for metric, mode in modes))
        checked.notes.append(f"The jobs have different objectives, which cannot be ranked together: {names}.")
        checked.objective = (None, "min")
    checked.seconds = time.monotonic() - began
    return checked


def _told(texts: Sequence[str], plan: SweepPlan) -> str:
    count = "1 problem" if len(texts) == 1 else f"{len(texts)} problems"
    jobs = f"this sweep of {len(plan.jobs)} jobs" if plan.complete else "what this sweep may choose"
    more = [f"  ... and {len(texts) - _MOST_TOLD} more"] if len(texts) > _MOST_TOLD else []
    return "\n".join([f"{count} in {jobs}; none was started:", *(f"  {text}" for text in texts[:_MOST_TOLD]), *more])


def _shared_directory(job: SweepJob) -> list[Problem]:
    for override in job.overrides:
        key, _, value = override.partition("=")
        if key.lstrip("+") in ("run_dir", "resume") and value not in ("null", ""):
            remedy = "Name the sweep's directory: hydra.sweep.dir=DIR; go on with a sweep: resume=DIR, without -m."
            return [Problem(key, value, "cannot be shared by the runs of a sweep", remedy)]
    return []


def _wrong_direction(config: DictConfig, modes: set[str]) -> list[str]:
    """A sweeper that is told to look for the worst."""
    given = config.hydra.sweeper.get("direction")
    if given is None or len(modes) != 1:
        return []
    direction, mode = str(getattr(given, "name", given)), next(iter(modes))
    wanted = "minimize" if mode == "min" else "maximize"
    if direction not in ("minimize", "maximize") or direction == wanted:
        return []
    return [
        f"hydra.sweeper.direction={direction}: with objective.mode={mode} the sweeper would look for the worst\n"
        f"    Give hydra.sweeper.direction={wanted}."
    ]


def one_seed(plan: SweepPlan) -> list[str]:
    """A note where no difference between jobs can be held against one between seeds."""
    if not plan.complete or len(plan.jobs) < 2 or "seed" in plan.swept:
        return []
    return ["All jobs have one seed: add seed=0,1,2 to see which differences are larger than those between seeds."]


def _progress(total: int) -> Callable[[int | None], None]:
    """One line that is written over on a terminal, and only where there is something to wait for."""
    began, shown = time.monotonic(), [0.0]

    def say(number: int | None) -> None:
        now = time.monotonic()
        if number is None:
            if shown[0] and sys.stderr.isatty():
                print("\r\033[K", end="", file=sys.stderr, flush=True)
        elif sys.stderr.isatty() and now - max(began, shown[0]) > _SHOWN_EVERY_S:
            print(f"\rChecking job {number + 1} of {total} ...", end="", file=sys.stderr, flush=True)
            shown[0] = now

    return say
