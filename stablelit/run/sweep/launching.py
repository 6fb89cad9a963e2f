"""Around Hydra's sweepers and launchers: what they do not survive or cannot go on with.

Hydra has no place between making a sweeper and asking it, and its plug-ins must live in a package that every Hydra
program of the environment would then load; so the sweeper that it makes is looked at where it is made.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from omegaconf import DictConfig

from stablelit.run.directory import OVERRIDES_FILE
from stablelit.run.sweep.study import go_on_with_study
from stablelit.run.sweep.swept_job import note_killed
from stablelit.run_files import SUMMARY_FILE

# a job in whose time a worker was killed so often is held to be the reason
_MOST_KILLS = 2
_WORKER_KILLED = ("TerminatedWorkerError", "BrokenProcessPool")


@contextmanager
def launching_to_the_end() -> Iterator[None]:
    """While it is open, a sweeper goes on where its study was, and its launcher survives killed workers."""
    original = Plugins.instantiate_sweeper

    def instantiate_sweeper(self: Any, *, config: DictConfig, **more: Any) -> Any:
        sweeper: Any = original(self, config=config, **more)
        # composing every job once more takes half a second for each, and all of them were just composed
        sweeper.validate_batch_is_legal = lambda batch: None
        inner: Any = getattr(sweeper, "sweeper", sweeper)
        sweep_dir = Path(config.hydra.sweep.dir)
        if hasattr(inner, "storage"):
            go_on_with_study(inner)
        if getattr(inner, "launcher", None) is not None:
            inner.launcher.launch = _to_the_end(inner.launcher, sweep_dir)
        return sweeper

    Plugins.instantiate_sweeper = instantiate_sweeper  # type: ignore[method-assign]
    try:
        yield
    finally:
        Plugins.instantiate_sweeper = original  # type: ignore[method-assign]


def _to_the_end(launcher: Any, sweep_dir: Path) -> Any:
    launch = launcher.launch

    def launch_again(job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        kills: Counter[int] = Counter()
        while True:
            try:
                return launch(job_overrides, initial_job_idx=initial_job_idx)
            except Exception as error:
                if type(error).__name__ not in _WORKER_KILLED:
                    raise
                numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
                running = [n for n in numbers if _is_running(sweep_dir / str(n))]
                # none: it was killed before a job began in it, and nothing says which
                kills.update(running or numbers)
                if not running and max(kills.values()) > _MOST_KILLS:
                    raise
                for number in running:
                    if kills[number] >= _MOST_KILLS:
                        note_killed(sweep_dir / str(number), kills[number])
                which = ", ".join(map(str, running)) or "none known"
                print(
                    f"A worker process was killed from outside, for want of memory perhaps (jobs under way: {which}). "
                    f"The sweep goes on; what was under way goes on from its last checkpoint.",
                    file=sys.stderr,
                    flush=True,
                )

    return launch_again


def _is_running(job_dir: Path) -> bool:
    return (job_dir / OVERRIDES_FILE).is_file() and not (job_dir / SUMMARY_FILE).is_file()
