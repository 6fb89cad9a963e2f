"""A run of which files are damaged goes on from what is whole, and says from what."""

from __future__ import annotations

import importlib
import json
import os
import shutil

import pytest
import torch

from stablelit.data.checkpoint_files import step_of
from stablelit.run.resumable import checkpoint_to_resume

LAST, BEST, PREVIOUS = "checkpoints/last.ckpt", "checkpoints/best.ckpt", "checkpoints/previous.ckpt"
# of the tiny experiment: 32 samples, batches of 16
STEPS = 2


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE = {
    "cut by a byte": lambda content: content[:-1],
    "cut in the middle": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "a flipped bit": flipped,
    "garbage": lambda content: bytes(range(256)) * 40,
}


@pytest.fixture
def three_epochs(trained):
    """Its best checkpoint is its first: of a loss that falls, the most is asked for."""
    return trained("lr_schedule=none", "trainer.max_epochs=3", "objective.mode=max", "test=false")


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_last_checkpoint_is_told_and_the_one_before_it_is_taken(damage, train, three_epochs):
    run = three_epochs.run_dir
    whole = (run / "history.jsonl").read_text().splitlines()
    (run / LAST).write_bytes(damage((run / LAST).read_bytes()))
    done = train(f"resume={run}", "trainer.max_epochs=3")
    assert done.code == 0, done.err
    assert "last.ckpt: it is damaged" in done.err
    assert f"Going on from {run.relative_to(run.parents[2])}/{PREVIOUS} instead: optimizer step {2 * STEPS}" in done.err
    assert f"the run had come to step {3 * STEPS}, so {STEPS} steps are trained again" in done.err
    again = (run / "history.jsonl").read_text().splitlines()
    assert [_measured(line) for line in again] == [_measured(line) for line in whole], "and to the same end"
    assert step_of(run / LAST) == 3 * STEPS


def _measured(line):
    return {k: v for k, v in json.loads(line).items() if k.startswith(("val/", "train/", "epoch", "step", "lr"))}


@pytest.mark.slow
def test_the_history_is_cut_back_to_what_is_gone_on_from(train, three_epochs):
    run = three_epochs.run_dir
    for name in (LAST, PREVIOUS):
        (run / name).write_bytes(b"")
    done = train(f"resume={run}", "trainer.max_epochs=2")
    assert done.code == 0, done.err
    assert f"{BEST} instead: optimizer step {STEPS}" in done.err
    assert f"so {2 * STEPS} steps are trained again" in done.err
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in history] == [0, 1]


def write(path, step, minutes):
    """A checkpoint with nothing in it, as old as that."""
    path.parent.mkdir(exist_ok=True)
    parts = ("state_dict", "loops", "optimizer_states", "lr_schedulers", "callbacks")
    torch.save({**{key: {} for key in parts}, "global_step": step}, path)
    then = 1_700_000_000 + 60 * minutes
    os.utime(path, (then, then))


def test_what_was_written_before_the_run_went_back_is_no_way_on(tmp_path, capsys):
    """Trained to 900, gone on from 500 with another rate, killed at 600."""
    write(tmp_path / BEST, 900, minutes=9)
    write(tmp_path / "hpc_ckpt_1.ckpt", 800, minutes=8)
    write(tmp_path / "checkpoints/step_500.ckpt", 500, minutes=5)
    write(tmp_path / PREVIOUS, 550, minutes=12)
    write(tmp_path / LAST, 600, minutes=13)
    assert checkpoint_to_resume(tmp_path) == tmp_path / LAST
    (tmp_path / LAST).write_bytes(b"half")
    assert checkpoint_to_resume(tmp_path) == tmp_path / PREVIOUS
    said = capsys.readouterr().err
    assert "best.ckpt: of a part of the run that it has gone back from; left out" in said
    assert "hpc_ckpt_1.ckpt: of a part" in said
    for damaged in (PREVIOUS, "checkpoints/step_500.ckpt"):
        (tmp_path / damaged).write_bytes(b"half")
    # better than nothing, and it says how far it is
    assert checkpoint_to_resume(tmp_path) == tmp_path / BEST
    assert "optimizer step 900" in capsys.readouterr().err


def test_what_a_requeue_has_saved_is_taken_where_the_run_did_not_go_back(tmp_path):
    write(tmp_path / LAST, 600, minutes=6)
    write(tmp_path / "hpc_ckpt_1.ckpt", 650, minutes=7)
    assert checkpoint_to_resume(tmp_path) == tmp_path / "hpc_ckpt_1.ckpt"


@pytest.mark.slow
def test_without_a_last_checkpoint_the_furthest_is_taken_and_that_is_said(train, three_epochs):
    run = three_epochs.run_dir
    (run / LAST).unlink()
    done = train(f"resume={run}", "trainer.max_epochs=3")
    assert done.code == 0, done.err
    assert f"There is no {LAST}" in done.err
    assert f"{PREVIOUS} instead" in done.err


@pytest.mark.slow
def test_a_damaged_checkpoint_that_was_named_itself_is_refused_with_the_whole_ones(train, three_epochs):
    run = three_epochs.run_dir
    (run / LAST).write_bytes(flipped((run / LAST).read_bytes()))
    done = train(f"resume={run / LAST}", "trainer.max_epochs=4")
    assert done.code == 2
    assert "last.ckpt is damaged" in done.err
    assert f"{PREVIOUS} (optimizer step {2 * STEPS}), {run / BEST} (optimizer step {STEPS})" in done.err


def test_where_nothing_is_whole_every_file_is_told(train, three_epochs):
    run = three_epochs.run_dir
    for name in (LAST, PREVIOUS, BEST):
        (run / name).write_bytes(b"x")
    done = train(f"resume={run}", "trainer.max_epochs=4")
    assert done.code == 2
    for name in (LAST, PREVIOUS, BEST):
        assert f"{name}: it is damaged" in done.err


@pytest.mark.slow
def test_weights_alone_are_no_state_to_go_on_from(train, three_epochs):
    run = three_epochs.run_dir
    checkpoint = torch.load(run / LAST, weights_only=True)
    del checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
    torch.save(checkpoint, run / LAST)
    done = train(f"resume={run}", "trainer.max_epochs=3")
    assert done.code == 0, done.err
    assert "not the state of a training (optimizer_states, lr_schedulers missing)" in done.err
    torch.save(checkpoint, run / LAST)
    done = train(f"resume={run / LAST}", "trainer.max_epochs=4")
    assert done.code == 2
    assert f"weights={run / LAST}" in done.err


@pytest.mark.slow
def test_what_a_requeue_has_saved_is_taken_where_it_is_newer(three_epochs, capfd):
    run = three_epochs.run_dir
    capfd.readouterr()
    requeued = run / "hpc_ckpt_1.ckpt"
    shutil.copy(run / PREVIOUS, requeued)
    assert checkpoint_to_resume(run) == run / LAST
    assert capfd.readouterr().err == ""
    checkpoint = torch.load(run / LAST, weights_only=True)
    torch.save({**checkpoint, "global_step": 3 * STEPS + 1}, requeued)
    assert checkpoint_to_resume(run) == requeued
    assert "newer than last.ckpt" in capfd.readouterr().err
    requeued.write_bytes(requeued.read_bytes()[:-1])
    assert checkpoint_to_resume(run) == run / LAST


def test_a_run_that_was_ended_before_its_first_checkpoint_says_how_to_begin_again(train, three_epochs):
    run = three_epochs.run_dir
    shutil.rmtree(run / "checkpoints")
    done = train(f"resume={run}")
    assert done.code == 2
    assert f"before its first checkpoint. To begin it again: --config-dir {run} --config-name config" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("door", ["evaluate", "predict", "generate"])
def test_the_other_doors_refuse_a_damaged_checkpoint_and_name_the_whole_ones(door, three_epochs, capfd):
    run = three_epochs.run_dir
    (run / BEST).write_bytes(flipped((run / BEST).read_bytes()))
    main = importlib.import_module(f"stablelit.{door}").main
    assert main([f"run={run}", *([] if door == "evaluate" else ["output=x.pt"])]) == 2
    told = capfd.readouterr().err
    assert "best.ckpt is damaged" in told
    assert f"Whole beside it: {run / LAST} (optimizer step {3 * STEPS})" in told
