"""A callback that is resumed with another setting works with that one, and goes on with what it had kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import stablelit.callbacks as suite
from stablelit.doctor import TrainingDoctor
from stablelit.functional.plateau_gate import PlateauGate
from tests.contract.modules import NAMES, make_module, make_trainer, save_at_class, train_loader, val_loader

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
# of 18 steps in three epochs; inside the second
STOPPED_AT, STEPS = 8, 18


@dataclass
class Resumed:
    """What a run has come to that was resumed with another setting."""

    callback: Any
    module: Any
    saved: dict[str, Any]
    lines: list[tuple[int, dict[str, float]]]
    files: list[str]

    def logged(self, name: str) -> list[float]:
        return [line[name] for _, line in self.lines if name in line]

    def steps(self, name: str) -> list[int]:
        return [step for step, line in self.lines if name in line]


def the_longer_share(run: Resumed) -> bool:
    # 0.5dur of 18 steps came to 9, 1dur comes to 18: before the last step 17 of them are over
    return float(run.module.other_weight) == pytest.approx(2.0 * 17 / 18)


def a_shorter_memory(run: Resumed) -> bool:
    steps = [state["latest_update_step"] for state in (run.saved, run.callback.state_dict())]
    return steps == [STOPPED_AT, STEPS] and run.callback._decay.decay == 0.5


CASES: dict[str, tuple[Callable[[], Any], Callable[[], Any], Callable[[Resumed], bool]]] = {
    "scalar_schedule_end": (
        lambda: suite.ScalarSchedule("other_weight", 0.0, 2.0, duration="0.5dur"),
        lambda: suite.ScalarSchedule("other_weight", 0.0, 4.0, duration="0.5dur"),
        lambda run: float(run.module.other_weight) == 4.0,
    ),
    "scalar_schedule_share_of_the_run": (
        lambda: suite.ScalarSchedule("other_weight", 0.0, 2.0, duration="0.5dur"),
        lambda: suite.ScalarSchedule("other_weight", 0.0, 2.0, duration="1dur"),
        the_longer_share,
    ),
    "kl_cap_weight": (
        lambda: suite.KLCapCallback(mode="weight", warmup=4, max_weight=0.3),
        lambda: suite.KLCapCallback(mode="weight", warmup=4, max_weight=0.1),
        lambda run: max(run.logged("kl/weight")) == pytest.approx(0.1),
    ),
    "kl_cap_target": (
        lambda: suite.KLCapCallback(kl_target=1.0),
        lambda: suite.KLCapCallback(kl_target=2.0),
        lambda run: set(run.logged("kl/target")) == {2.0} and run.logged("kl/weight")[0] < run.saved["weight"],
    ),
    "kl_cap_target_with_a_lower_cap": (
        lambda: suite.KLCapCallback(kl_target=0.01, max_weight=40.0),
        lambda: suite.KLCapCallback(kl_target=0.01, max_weight=0.5),
        lambda run: run.saved["weight"] > 0.5 and max(run.logged("kl/weight")) <= 0.5,
    ),
    "kl_cap_another_mode": (
        lambda: suite.KLCapCallback(kl_target=1.0, warmup=4),
        lambda: suite.KLCapCallback(kl_target=1.0, mode="hinge", base_weight=0.25, warmup=4),
        lambda run: 0.25 <= run.logged("kl/weight")[0] < 1.0 and run.saved["integral"] != run.callback._state.integral,
    ),
    "kl_cap_free_bits": (
        lambda: suite.KLCapCallback(mode="free_bits", free_bits=0.1),
        lambda: suite.KLCapCallback(mode="free_bits", free_bits=0.9),
        lambda run: run.callback._free_bits.free_bits == 0.9,
    ),
    "curriculum_end": (
        lambda: suite.CurriculumCallback("linear", end=0.5, duration=4),
        lambda: suite.CurriculumCallback("linear", end=0.75, duration=4),
        lambda run: set(run.logged("curriculum/difficulty")) == {0.75},
    ),
    "curriculum_gate_on_another_metric": (
        lambda: suite.CurriculumCallback(duration=4, gate=PlateauGate("val/loss", patience=1, max_hold=9)),
        lambda: suite.CurriculumCallback(duration=4, gate=PlateauGate("val/weight", patience=1, max_hold=9)),
        # the KL's weight is 1 throughout, and the loss was above it
        lambda run: run.callback.clock.state.best == 1.0,
    ),
    "contrastive_health": (
        lambda: suite.ContrastiveHealthMonitor(every_n_steps=3, rank_rows=64, warmup_steps=0, patience_steps=3),
        lambda: suite.ContrastiveHealthMonitor(every_n_steps=1, rank_rows=64, warmup_steps=0, patience_steps=3),
        lambda run: len(run.steps("ssl/std_ratio")) >= STEPS - STOPPED_AT - 1,
    ),
    "gradient_reach_check": (
        lambda: suite.GradientReachCheck({"kl": "encoder"}),
        lambda: suite.GradientReachCheck({"recon": ["encoder", "decoder"]}),
        lambda run: run.saved["done"] and {line.component for line in run.callback.table} == {"recon"},
    ),
    "non_finite_guard": (
        lambda: suite.NonFiniteGuard("skip"),
        lambda: suite.NonFiniteGuard("rollback", every="2st"),
        lambda run: "rollback" in repr(run.callback) and run.callback._rollbacks.count == 0,
    ),
    "online_knn": (
        lambda: suite.OnlineKNN(k=5, bank_rows=20),
        lambda: suite.OnlineKNN(k=3, bank_rows=12),
        lambda run: len(run.saved["bank"]["rows"]) == 20 and len(run.callback.state_dict()["bank"]["rows"]) == 12,
    ),
    "online_linear_probe": (
        lambda: suite.OnlineLinearProbe(n_classes=2),
        lambda: suite.OnlineLinearProbe(n_classes=2, lr=0.5),
        lambda run: (
            run.callback.state_dict()["head"]["optimizer"]["param_groups"][0]["lr"] == 0.5
            and int(run.callback.state_dict()["head"]["seen"].sum()) == STEPS * 8
        ),
    ),
    "posterior_monitor": (
        lambda: suite.PosteriorMonitor(gradient_every=2),
        lambda: suite.PosteriorMonitor(gradient_every=1),
        lambda run: len(run.callback.state_dict()["history"]) == 3,
    ),
    "ema_decay": (
        lambda: suite.EMACallback(0.99, warm_up=False),
        lambda: suite.EMACallback(0.5, warm_up=False),
        a_shorter_memory,
    ),
    "ema_share_of_the_run": (
        lambda: suite.EMACallback(half_life="0.2dur"),
        lambda: suite.EMACallback(half_life="0.5dur"),
        lambda run: run.callback._decay.decay == pytest.approx(2 ** (-1 / 9)),
    ),
    "grad_clip_monitor": (
        lambda: suite.GradClipMonitor("module", components_every_n_steps=0, capacity=64),
        lambda: suite.GradClipMonitor("module", components_every_n_steps=0, capacity=4),
        lambda run: len(run.callback.state_dict()["run"]["0"]["buckets"]["step"]) == STEPS,
    ),
    "adaptive_grad_clip": (
        lambda: suite.AdaptiveGradClip("zclip", warmup_steps=3),
        lambda: suite.AdaptiveGradClip("zclip", warmup_steps=4, alpha=0.5),
        lambda run: run.callback.alpha == 0.5 and float(run.callback._states[0].flatten()[0]) != 0.0,
    ),
    "sample_writer": (
        lambda: suite.SampleWriter(every="7st", n=3, suffix=".pt"),
        lambda: suite.SampleWriter(every="2st", n=3, suffix=".pt"),
        lambda run: {f"{step}" for step in (10, 12, 14, 16, 18)} <= numbers_in(run.files, "samples"),
    ),
    "step_checkpoint": (
        lambda: suite.StepCheckpoint([3, "0.5dur"]),
        lambda: suite.StepCheckpoint([3, 11, "0.75dur"]),
        lambda run: (
            [f for f in run.files if f.endswith(".ckpt")] == ["checkpoints/step_11.ckpt", "checkpoints/step_14.ckpt"]
        ),
    ),
    "threshold_sweep": (
        lambda: suite.ThresholdSweepValidation(kind="samples", select="f1"),
        lambda: suite.ThresholdSweepValidation(kind="samples", select="youden"),
        lambda run: bool(run.saved["thresholds"]) and "youden" in repr(run.callback),
    ),
    "training_doctor": (
        lambda: TrainingDoctor(every_n_steps=1000),
        lambda: TrainingDoctor(every_n_steps=1),
        lambda run: run.callback.state_dict()["examination"]["clock"]["look"] == STEPS,
    ),
    "figure_writer": (
        lambda: suite.FigureWriter(curves={"loss": [["val/loss"]]}, module_figures=False),
        lambda: suite.FigureWriter(curves={"loss": [["val/loss"], ["train_kl"]]}, module_figures=False),
        lambda run: (
            [[math.isnan(value) for value in point] for point in run.callback.state_dict()["points"][:1]]
            == [[False, True, False]]
            and [point[0] for point in run.callback.state_dict()["points"]] == [6.0, 12.0, 18.0]
        ),
    ),
}


def numbers_in(files: list[str], folder: str) -> set[str]:
    return {"".join(c for c in Path(f).stem if c.isdigit()).lstrip("0") for f in files if folder in f}


@pytest.mark.parametrize("case", CASES)
def test_the_new_setting_is_in_force_and_its_history_is_kept(case, tmp_path):
    before, after, holds = CASES[case]
    checkpoint = tmp_path / "stopped.ckpt"
    first, resumed = before(), after()
    assert first.state_key == resumed.state_key
    exact = [suite.RandomStateCheckpoint(), suite.EpochMeanCheckpoint()]
    trainer = make_trainer(
        tmp_path / "first", [first, *exact, save_at_class(NAMES[0])(STOPPED_AT, checkpoint)], enable_checkpointing=True
    )
    trainer.fit(make_module(), train_loader(), val_loader())
    exact = [suite.RandomStateCheckpoint(), suite.EpochMeanCheckpoint()]
    trainer = make_trainer(tmp_path / "resumed", [resumed, *exact])
    trainer.fit(module := make_module(seed=99), train_loader(), val_loader(), ckpt_path=str(checkpoint))
    saved = torch.load(checkpoint, weights_only=True)["callbacks"][first.state_key]
    files = sorted(str(f.relative_to(tmp_path / "resumed")) for f in (tmp_path / "resumed").rglob("*") if f.is_file())
    assert trainer.global_step == STEPS
    assert holds(Resumed(resumed, module, saved, trainer.logger.lines, files)), (saved, trainer.logger.lines, files)
