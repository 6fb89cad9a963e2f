"""Optuna and joblib for what they are: they come with `stablelit[sweep]`, which `stablelit[dev]` holds."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stablelit.train import main

from .conftest import CONF, tiny
from .tiny import TinyVAE

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::stablelit.findings.FindingWarning")]

REPO = Path(__file__).resolve().parents[2]
SWEEP = Path("sweep")
JOBS = ["-m", "hydra.sweep.dir=sweep", "trainer.max_epochs=1", "model_summary=null", "logger=none", "report=false"]
OPTUNA = [*JOBS, "hydra/sweeper=optuna", "hydra.sweeper.n_jobs=1", "model.learning_rate=tag(log,interval(1e-4,1e-1))"]
SEED = "hydra.sweeper.sampler.seed=1"


def rows() -> list[dict[str, str]]:
    with (SWEEP / "summary.csv").open() as file:
        return list(csv.DictReader(file))


def rates() -> list[str]:
    return [row["model.learning_rate"] for row in rows()]


def kill_in_job(number: int, line: list[str]) -> None:
    """Runs a sweep in a process of its own, which is killed in the first step of a job."""
    child = os.fork()
    if child == 0:
        try:
            original = TinyVAE.training_step

            def step(self, batch, batch_idx):
                if (SWEEP / str(number)).exists():
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(self, batch, batch_idx)

            TinyVAE.training_step = step
            main(line)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


@pytest.mark.parametrize("kept", [[SEED], ["hydra.sweeper.storage=sqlite:///study.db"]], ids=["seed", "database"])
def test_a_study_that_was_killed_goes_on_with_the_trial_that_was_under_way(door, kept):
    line = tiny(*OPTUNA, *kept, "hydra.sweeper.n_trials=4")
    kill_in_job(2, line)
    before = [(SWEEP / n / "config.yaml").read_text() for n in "012"]
    done = door(main, "resume=sweep")
    assert done.code == 0, done.err
    assert [row["status"] for row in rows()] == ["finished"] * 4
    assert len(set(rates())) == 4
    # the third trial is the one that was killed, and not another
    assert [(SWEEP / n / "config.yaml").read_text() for n in "012"] == before
    more = door(main, "resume=sweep", "hydra.sweeper.n_trials=5")
    assert more.code == 0, more.err
    assert len(rows()) == 5


def test_a_trial_that_fails_or_diverges_is_the_worst_and_ends_nothing(door):
    failing = ["model.fail_with=other,infinity,null", "model.fail_at_step=0", "hydra.sweeper.n_trials=6"]
    done = door(main, *tiny(*OPTUNA, SEED, *failing))
    assert done.code == 1
    states = [row["status"] for row in rows()]
    assert len(states) == 6
    assert {"failed", "finished"} <= set(states)
    best = (SWEEP / "optimization_results.yaml").read_text()
    assert "nan" not in best
    assert "'null'" in best


def test_a_sweeper_that_would_look_for_the_worst_is_refused(door):
    done = door(main, *tiny(*OPTUNA, "objective.mode=max"))
    assert done.code == 2
    assert "hydra.sweeper.direction=maximize" in done.err
    assert not SWEEP.exists()


def test_the_edges_of_what_may_be_chosen_are_checked_first(door):
    done = door(main, *tiny(*OPTUNA, "model.latent_dim=choice(2,x)", "data.batch_size=interval(8,16)"))
    assert done.code == 2
    assert "with model.latent_dim=x" in done.err
    # a range of Hydra's is one of numbers with a fraction unless it says int(interval(8, 16))
    assert "data.batch_size=12.0" in done.err
    assert not SWEEP.exists()


def test_a_random_study_that_was_kept_nowhere_does_not_go_on(door):
    kill_in_job(1, tiny(*OPTUNA, "hydra.sweeper.n_trials=2"))
    done = door(main, "resume=sweep")
    assert done.code == 2
    assert "hydra.sweeper.sampler.seed=0" in done.err


def test_a_worker_that_is_killed_does_not_end_the_sweep_of_joblib():
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    line = ["--config-dir", str(CONF), "+experiment=tiny", *JOBS, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    failing = ["seed=0,1,2", "model.fail_with=killed_once", "model.fail_at_step=1"]
    command = [sys.executable, "-m", "stablelit.train", *line, *failing]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "killed from outside" in done.stderr
    assert [row["status"] for row in rows()] == ["finished"] * 3
    assert "[job 2] " in done.stdout
