"""The place where Hydra asks us before a sweep: all jobs are checked, then the sweep's directory is claimed.

Of everything that can be wrong nothing is left lying: the first file is written when every job is known to be right.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from stablelit.errors import StablelitError
from stablelit.run.door import users_mistake
from stablelit.run.sweep.claim import claim_sweep_directory, given_sweep_directory
from stablelit.run.sweep.plan import plan_of
from stablelit.run.sweep.preflight import Checked, check_all_jobs, one_seed
from stablelit.run.sweep.record import SweepRecord, command_of, read_sweep, write_sweep
from stablelit.run.sweep.session import current_session
from stablelit.run.sweep.swept_job import SWEEP_PROCESS_VARIABLE
from stablelit.run.sweep.unchanged import can_draw_again, changed_settings, require_same_jobs


class SweepCallback(Callback):
    """Looks at a sweep before its first job."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Checks every job, and makes the directory; a sweep that is there already goes on."""
        try:
            self._begin(config)
        except (StablelitError, HydraException, OmegaConfBaseException) as error:
            _leave(users_mistake(error) or str(error))

    def _begin(self, config: DictConfig) -> None:
        session = current_session()
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        plan = plan_of(config, hydra.config_loader)
        given = given_sweep_directory(config)
        before = read_sweep(given) if given is not None and session.program == "train" else None
        if before is not None:
            require_same_jobs(before, plan, config)
        checked = check_all_jobs(config, hydra.config_loader, plan)
        if session.program != "train":
            print(_ok(checked), flush=True)
            raise SystemExit(0)
        if not can_draw_again(config.hydra.sweeper):
            checked.notes.append(
                "This study cannot go on if it is interrupted: its sampler has no seed (hydra.sweeper.sampler.seed=0)."
            )
        made = claim_sweep_directory(config)
        directory = Path(config.hydra.sweep.dir).absolute()
        if before is None:
            checked.notes += one_seed(plan)
        else:
            checked.notes += changed_settings(before, checked, directory)
        print(_ok(checked), flush=True)
        os.environ[SWEEP_PROCESS_VARIABLE] = str(os.getpid())
        metric, mode = checked.objective
        jobs = tuple(job.overrides for job in plan.jobs) if plan.complete else None
        identities = tuple(checked.identities[job.number] for job in plan.jobs)
        record = SweepRecord(command_of(config), plan.swept, metric, mode, jobs, identities)
        # what went on keeps its own: its identities are those that its finished jobs had
        record = before if before is not None and before.jobs == record.jobs else record
        keep = not (config.get("trainer") or {}).get("fast_dev_run")
        if keep:
            write_sweep(directory, record)
        session.begin(directory, record if keep else None, made)


def _ok(checked: Checked) -> str:
    count = len(checked.plan.jobs)
    what = f"{count} jobs" if checked.plan.complete else f"{count} of the jobs that the sweeper may choose"
    return "\n".join([f"OK: {what} can be trained as configured ({checked.seconds:.1f} s).", *checked.notes])


def _leave(message: str) -> NoReturn:
    # Hydra turns any other exception of a callback into a warning and goes on
    print(message, file=sys.stderr)
    raise SystemExit(2)
