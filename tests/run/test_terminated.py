"""SIGTERM at the training door, wherever the run is: it ends with 143, and what was trained is kept."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from stablelit.run.terminated import ending_on_sigterm, telling_ranks, was_terminated
from tests.run import tiny


def terminate(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_in_training_saves_and_the_resume_is_the_run_that_was_not_ended(train, trained):
    quiet = ("lr_schedule=none", "trainer.max_epochs=2", "test=false")
    whole = trained(*quiet).summary
    ended = train(*quiet, "model.fail_with=sigterm", "model.fail_at_step=2")
    assert ended.code == 143
    assert ended.summary["status"] == "interrupted"
    assert "What was trained is in" in ended.err
    resumed = train(f"resume={ended.run_dir}", "model.fail_with=null")
    assert resumed.code == 0, resumed.err
    assert resumed.summary["final"] == whole["final"]
    assert resumed.summary["status"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["__init__", "prepare_data", "setup", "train_dataloader"])
def test_sigterm_before_the_first_step_leaves_nothing_to_go_on_from_and_says_so(method, train, monkeypatch):
    real = getattr(tiny.TinyDataModule, method)

    def ended(self, *args, **kwargs):
        terminate()
        return real(self, *args, **kwargs)

    monkeypatch.setattr(tiny.TinyDataModule, method, ended)
    done = train("trainer.max_epochs=1")
    assert done.code == 143
    assert ("nothing had been trained" if method == "__init__" else "no checkpoint had been written") in done.err
    assert "Traceback" not in done.err
    if method == "__init__":
        assert done.runs == [], "a directory in which nothing was trained is taken away"
    else:
        assert done.summary["status"] == "interrupted"


@pytest.mark.slow
def test_sigterm_in_the_test_keeps_the_training(train, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(tiny.TinyVAE, "test_step", terminate)
        done = train("trainer.max_epochs=1")
    assert done.code == 143
    assert done.summary["status"] == "interrupted"
    assert done.summary["checkpoints"]["last"] == "checkpoints/last.ckpt"
    assert f"resume={done.run_dir.relative_to(Path.cwd())}" in done.err
    tested = train(f"resume={done.run_dir}")
    assert tested.code == 0, tested.err
    assert "test/loss" in tested.summary["test"]


@pytest.mark.slow
def test_sigterm_in_the_last_step_of_all_leaves_the_test_to_a_resume(train):
    done = train("trainer.max_epochs=1", "model.fail_with=sigterm", "model.fail_at_step=1")
    assert done.code == 143
    assert done.summary["status"] == "interrupted"
    assert done.summary["test"] == {}
    history = (done.run_dir / "history.jsonl").read_text()
    tested = train(f"resume={done.run_dir}")
    assert tested.code == 0, tested.err
    assert tested.summary["status"] == "finished"
    assert "test/loss" in tested.summary["test"]
    assert (done.run_dir / "history.jsonl").read_text() == history


@pytest.mark.slow
def test_sigterm_in_the_last_step_of_all_ends_a_run_without_a_test(train):
    done = train("trainer.max_epochs=1", "model.fail_with=sigterm", "model.fail_at_step=1", "test=false")
    assert done.code == 0
    assert done.summary["status"] == "finished"


def test_the_signal_is_given_back_and_is_an_exit_code_inside():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left, ending_on_sigterm():
        terminate()
    assert was_terminated(left.value)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_process_that_waits_for_ranks_tells_them_and_goes_on_waiting():
    class Launcher:
        _start_method = "fork"
        killed = ()

        def kill(self, signum):
            self.killed = (*self.killed, signum)

    launcher = Launcher()
    trainer = type("Trainer", (), {"strategy": type("Strategy", (), {"launcher": launcher})})
    with ending_on_sigterm(), telling_ranks(trainer):
        terminate()
    assert launcher.killed == (signal.SIGTERM,)


@pytest.mark.parametrize(
    ("error", "was"),
    [
        (SystemExit(143), True),
        (SystemExit(1), False),
        (KeyboardInterrupt(), False),
        (None, False),
        (torch.multiprocessing.ProcessExitedException("process 1 terminated with exit code 143", 1, 1, 143), True),
        (torch.multiprocessing.ProcessExitedException("process 1 terminated with exit code 14", 1, 1, 14), False),
    ],
    ids=["143", "1", "ctrl-c", "none", "a rank", "a rank that failed"],
)
def test_what_ended_it_is_told_apart(error, was):
    assert was_terminated(error) is was


@pytest.mark.slow
def test_sigterm_to_the_process_that_waits_for_two_ranks(train):
    ranks = ("trainer.devices=2", "trainer.strategy=ddp_fork", "test=false", "model.fail_with=sigterm_to_parent")
    done = train(*ranks, "trainer.max_epochs=60", "model.fail_at_step=3")
    assert done.code == 143, done.err
    assert done.summary["status"] == "interrupted"
    assert (done.run_dir / "checkpoints/last.ckpt").is_file()
    # how far a rank comes before it hears of the signal depends on the machine
    epochs = torch.load(done.run_dir / "checkpoints/last.ckpt", weights_only=True)["epoch"] + 2
    resumed = train(f"resume={done.run_dir}", "model.fail_with=null", f"trainer.max_epochs={epochs}")
    assert resumed.code == 0, resumed.err
