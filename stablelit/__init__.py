"""Training runs that do not fail, and that say why when they do: callbacks, samplers and model families for Lightning.

>>> from stablelit import KLCapCallback
>>> KLCapCallback(kl="train_kl", mode="target", kl_target=20.0)  # doctest: +ELLIPSIS
KLCapCallback(...)
"""

from __future__ import annotations

from pathlib import Path

from stablelit.lazy_exports import lazy_exports

__version__ = "0.1.0"

# In a checkout `conf/` lies beside this package, in the wheel inside it: make `stablelit.conf` importable either way,
# because Hydra's `pkg://stablelit.conf` asks the import system for it.
_here = Path(__file__).resolve().parent
if not (_here / "conf").is_dir() and (_here.parent / "conf" / "train.yaml").is_file():
    __path__.append(str(_here.parent))

_names, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AccumulationCheckpoint": "callbacks.accumulation",
        "AdaptiveGradClip": "callbacks.adaptive_grad_clip",
        "ContrastiveHealthMonitor": "callbacks.contrastive_health",
        "CurriculumCallback": "callbacks.curriculum",
        "DeviceMemoryMonitor": "callbacks.device_memory",
        "DurableCheckpoint": "callbacks.durable_checkpoint",
        "EdgeListWriter": "callbacks.edge_list_writer",
        "EMACallback": "callbacks.ema",
        "EpochMeanCheckpoint": "callbacks.epoch_mean",
        "EpochPrinter": "callbacks.epoch_printer",
        "FigureWriter": "callbacks.figure_writer",
        "GradientReachCheck": "callbacks.gradient_reach_check",
        "GradClipMonitor": "callbacks.grad_clip_monitor",
        "HistoryWriter": "callbacks.history_writer",
        "InputPipelineMonitor": "callbacks.input_pipeline_monitor",
        "InterruptCheckpoint": "callbacks.interrupt",
        "KLCapCallback": "callbacks.kl_cap",
        "NonFiniteGuard": "callbacks.non_finite_guard",
        "OptimizerSettings": "callbacks.optimizer_settings",
        "PartWriter": "callbacks.part_writer",
        "OnlineKNN": "callbacks.online_knn",
        "OnlineLinearProbe": "callbacks.online_probe",
        "PlateauGate": "functional.plateau_gate",
        "PosteriorMonitor": "callbacks.posterior_monitor",
        "RandomStateCheckpoint": "callbacks.random_state",
        "SampleWriter": "callbacks.sample_writer",
        "ScalarSchedule": "callbacks.scalar_schedule",
        "StableProgressBar": "callbacks.progress_bar",
        "StepCheckpoint": "callbacks.step_checkpoint",
        "TrainingDoctor": "doctor.training_doctor",
        "EpisodicSampler": "data.episodes",
        "EvaluationBatches": "data.evaluation_batches",
        "LengthBucketBatchSampler": "data.buckets",
        "SharedLevel": "data.shared_level",
        "ShuffleCallback": "callbacks.shuffle_callback",
        "ShuffleDataLoader": "data.loader",
        "ShuffleSampler": "data.shuffle",
        "ThresholdSweepValidation": "callbacks.threshold_sweep",
        "shuffle_quality": "functional.shuffle_quality",
    },
)
__all__ = ["__version__", *_names]
