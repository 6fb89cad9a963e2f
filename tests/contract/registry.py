"""Every callback of the suite, with the arguments that it is tried with: a line here is a dozen tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import stablelit.callbacks as suite
from stablelit.doctor import TrainingDoctor
from stablelit.functional.plateau_gate import PlateauGate


@dataclass(frozen=True)
class Setting:
    """How to build a callback, a second one that may stand beside it, and a switch of the Trainer that it refuses."""

    make: Callable[[], Any]
    second: Callable[[], Any] | None = None
    refuses: str = ""


SETTINGS: dict[str, Setting] = {
    "scalar_schedule": Setting(
        lambda: suite.ScalarSchedule("other_weight", 0.0, 2.0, duration="0.5dur", shape="cosine"),
        lambda: suite.ScalarSchedule("temperature", 1.0, 0.1, duration=4),
    ),
    "kl_cap_weight": Setting(
        lambda: suite.KLCapCallback(mode="weight", warmup="0.5dur", max_weight=0.3, eval_weight=1.0),
        lambda: suite.KLCapCallback(kl="train_kl", target="other_weight", name="other", warmup="2ep"),
    ),
    "kl_cap_target": Setting(
        lambda: suite.KLCapCallback(kl_target=1.0, warmup=4),
        lambda: suite.KLCapCallback(kl_target=2.0, target="other_weight", name="other"),
    ),
    "kl_cap_capacity": Setting(lambda: suite.KLCapCallback(mode="capacity", kl_target=1.0, warmup="1ep")),
    "kl_cap_hinge": Setting(lambda: suite.KLCapCallback(mode="hinge", kl_target=0.1, kl="train_kl")),
    "kl_cap_free_bits": Setting(lambda: suite.KLCapCallback(mode="free_bits", free_bits=0.1, warmup=4)),
    "curriculum": Setting(
        lambda: suite.CurriculumCallback("cosine", duration="0.5dur", delay="0.1dur"),
        lambda: suite.CurriculumCallback("root", end=0.5, duration=4, targets="temperature", name="second"),
    ),
    "curriculum_gate": Setting(
        lambda: suite.CurriculumCallback(
            duration="1ep", gate=PlateauGate("val/loss", patience=1, max_hold=1), targets=["module", "other_weight"]
        ),
    ),
    "contrastive_health": Setting(
        lambda: suite.ContrastiveHealthMonitor(every_n_steps=3, rank_rows=64, warmup_steps=0, patience_steps=3),
        lambda: suite.ContrastiveHealthMonitor(projector="decoder", temperature=0.5, every_n_steps=4, name="second"),
    ),
    "gradient_reach_check": Setting(
        lambda: suite.GradientReachCheck({"recon": ["encoder", "decoder.weight"], "kl": "encoder"}, {"kl": "decoder"}),
        lambda: suite.GradientReachCheck({"loss": "decoder"}, name="second"),
    ),
    "history_writer": Setting(suite.HistoryWriter, lambda: suite.HistoryWriter("second")),
    "non_finite_guard_skip": Setting(suite.NonFiniteGuard),
    "non_finite_guard_stop": Setting(lambda: suite.NonFiniteGuard("stop")),
    "non_finite_guard_rollback": Setting(lambda: suite.NonFiniteGuard("rollback", every="4st")),
    "online_knn": Setting(
        lambda: suite.OnlineKNN(k=5, bank_rows=20),
        lambda: suite.OnlineKNN(k=3, name="second"),
    ),
    "online_linear_probe": Setting(
        lambda: suite.OnlineLinearProbe(n_classes=2),
        lambda: suite.OnlineLinearProbe(n_classes=3, lr=0.1, name="second"),
    ),
    "posterior_monitor": Setting(
        lambda: suite.PosteriorMonitor(gradient_every=2),
        lambda: suite.PosteriorMonitor(kl="train_kl", weight="other_weight", name="second"),
    ),
    "random_state": Setting(suite.RandomStateCheckpoint),
    "accumulation": Setting(suite.AccumulationCheckpoint),
    "durable_checkpoint": Setting(suite.DurableCheckpoint),
    "optimizer_settings": Setting(suite.OptimizerSettings),
    "edge_list_writer": Setting(suite.EdgeListWriter),
    "part_writer": Setting(suite.PartWriter, lambda: suite.PartWriter("decoder")),
    "ema": Setting(lambda: suite.EMACallback(half_life="0.2dur", delay="0.3dur", validate="both")),
    "ema_decay": Setting(lambda: suite.EMACallback(0.9, every=2, after_fit="raw")),
    "epoch_mean": Setting(suite.EpochMeanCheckpoint),
    "epoch_printer": Setting(lambda: suite.EpochPrinter(always=True)),
    "progress_bar": Setting(suite.StableProgressBar),
    "device_memory": Setting(suite.DeviceMemoryMonitor),
    "input_pipeline_monitor": Setting(suite.InputPipelineMonitor),
    "grad_clip_monitor": Setting(
        lambda: suite.GradClipMonitor("module", components_every_n_steps=0, min_steps=4),
        lambda: suite.GradClipMonitor(dead_parameters=False, capacity=4, name="second"),
    ),
    "adaptive_grad_clip": Setting(
        suite.AdaptiveGradClip,
        lambda: suite.AdaptiveGradClip("zclip", warmup_steps=4, name="second"),
        refuses="gradient_clip_val",
    ),
    "interrupt": Setting(suite.InterruptCheckpoint),
    "sample_writer": Setting(
        lambda: suite.SampleWriter(["0.2dur", 10, "2ep"], every="7st", n=3, suffix=".pt"),
        lambda: suite.SampleWriter(every="1ep", n=3, suffix=".pt", name="second"),
    ),
    "step_checkpoint": Setting(
        lambda: suite.StepCheckpoint([3, "0.5dur", 10, "2ep"]),
        lambda: suite.StepCheckpoint([4, "10ba"], name="second"),
    ),
    "shuffle_callback": Setting(suite.ShuffleCallback),
    "threshold_sweep": Setting(
        lambda: suite.ThresholdSweepValidation(kind="samples", patience=2),
        lambda: suite.ThresholdSweepValidation(select="shd", name="edges"),
    ),
    "training_doctor": Setting(
        lambda: TrainingDoctor(every_n_steps=1),
        lambda: TrainingDoctor("observe", every_n_steps=3, name="second"),
    ),
    "figure_writer": Setting(lambda: suite.FigureWriter(curves={"loss": [["train_kl", "val/loss"]]}, every_n_epochs=2)),
}
