"""Sweeps that are killed, interrupted or fail in part, and go on."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import pytest

from stablelit.train import main

from .conftest import tiny
from .tiny import TinyVAE

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::stablelit.findings.FindingWarning")]

SWEEP = Path("sweep")
LINE = ["-m", "hydra.sweep.dir=sweep", "trainer.max_epochs=2", "model_summary=null", "logger=none"]


def rows() -> list[dict[str, str]]:
    with (SWEEP / "summary.csv").open() as file:
        return list(csv.DictReader(file))


def statuses() -> list[str]:
    return [row["status"] for row in rows()]


def killed(*argv: str) -> int:
    """The signal that ended the door in a process of its own, where a module that fails kills."""
    child = os.fork()
    if child == 0:
        try:
            TinyVAE._fail = lambda self, how, loss: os.kill(os.getpid(), signal.SIGKILL)
            main(list(argv))
        finally:
            os._exit(1)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


def test_a_sweep_that_was_killed_goes_on_in_the_middle_of_a_job_and_skips_what_is_done(door, monkeypatch):
    line = tiny(*LINE, "model.latent_dim=2,3", "seed=0,1", "model.fail_at_step=3")
    whole = door(main, *[w.replace("=sweep", "=whole") for w in line])
    assert whole.code == 0, whole.err

    # the third of four jobs is killed in its second epoch
    steps = iter(range(100))
    monkeypatch.setattr(TinyVAE, "_fail", None)
    original = TinyVAE.training_step

    def step(self, batch, batch_idx):
        if next(steps) == 2 * 4 + 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, batch, batch_idx)

    child = os.fork()
    if child == 0:
        try:
            TinyVAE.training_step = step
            main(line)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert statuses() == ["finished", "finished", "not started", "not started"]
    before = [(SWEEP / n / "summary.json").read_text() for n in "01"]

    done = door(main, "resume=sweep")
    assert done.code == 0, done.err
    assert "job 0: done already" in done.out
    assert "job 2: goes on from" in done.out
    assert statuses() == ["finished"] * 4
    assert [(SWEEP / n / "summary.json").read_text() for n in "01"] == before
    for number in "0123":
        there, here = (json.loads((Path(d) / number / "summary.json").read_text()) for d in ("whole", "sweep"))
        assert there["objective"] == here["objective"]
        assert there["test"] == here["test"]


def test_a_job_that_was_killed_after_its_last_epoch_is_tested_and_summed_up(door):
    line = tiny(*LINE, "seed=0,1")
    assert door(main, *line).code == 0
    whole = json.loads((SWEEP / "1/summary.json").read_text())
    (SWEEP / "1/summary.json").unlink()
    done = door(main, "resume=sweep")
    assert done.code == 0, done.err
    again = json.loads((SWEEP / "1/summary.json").read_text())
    assert again["objective"] == whole["objective"]
    # its test draws at random, and how training ended is not where it draws on
    assert again["test"].keys() == whole["test"].keys()


def test_a_job_that_was_killed_before_its_first_checkpoint_begins_anew(door):
    assert door(main, *tiny(*LINE, "seed=0,1")).code == 0
    (SWEEP / "1/summary.json").unlink()
    for path in (SWEEP / "1/checkpoints").iterdir():
        path.unlink()
    done = door(main, "resume=sweep")
    assert done.code == 0, done.err
    assert "job 1: was ended before its first checkpoint" in done.out
    assert statuses() == ["finished"] * 2


@pytest.mark.parametrize("at_step", [1, 3])
def test_an_interrupt_ends_the_sweep_and_not_only_its_job(door, at_step):
    # the last step of a job is step 3: the job is over all the same
    line = tiny(*LINE, "model.fail_with=ctrl_c,null", f"model.fail_at_step={at_step}")
    done = door(main, *line)
    assert done.code == 130
    assert statuses() == ["interrupted" if at_step == 1 else "finished", "not started"]
    assert "python -m stablelit.train resume=sweep" in done.out


def test_a_job_that_was_terminated_in_its_last_epoch_is_tested_when_the_sweep_goes_on(door):
    done = door(main, *tiny(*LINE, "model.fail_with=sigterm,null", "model.fail_at_step=3"))
    assert done.code == 143
    assert "all that was to be trained is in sweep/0/checkpoints/last.ckpt" in done.err
    assert statuses() == ["interrupted", "not started"]
    trained = (SWEEP / "0/history.jsonl").read_text()
    # a job that would train on would be terminated again
    again = door(main, "resume=sweep")
    assert again.code == 0, again.err
    assert statuses() == ["finished"] * 2
    assert (SWEEP / "0/history.jsonl").read_text() == trained
    tested = [json.loads((SWEEP / n / "summary.json").read_text())["test"] for n in "01"]
    assert tested[0].keys() == tested[1].keys() == {"test/loss", "test/loss_floor", "test/kl"}


def test_jobs_that_fail_are_noted_and_run_again_only_if_asked(door, monkeypatch):
    line = tiny(*LINE, "model.fail_with=other,null,infinity")
    done = door(main, *line)
    assert done.code == 1
    assert statuses() == ["failed", "finished", "diverged"]
    assert "a defect" in rows()[0]["reason"]
    assert "retry_failed=true" in done.err
    again = door(main, "resume=sweep")
    assert again.code == 1
    assert "job 0: failed before; it counts as inf" in again.out
    monkeypatch.setattr(TinyVAE, "_fail", lambda self, how, loss: loss)
    mended = door(main, "resume=sweep", "retry_failed=true")
    assert mended.code == 0, mended.err
    assert statuses() == ["finished"] * 3


def test_data_that_fail_in_the_middle_end_one_job(door, monkeypatch):
    from .tiny import TinyDataModule

    original = TinyDataModule.train_dataloader

    def vanished(self):
        if self.seed == 1:
            raise FileNotFoundError("points.csv")
        return original(self)

    monkeypatch.setattr(TinyDataModule, "train_dataloader", vanished)
    done = door(main, *tiny(*LINE, "seed=0,1,2"))
    assert done.code == 1
    assert statuses() == ["finished", "failed", "finished"]


def test_an_objective_that_nobody_logs_ends_the_sweep_with_its_first_job(door):
    done = door(main, *tiny(*LINE, "seed=0,1", "objective.metric=val/los"))
    assert done.code == 2
    assert "Did you mean 'val/loss'" in done.err
    assert statuses() == ["failed", "not started"]


def test_another_grid_in_the_same_directory_is_told_and_more_seeds_are_not(door):
    assert door(main, *tiny(*LINE, "seed=0,1")).code == 0
    other = door(main, *tiny(*LINE, "seed=1,2"))
    assert other.code == 2
    assert "job 0 was seed=0, and would be seed=1" in other.err
    more = door(main, *tiny(*LINE, "seed=0,1,2"))
    assert more.code == 0, more.err
    assert more.out.count("done already") == 2
    assert statuses() == ["finished"] * 3
