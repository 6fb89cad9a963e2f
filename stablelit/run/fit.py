"""Training and testing, with what can happen on the way: an interrupt, numbers that run away, memory that runs out."""

from __future__ import annotations

import math
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.tuner.tuning import Tuner
from lightning.pytorch.utilities.model_helpers import is_overridden
from omegaconf import DictConfig, open_dict

from stablelit.callbacks.interrupt import TERMINATED, InterruptCheckpoint
from stablelit.run.build import Parts, compiled
from stablelit.run.failures import from_child_process, is_divergence, is_out_of_memory
from stablelit.run.forked import taking_home
from stablelit.run.guarded_loggers import begin_to_log
from stablelit.run.record import numbers
from stablelit.run.summary import Status
from stablelit.run.terminated import is_asked_to_end, telling_ranks, was_terminated

# the finder sweeps the rate over eight decades in 100 steps; half of them do not reach a descent
_FEWEST_LR_STEPS = 80


@dataclass
class Outcome:
    """How a training ended.

    Args:
        status: as it goes into summary.json.
        seconds: of fitting and testing.
        error: what ended it, if something did.
        final: the metrics as they stood at the end.
        tested: the metrics of the test.
        best_checkpoint: the best one, if any was written.
        last_checkpoint: the last one.
        is_trained: nothing but the test is left to do.
    """

    status: Status = "finished"
    seconds: float = 0.0
    error: BaseException | None = None
    final: dict[str, float] = field(default_factory=dict)
    tested: dict[str, float] = field(default_factory=dict)
    best_checkpoint: Path | None = None
    last_checkpoint: Path | None = None
    is_trained: bool = False


def fit(parts: Parts, config: DictConfig, resume: Path | None) -> Outcome:
    """Trains; whatever ends it is in the outcome, and nothing is raised."""
    outcome = Outcome()
    trainer, began = parts.trainer, time.monotonic()
    try:
        module = compiled(parts.module, bool(config.get("compile", False)))
        _tune(parts, config)
        begin_to_log(trainer)
        with telling_ranks(trainer), taking_home(trainer):
            trainer.fit(
                module,
                datamodule=parts.datamodule,
                ckpt_path=str(resume) if resume is not None else None,
                weights_only=True,
            )
    except (KeyboardInterrupt, SystemExit) as error:
        if trainer.state.status != TrainerStatus.INTERRUPTED:
            raise
        outcome.status, outcome.error = "interrupted", error
        _listen_to_ctrl_c_again()
    except Exception as raised:
        outcome.error = error = from_child_process(raised)
        diverged = is_divergence(error) and not is_out_of_memory(error)
        outcome.status = "interrupted" if was_terminated(error) else "diverged" if diverged else "failed"
    outcome.final = numbers(trainer.callback_metrics)
    outcome.seconds = time.monotonic() - began
    outcome.best_checkpoint, outcome.last_checkpoint = _checkpoints(trainer)
    if outcome.status == "finished" and _ended_not_finite(parts, outcome):
        outcome.status = "diverged"
    return outcome


def test_best(parts: Parts, outcome: Outcome) -> None:
    """Tests the best checkpoint (the weights at hand where none was kept) and adds the result to the outcome."""
    if not is_overridden("test_dataloader", parts.datamodule) or not is_overridden("test_step", parts.module):
        parts.notes.append("Not tested: there is no test_step, or the data have no test set.")
        return
    if is_asked_to_end(parts.trainer):
        if outcome.last_checkpoint is None:
            parts.notes.append("Not tested: SIGTERM came when the last epoch was nearly over.")
        else:
            # called finished, nobody would test it: neither a sweep that goes on nor a scheduler that looks at the code
            outcome.status, outcome.error = "interrupted", SystemExit(TERMINATED)
            outcome.is_trained = True
        return
    began = time.monotonic()
    best = str(outcome.best_checkpoint) if outcome.best_checkpoint else None
    try:
        results = parts.trainer.test(
            parts.module, datamodule=parts.datamodule, ckpt_path=best, weights_only=True, verbose=False
        )
        outcome.tested = {name: value for metrics in results for name, value in numbers(metrics).items()}
    except (KeyboardInterrupt, SystemExit) as error:
        outcome.status, outcome.error = "interrupted", error
        _listen_to_ctrl_c_again()
    except Exception as error:
        outcome.status, outcome.error = "failed", error
    outcome.seconds += time.monotonic() - began


def _tune(parts: Parts, config: DictConfig) -> None:
    wanted = config.get("tune") or {}
    if wanted.get("batch_size"):
        size = Tuner(parts.trainer).scale_batch_size(parts.module, datamodule=parts.datamodule, mode="power")
        parts.notes.append(f"data.batch_size={size}, as Lightning's finder suggests.")
        print(parts.notes[-1])
    if wanted.get("learning_rate"):
        finder = Tuner(parts.trainer).lr_find(parts.module, datamodule=parts.datamodule, update_attr=False)
        tried = len(finder.results.get("loss", [])) if finder is not None else 0
        suggestion = finder.suggestion() if finder is not None and tried >= _FEWEST_LR_STEPS else None
        if suggestion:
            parts.module.learning_rate = suggestion
            said = f"{suggestion:.3g}, as Lightning's finder suggests after {tried} steps."
        else:
            said = f"unchanged: the finder saw {tried} steps and needs {_FEWEST_LR_STEPS}, or found no descent."
        parts.notes.append(f"model.learning_rate={said}")
        print(parts.notes[-1])
    if any(wanted.values()):
        _take_into(config, parts)


def _take_into(config: DictConfig, parts: Parts) -> None:
    """What a finder has set belongs into the configuration that is saved, which must run the same again."""
    with open_dict(config):
        for group, name, holder in (("data", "batch_size", parts.datamodule), ("model", "learning_rate", parts.module)):
            found = getattr(holder, name, None)
            if isinstance(found, int | float) and config.get(group) and config[group].get(name) not in (None, found):
                config[group][name] = found
        for name in config.tune:
            config.tune[name] = False


def _checkpoints(trainer: pl.Trainer) -> tuple[Path | None, Path | None]:
    callback = trainer.checkpoint_callback
    best, last = getattr(callback, "best_model_path", ""), getattr(callback, "last_model_path", "")
    folder = getattr(callback, "dirpath", None)
    if folder and (Path(folder) / "last.ckpt").is_file():
        last = str(Path(folder) / "last.ckpt")
    # on an interrupt ModelCheckpoint does not know of the last one
    on_interrupt = [c.saved_to for c in trainer.callbacks if isinstance(c, InterruptCheckpoint) and c.saved_to]
    return _existing(best), _existing(on_interrupt[0] if on_interrupt else last)


def _existing(path: str | None) -> Path | None:
    return Path(path) if path and Path(path).exists() else None


def _ended_not_finite(parts: Parts, outcome: Outcome) -> bool:
    watched = [parts.recorder.metric, "train/loss", "val/loss"]
    return any(not math.isfinite(outcome.final[name]) for name in watched if name in outcome.final)


def _listen_to_ctrl_c_again() -> None:
    # Lightning ignores SIGINT from its first one on
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
