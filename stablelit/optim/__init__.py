"""Optimizers and learning-rate schedules that the families share."""

from stablelit.optim.build import build_optimizers
from stablelit.optim.warmup import warmup_schedule

__all__ = ["build_optimizers", "warmup_schedule"]
