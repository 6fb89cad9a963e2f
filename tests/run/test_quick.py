from __future__ import annotations

import json
import math

import pytest

from stablelit.run.quick import judge

LIMITS = {"loss_falls_by": 0.0, "kl_at_least": 0.01, "kl_target_times": 1.25, "kl_per_dim_at_most": 6.0}


def epochs(losses, kl=5.0):
    return [{"val/loss": loss, "val/kl": kl} for loss in losses]


def verdict(*args, **kwargs) -> dict[str, bool | None]:
    return {j.question: j.passed for j in judge(*args, metric="val/loss", **kwargs)}


def test_a_loss_that_falls_passes_and_one_that_rises_does_not():
    assert verdict(epochs([3, 2, 1]), LIMITS)["val/loss fell"] is True
    assert verdict(epochs([1, 2, 3]), LIMITS)["val/loss fell"] is False
    assert verdict(epochs([1]), LIMITS)["val/loss fell"] is False


def test_a_score_must_rise():
    assert verdict(epochs([1, 2]), LIMITS, mode="max")["val/loss rose"] is True


@pytest.mark.parametrize(("first", "last", "passed"), [(10.0, 7.9, True), (10.0, 8.1, False), (-10.0, -12.1, True)])
def test_how_far_it_must_fall_is_a_share_of_its_first_size(first, last, passed):
    assert verdict(epochs([first, last]), {"loss_falls_by": 0.2})["val/loss fell"] is passed


@pytest.mark.parametrize(
    ("kl", "more", "passed"),
    [
        (0.005, {}, False),
        (9.9, {"kl_target": 8.0}, True),
        (10.1, {"kl_target": 8.0}, False),
        (11.9, {"latent_dim": 2}, True),
        (12.1, {"latent_dim": 2}, False),
        (1e6, {}, True),
        (math.nan, {}, False),
    ],
)
def test_the_kl_must_be_alive_and_in_bounds(kl, more, passed):
    assert verdict(epochs([2, 1], kl), LIMITS, **more)["val/kl in bounds"] is passed


def test_a_module_without_a_kl_is_not_judged_by_it():
    assert verdict([{"val/loss": 2.0}, {"val/loss": 1.0}], LIMITS)["KL in bounds"] is None


def test_what_is_not_finite_is_named():
    judged = judge([{"val/loss": 1.0, "grad/norm": math.inf}] * 2, {}, metric="val/loss")
    (found,) = [j for j in judged if j.question == "everything finite"]
    assert (found.passed, found.detail) == (False, "grad/norm")


@pytest.mark.slow
def test_debug_quick_wins_over_the_experiment_and_a_value_over_both(train):
    done = train("debug=quick", "optimizer.weight_decay=0")
    assert done.code == 0, done.out
    assert done.summary["epochs"] == 10
    assert "PASSED" in done.out
    assert train("debug=quick", "trainer.max_epochs=4").summary["epochs"] == 4


@pytest.mark.slow
def test_debug_quick_fails_with_exit_code_1(train):
    done = train("debug=quick", "model.learning_rate=1e-9", "trainer.max_epochs=2", "verdict.loss_falls_by=0.1")
    assert done.code == 1
    assert "FAILED" in done.out
    assert done.err.strip() == ""


@pytest.mark.slow
def test_a_failed_verdict_does_not_end_a_sweep(train):
    done = train("debug=quick", "-m", "model.learning_rate=1e-9,0.01", "trainer.max_epochs=2", "seed=0")
    assert done.code == 0
    assert done.out.count("test of the best") + done.out.count("best epoch") == 2


@pytest.mark.slow
def test_debug_overfit_learns_one_batch_by_heart(train):
    done = train("debug=overfit", "trainer.max_epochs=60")
    assert done.code == 0, done.out + done.err
    assert "train/loss fell" in done.out


@pytest.mark.slow
def test_debug_profile_leaves_a_trace_and_says_which_operations_cost_most(train):
    # eight batches to train on, more than are profiled
    done = train("debug=profile", "data.n=256")
    assert done.code == 0, done.err
    (trace,) = done.run_dir.glob("*training_step*.trace.json")
    named = {event.get("name", "") for event in json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]}
    assert {"aten::linear", "aten::randn_like"} <= named
    assert any("backward" in name.lower() for name in named)
    table = (done.run_dir / "fit-profile.txt").read_text(encoding="utf-8")
    assert "CPU total" in table
    assert "aten::linear" in table
    assert "training_step" in table
    assert json.loads((done.run_dir / "summary.json").read_text())["epochs"] == 1
