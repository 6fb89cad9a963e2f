"""Runs that meet a full disk, a right that is missing, a reader that has gone: through the real door, in a child."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stablelit.train import main
from tests.run.conftest import tiny
from tests.run.misfortune import (
    Ended,
    disk_full_inside,
    fill_the_disk,
    in_child,
    obey_permissions,
    when_step,
)

# what is told as a warning is an error in the other tests
pytestmark = pytest.mark.filterwarnings("default::stablelit.lost_reports.LostReportWarning")


def train(befalls: Callable[[], Any], *argv: str, **child: Any) -> tuple[Ended, Path]:
    """Trains the tiny experiment in a child that something befalls first; also where its run lies."""

    def work() -> int:
        befalls()
        return main(tiny("run_dir=run", *argv))

    return in_child(work, **child), Path("run")


def steps_of(checkpoint: Path) -> int:
    return torch.load(checkpoint, weights_only=True)["global_step"]


def full_for_every_report() -> None:
    """The disk is full for whatever only reports."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    import stablelit.findings
    import stablelit.run.conclude
    from stablelit.callbacks import HistoryWriter

    disk_full_inside(HistoryWriter, "_write")
    disk_full_inside(RecordWriter, "write", lambda n: n >= 3)
    disk_full_inside(stablelit.findings, "append_finding")
    disk_full_inside(stablelit.run.conclude, "write_summary")


def test_reports_that_cannot_be_written_cost_no_training():
    done, run = train(full_for_every_report)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    for owner in ("HistoryWriter", "TensorBoardLogger", "train"):
        assert sum(line.startswith(f"{owner}: ") for line in done.err.splitlines()) == 1, "told once"
    assert "lost: history.jsonl of HistoryWriter: 3 writings lost (File too large)" in done.out
    assert not (run / "history.jsonl").exists() or not (run / "history.jsonl").read_text()
    assert not (run / "summary.json").exists()
    assert steps_of(run / "checkpoints/last.ckpt") == 6


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_the_run_with_one_error_and_the_checkpoint_before():
    done, run = train(lambda: when_step(3, lambda module: fill_the_disk()))
    assert done.code == 1
    assert "Traceback" not in done.err
    assert "checkpoint" in done.err
    assert "File too large" in done.err
    assert done.err.rstrip().endswith("resume=run")
    assert steps_of(run / "checkpoints/last.ckpt") == 2
    assert not list((run / "checkpoints").glob("*.part")), "half of a file is left"
    resumed = in_child(lambda: main(["resume=run"]))
    assert resumed.code == 0, resumed.err
    assert json.loads((run / "summary.json").read_text())["epochs"] == 3
    assert [json.loads(line)["epoch"] for line in (run / "history.jsonl").read_text().splitlines()] == [0, 1, 2]


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_start_is_told_before_anything_is_trained():
    done = in_child(lambda: (fill_the_disk(), main(tiny()))[1])
    assert done.code == 2
    assert done.err.startswith("ConfigurationError: The run cannot be kept at ")
    assert "File too large" in done.err
    assert "runs=DIR" in done.err
    assert "Traceback" not in done.err
    assert not list(Path("runs").rglob("*.yaml"))


@pytest.mark.slow
def test_a_reader_that_has_gone_ends_no_training():
    read, write = os.pipe()
    os.close(read)
    done, run = train(lambda: None, stdout=write)
    os.close(write)
    assert done.code == 0, done.err
    assert "Standard output could not be written (Broken pipe)" in done.err
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"


def close_standard_output() -> None:
    import sys

    os.close(1)
    os.close(0)
    sys.stdout = sys.stdin = None  # type: ignore[assignment] - as Python itself begins then


def take_the_run_away(module: Any) -> None:
    shutil.rmtree(module.trainer.default_root_dir)


def only_read(module: Any, also_checkpoints: bool) -> None:
    run = Path(module.trainer.default_root_dir)
    for path in [*run.glob("*"), run / "checkpoints"] if also_checkpoints else run.glob("*"):
        if path.is_file() or also_checkpoints:
            path.chmod(0o555)
    run.chmod(0o555)


@pytest.mark.slow
def test_standard_output_that_is_closed_from_the_start_ends_no_training():
    done, run = train(close_standard_output)
    assert done.code == 0, done.err
    # the descriptors of closed streams are not given to files, which would then hold what is printed
    assert steps_of(run / "checkpoints/last.ckpt") == 6
    assert [json.loads(line)["epoch"] for line in (run / "history.jsonl").read_text().splitlines()] == [0, 1, 2]


@pytest.mark.slow
def test_a_run_directory_that_is_taken_away_is_made_again_and_can_be_resumed():
    done, run = train(lambda: when_step(3, take_the_run_away))
    assert done.code == 0, done.err
    assert steps_of(run / "checkpoints/last.ckpt") == 6
    assert {"config.yaml", "overrides.yaml", "summary.json"} <= {path.name for path in run.iterdir()}
    resumed = in_child(lambda: main(["resume=run", "trainer.max_epochs=4"]))
    assert resumed.code == 0, resumed.err


@pytest.mark.slow
def test_reports_that_turn_read_only_cost_no_training():
    done, run = train(lambda: (obey_permissions(), when_step(3, lambda m: only_read(m, also_checkpoints=False))))
    run.chmod(0o755)
    assert done.code == 0, done.err
    assert "Permission denied" in done.err
    assert "Traceback" not in done.err
    assert steps_of(run / "checkpoints/last.ckpt") == 6


@pytest.mark.slow
def test_a_run_that_turns_read_only_ends_with_one_error():
    done, run = train(lambda: (obey_permissions(), when_step(3, lambda m: only_read(m, also_checkpoints=True))))
    run.chmod(0o755)
    assert done.code == 1
    assert "Traceback" not in done.err
    assert "checkpoint" in done.err
    assert "Permission denied" in done.err
    assert steps_of(run / "checkpoints/last.ckpt") == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["a b/läuft/π/it's/a=b,c", "new\nline/[x]{y}/back\\"], ids=["letters and marks", "what a shell expands"]
)
def test_a_run_may_lie_anywhere(name):
    from stablelit.run.command_line import quoted

    begun = in_child(lambda: main(tiny(f"run_dir={quoted(name)}", "trainer.max_epochs=1")))
    assert begun.code == 0, begun.err
    resumed = in_child(lambda: main([f"resume={name}", "trainer.max_epochs=2"]))
    assert resumed.code == 0, resumed.err
    assert json.loads((Path(name) / "summary.json").read_text())["epochs"] == 2
    again = in_child(
        lambda: main(["--config-dir", str(Path(name).absolute()), "--config-name", "config", "run_dir=again"])
    )
    assert again.code == 0, again.err


@pytest.mark.slow
def test_a_terminal_without_letters_and_width_shows_what_it_can(monkeypatch):
    import sys

    def ascii_alone() -> None:
        os.environ.update(COLUMNS="0", LINES="0")
        for number, stream in ((1, "stdout"), (2, "stderr")):
            setattr(sys, stream, open(number, "w", encoding="ascii", closefd=False))  # noqa: SIM115

    done = in_child(lambda: (ascii_alone(), main(tiny("run_dir=läuft")))[1])
    assert done.code == 0, done.err
    assert "test/loss" in done.out
    assert "l\\xe4uft" in done.out
