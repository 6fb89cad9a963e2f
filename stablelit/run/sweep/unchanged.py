"""Whether a sweep that goes on is the one that began."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from stablelit.errors import ConfigurationError
from stablelit.run.sweep.plan import SweepPlan
from stablelit.run.sweep.preflight import Checked
from stablelit.run.sweep.record import SweepRecord, of_the_job
from stablelit.run.table import shown_path

_SHOWN = 3


def require_same_jobs(before: SweepRecord, plan: SweepPlan, config: DictConfig) -> None:
    """Complains where the jobs are not those that the sweep began with.

    Raises:
        ConfigurationError: with the jobs that changed; or the sweeper would draw others than before.
    """
    directory = config.hydra.sweep.dir
    if before.jobs is None or not plan.complete:
        if (before.jobs is None) == plan.complete:
            raise ConfigurationError(
                f"{directory} holds a sweep by another sweeper. Give this one a directory of its own."
            )
        if not can_draw_again(config.hydra.sweeper):
            raise ConfigurationError(
                f"{directory} holds a study whose sampler had no seed, and which was kept nowhere: what it would draw "
                f"next is not known. Begin another with hydra.sweeper.sampler.seed=0."
            )
        return
    old, new = [of_the_job(job) for job in before.jobs], [of_the_job(job.overrides) for job in plan.jobs]
    changed = [i for i in range(min(len(old), len(new))) if old[i] != new[i]]
    if not changed and len(new) >= len(old):
        return  # more values of the key that was typed first come last
    lines = [f"  job {i} was {_only(old[i] - new[i])}, and would be {_only(new[i] - old[i])}" for i in changed[:_SHOWN]]
    if len(old) != len(new):
        lines.append(f"  it had {len(old)} jobs, and would have {len(new)}")
    raise ConfigurationError(
        "\n".join(
            [
                f"{directory} holds another sweep:",
                *lines,
                f"  A sweep goes on with its own jobs: python -m stablelit.train resume={directory}",
                "  Give another grid a directory of its own; one job goes on for longer with resume=<its directory>.",
            ]
        )
    )


def can_draw_again(sweeper: Any) -> bool:
    """Whether a sweeper chooses the same jobs when it is asked again, or remembers those that it chose."""
    sampler = sweeper.get("sampler")
    return sampler is None or sweeper.get("storage") is not None or sampler.get("seed") is not None


def changed_settings(before: SweepRecord, checked: Checked, directory: Path) -> list[str]:
    """A note on jobs whose configuration files say something else than when the sweep began."""
    now = [checked.identities[job.number] for job in checked.plan.jobs]
    differing = [i for i, (was, is_now) in enumerate(zip(before.identities, now, strict=False)) if was != is_now]
    if not differing:
        return []
    return [
        f"Since this sweep began its configuration files have changed ({len(differing)} of its jobs are not what they "
        f"were): jobs that are done keep what they came to. Compare with {shown_path(directory)}/<job>/config.yaml."
    ]


def _only(overrides: frozenset[str]) -> str:
    return " ".join(sorted(overrides)) or "without them"
