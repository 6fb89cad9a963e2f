"""Optimizers and learning-rate schedules that the families share."""

from stablelit.optim.batch_scaling import scaled_learning_rate
from stablelit.optim.build import build_optimizers, check_factories
from stablelit.optim.lars import LARS
from stablelit.optim.muon import MuonAdamW
from stablelit.optim.plateau import plateau_schedule
from stablelit.optim.rescale import scale_learning_rates
from stablelit.optim.restarts import restarts_schedule
from stablelit.optim.warmup import warmup_schedule

__all__ = [
    "LARS",
    "MuonAdamW",
    "build_optimizers",
    "check_factories",
    "plateau_schedule",
    "restarts_schedule",
    "scale_learning_rates",
    "scaled_learning_rate",
    "warmup_schedule",
]
