"""From what a run left to evidence: which tag is what, how it was configured, how far it came."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stablelit.doctor.evidence import Curve, Evidence, OptimizerSettings, Settings
from stablelit.doctor.evidence.hyperparameters import number_named
from stablelit.doctor.readers import RunLog, Unreadable, read_run
from stablelit.doctor.readers.tag_guess import candidates
from stablelit.doctor.roles import CONSTANTS, LOGGED, name_roles
from stablelit.errors import ConfigurationError, did_you_mean

NAMES = {
    "learning_rate": ("lr", "learning_rate", "base_lr", "max_lr", "peak_lr", "init_lr"),
    "weight_decay": ("weight_decay", "wd"),
    "batch_size": ("batch_size", "train_batch_size", "per_device_train_batch_size", "bs", "batchsize"),
    "clip_value": ("gradient_clip_val", "grad_clip", "clip_grad_norm", "max_grad_norm", "gradient_clip", "clip_norm"),
    "accumulated": ("accumulate_grad_batches", "gradient_accumulation_steps", "accumulation_steps", "grad_accum"),
    "max_epochs": ("max_epochs", "epochs", "num_epochs", "n_epochs", "num_train_epochs"),
    "max_steps": ("max_steps", "total_steps", "n_iters", "num_steps", "num_training_steps", "train_steps"),
    "kl_weight": ("kl_weight", "beta", "kl_beta", "kld_weight", "kl_divergence"),
    "sparsity": ("lambda_sparse", "lambda_sparsity", "lambda1", "sparsity_weight", "l1", "lambda_l1"),
    "ema_decay": CONSTANTS["ema_decay"],
}
_OPTIMIZERS = ("optimizer", "optimizer._target_", "optim", "optimizer.name", "optimizer_name")
_NOT_CURVES = ("step", "global_step", "epoch", "hp_metric", "created_at", "Wall time", "seconds")
# of the most, from which on a difficulty counts as reached
_FULL = 0.99
# a file that was written to within this time belongs to a run that may still go on
_STILL_WARM_SECONDS = 60.0


@dataclass
class LogRun:
    """A run as it is judged.

    Args:
        place: as it was given.
        evidence: for the rules.
        tags: the tag that was taken for each role.
        epochs: that were begun; None where nothing says so.
        logged_every: steps between two values of the loss, the median.
        log: what was read; its points are gone.
    """

    place: Path
    evidence: Evidence
    tags: dict[str, str]
    epochs: int | None
    logged_every: float
    log: RunLog


def open_log_run(place: Path, tags: Mapping[str, str] | None = None) -> LogRun:
    """Reads one run.

    Args:
        place: a run's directory, or one file of logs.
        tags: roles whose tag is given.

    Raises:
        Unreadable: nothing to read, or no training loss among the tags.
        ConfigurationError: a given tag that the run has not.
    """
    log = read_run(place)
    curves = log.curves()
    log.points = {}
    held = {name: curve for name, curve in curves.items() if name not in _NOT_CURVES and len(curve)}
    for role, tag in (tags or {}).items():
        if tag not in held:
            raise ConfigurationError(
                f"--tags {role}={tag}: {place} has no such tag. {did_you_mean(tag, held)} "
                f"It has: {_listed(sorted(held))}."
            )
    logged = {LOGGED + name: curve for name, curve in held.items()}
    chosen, added = name_roles(logged, Settings(hyperparameters=log.hyperparameters), tags)
    if "loss" not in chosen:
        raise Unreadable(_no_loss(place, held))
    epoch = curves.get("epoch", Curve()).finite()
    added["loss"] = _after_the_ramp(added["loss"], added.get("difficulty"), log)
    evidence = _evidence(log, {**added, **logged}, epoch, place)
    gaps = np.diff(held[chosen["loss"]].steps)
    every = float(np.median(gaps)) if len(gaps) else 1.0
    return LogRun(place, evidence, chosen, _epochs(log, evidence, epoch), every, log)


def _after_the_ramp(loss: Curve, difficulty: Curve | None, log: RunLog) -> Curve:
    """What of a training loss is of one task: that behind a curriculum's ramp."""
    ramp = Curve() if difficulty is None else difficulty.finite()
    if len(ramp) < 2 or float(ramp.values[0]) >= _FULL * float(ramp.values.max()):
        return loss
    end = float(ramp.steps[np.argmax(ramp.values >= _FULL * ramp.values.max())])
    log.remarks.append(
        f"the difficulty rises until {log.axis} {end:g}: a training loss before that is of easier tasks: not judged."
    )
    return loss.since(end)


def _epochs(log: RunLog, evidence: Evidence, epoch: Curve) -> int | None:
    if log.axis == "epoch":
        return evidence.step + 1
    if not len(epoch):
        return None
    # what is logged when training is over, a test, has the number of the epoch after the last
    return min(int(epoch.values.max()) + 1, evidence.settings.max_epochs or sys.maxsize)


def _evidence(log: RunLog, curves: dict[str, Curve], epoch: Curve, place: Path) -> Evidence:
    last = int(max(float(curve.steps[-1]) for name, curve in curves.items() if name.startswith(LOGGED)))
    settings = _settings(log, curves)
    settings.steps_per_epoch = 1.0 if log.axis == "epoch" else _steps_per_epoch(epoch)
    limit = number_named(settings, NAMES["max_steps"])
    planned = None
    if settings.max_epochs and settings.steps_per_epoch:
        steps = settings.max_epochs * settings.steps_per_epoch
        planned = math.ceil(steps) if math.isfinite(steps) else None
    if limit is not None and limit[1] > 0 and log.axis == "step":
        planned = int(min(limit[1], planned or math.inf))
    if planned is not None and planned < 0.9 * last:
        planned = None  # what the settings say is not what was done
    if log.status:
        ended = log.status != "running"
    elif planned is not None:
        ended = last >= 0.98 * planned - 1
    else:
        ended = _is_cold(place)
        if not ended:
            log.remarks.append("written to within the last minute: judged as a run that goes on.")
    return Evidence(
        step=last,
        planned_steps=planned if planned is not None else last if ended else None,
        origin="logs",
        ended=ended,
        curves=curves,
        settings=settings,
        raised=list(log.findings),
    )


def _settings(log: RunLog, curves: Mapping[str, Curve]) -> Settings:
    settings = Settings(hyperparameters=log.hyperparameters)
    values: dict[str, float] = {}
    for what, names in NAMES.items():
        found = number_named(settings, names)
        if found is not None:
            settings.keys[what], values[what] = found
    if "clip_value" not in settings.keys:
        settings.keys["clip_value"] = "trainer.gradient_clip_val" if log.keys_are_overrides else "gradient_clip_val"
    settings.batch_size = _count(values.get("batch_size"))
    settings.accumulated = _count(values.get("accumulated"))
    settings.max_epochs = _count(values.get("max_epochs"))
    clip = values.get("clip_value")
    settings.clip_value = clip if clip is not None and clip > 0 else None
    rates = curves["lr"].finite().values if "lr" in curves else np.empty(0)
    rate = values.get("learning_rate") or (float(rates.max()) if len(rates) else None)
    kind = _optimizer_kind(log)
    if rate is not None or kind:
        group = OptimizerSettings(kind, math.nan if rate is None else rate, values.get("weight_decay", 0.0))
        settings.optimizers = [group]
    return settings


def _optimizer_kind(log: RunLog) -> str:
    for key, value in log.hyperparameters.items():
        if key in _OPTIMIZERS and isinstance(value, str) and not value.startswith("."):
            return value.rpartition(".")[2]
    return ""


def _steps_per_epoch(epoch: Curve) -> float | None:
    """From the last step that was logged in each epoch."""
    numbers, steps = epoch.values.astype(int), epoch.steps
    if len(numbers) < 2 or numbers[-1] <= numbers[0]:
        return None
    ends = np.flatnonzero(np.append(np.diff(numbers) > 0, True))
    gaps = np.diff(steps[ends]) / np.diff(numbers[ends])
    return float(np.median(gaps)) if len(gaps) and np.median(gaps) >= 1 else None


def _is_cold(place: Path) -> bool:
    directory = place if place.is_dir() else place.parent
    try:
        newest = max(path.stat().st_mtime for path in directory.iterdir() if path.is_file())
    except (OSError, ValueError):
        return True
    return time.time() - newest > _STILL_WARM_SECONDS


def _no_loss(place: Path, held: Mapping[str, Curve]) -> str:
    near, shown = candidates("loss", held), sorted(held)
    why = f"several may be the training loss ({_listed(near)})" if near else "no tag looks like a training loss"
    example = near[0] if near else shown[0] if shown else "NAME"
    return f"{place}: {why}. Say which: --tags loss={example}. Tags: {_listed(shown) or 'none'}."


def _listed(names: list[str], most: int = 40) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _count(value: float | None) -> int | None:
    return int(value) if value is not None and math.isfinite(value) and value >= 1 else None
