"""The reusable suite: callbacks for anybody's Lightning Trainer, one idea each."""

from stablelit.callbacks.accumulation import AccumulationCheckpoint
from stablelit.callbacks.adaptive_grad_clip import AdaptiveGradClip
from stablelit.callbacks.contrastive_health import ContrastiveHealthMonitor
from stablelit.callbacks.curriculum import CurriculumCallback
from stablelit.callbacks.device_memory import DeviceMemoryMonitor
from stablelit.callbacks.durable_checkpoint import DurableCheckpoint
from stablelit.callbacks.edge_list_writer import EdgeListWriter
from stablelit.callbacks.ema import EMACallback
from stablelit.callbacks.epoch_mean import EpochMeanCheckpoint
from stablelit.callbacks.epoch_printer import EpochPrinter
from stablelit.callbacks.figure_writer import FigureWriter
from stablelit.callbacks.grad_clip_monitor import GradClipMonitor
from stablelit.callbacks.gradient_reach_check import GradientReachCheck
from stablelit.callbacks.history_writer import HistoryWriter, read_history
from stablelit.callbacks.input_pipeline_monitor import InputPipelineMonitor
from stablelit.callbacks.interrupt import InterruptCheckpoint
from stablelit.callbacks.kl_cap import KLCapCallback
from stablelit.callbacks.non_finite_guard import NonFiniteGuard
from stablelit.callbacks.online_knn import OnlineKNN
from stablelit.callbacks.online_probe import OnlineLinearProbe
from stablelit.callbacks.optimizer_settings import OptimizerSettings
from stablelit.callbacks.part_writer import PartWriter
from stablelit.callbacks.posterior_monitor import PosteriorMonitor
from stablelit.callbacks.progress_bar import StableProgressBar
from stablelit.callbacks.random_state import RandomStateCheckpoint
from stablelit.callbacks.sample_writer import SampleWriter
from stablelit.callbacks.scalar_schedule import ScalarSchedule
from stablelit.callbacks.shuffle_callback import ShuffleCallback
from stablelit.callbacks.step_checkpoint import StepCheckpoint
from stablelit.callbacks.threshold_sweep import ThresholdSweepValidation

__all__ = [
    "AccumulationCheckpoint",
    "AdaptiveGradClip",
    "ContrastiveHealthMonitor",
    "CurriculumCallback",
    "DeviceMemoryMonitor",
    "DurableCheckpoint",
    "EMACallback",
    "EdgeListWriter",
    "EpochMeanCheckpoint",
    "EpochPrinter",
    "FigureWriter",
    "GradClipMonitor",
    "GradientReachCheck",
    "HistoryWriter",
    "InputPipelineMonitor",
    "InterruptCheckpoint",
    "KLCapCallback",
    "NonFiniteGuard",
    "OnlineKNN",
    "OnlineLinearProbe",
    "OptimizerSettings",
    "PartWriter",
    "PosteriorMonitor",
    "RandomStateCheckpoint",
    "SampleWriter",
    "ScalarSchedule",
    "ShuffleCallback",
    "StableProgressBar",
    "StepCheckpoint",
    "ThresholdSweepValidation",
    "read_history",
]
