"""Ranks in other processes: what they saw is what the waiting process tells, and each draws numbers of its own."""

from __future__ import annotations

import json
import random
import time
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from stablelit.run.build import build_trainer
from stablelit.run.rank_randomness import RankRandomness

pytestmark = pytest.mark.filterwarnings("ignore")


def drawn_on(rank):
    pl.seed_everything(5, verbose=False)
    RankRandomness().on_train_start(SimpleNamespace(global_rank=rank), None)
    return torch.rand(()).item(), random.random(), float(np.random.rand())  # noqa: NPY002


def test_every_rank_draws_numbers_of_its_own_and_the_first_those_of_one_process():
    pl.seed_everything(5, verbose=False)
    alone = torch.rand(()).item(), random.random(), float(np.random.rand())  # noqa: NPY002
    of_ranks = [drawn_on(rank) for rank in range(3)]
    assert of_ranks[0] == alone
    for draws in zip(*of_ranks, strict=True):
        assert len(set(draws)) == 3
    assert drawn_on(2) == of_ranks[2]


def drawn_in_a_test_on(rank, training_draws):
    pl.seed_everything(5, verbose=False)
    own, where = RankRandomness(), SimpleNamespace(global_rank=rank)
    own.on_train_start(where, None)
    torch.rand(training_draws)
    own.setup(where, None, "test")
    return torch.rand(()).item(), random.random(), float(np.random.rand())  # noqa: NPY002


def test_what_a_test_draws_does_not_depend_on_how_much_was_trained_before():
    for rank in range(3):
        assert drawn_in_a_test_on(rank, 0) == drawn_in_a_test_on(rank, 7)
    for draws in zip(*(drawn_in_a_test_on(rank, 0) for rank in range(3)), strict=True):
        assert len(set(draws)) == 3


@pytest.mark.slow
def test_states_of_a_resumed_run_are_put_back_after_ranks_are_seeded(composed, tmp_path):
    trainer = build_trainer(composed("logger=none", f"run_dir={tmp_path}"), tmp_path, [])
    kinds = [type(callback).__name__ for callback in trainer.callbacks]
    assert kinds.index("RankRandomness") < kinds.index("RandomStateCheckpoint")


@pytest.mark.slow
def test_the_summary_and_the_doctor_of_forked_ranks_know_of_their_steps(train):
    done = train("trainer=ddp_cpu", "trainer.max_epochs=2", "data.batch_size=4", "test=true")
    assert done.code == 0, done.err
    summary = done.summary
    # 32 samples on two ranks in batches of 4
    assert (summary["epochs"], summary["steps"]) == (2, 8)
    assert "after 8 steps" in done.out
    assert "after 0 steps" not in done.out
    history = [json.loads(line) for line in (done.run_dir / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in history] == [0, 1]
    assert len(done.runs) == 1
    again = train(f"resume={done.run_dir}", "trainer.max_epochs=3")
    assert again.code == 0, again.err
    assert (again.summary["epochs"], again.summary["steps"]) == (3, 12)
    assert len(again.runs) == 1


@pytest.mark.slow
def test_an_error_on_one_rank_ends_both_and_is_told_once(train):
    done = train("trainer=ddp_cpu", "model.fail_with=nan_error", "model.fail_at_step=2", "data.batch_size=4")
    assert done.code != 0
    assert done.summary["status"] == "diverged"
    assert done.err.count("Expected parameter loc") == 1
    assert "Traceback" not in done.err


@pytest.mark.slow
@pytest.mark.parametrize(("how", "told"), [("rank_exits", "ended with exit code 3"), ("rank_is_killed", "SIGKILL")])
def test_a_rank_that_is_gone_ends_the_others_with_one_sentence_and_the_run_can_go_on(how, told, train):
    settings = ["trainer=ddp_cpu", "data.batch_size=4", "trainer.max_epochs=3"]
    began = time.monotonic()
    done = train(*settings, f"model.fail_with={how}", "model.fail_at_step=6")
    assert time.monotonic() - began < 120  # the ranks would wait for each other for half an hour
    assert done.code == 1
    # whichever of the two the launcher saw first
    assert f"Rank 1 {told}" in done.err.replace("was killed (", "") or "A rank is gone" in done.err
    assert "trainer.devices" in done.err
    assert "Traceback" not in done.err
    assert done.summary["status"] == "failed"
    again = train(f"resume={done.run_dir}", "model.fail_with=null")
    assert again.code == 0, again.err
    assert again.summary["epochs"] == 3
