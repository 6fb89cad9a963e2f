"""What a run has measured, kept for the summary, the table, the verdict and the sweeper.

Runs    on_train_start, on_validation_end and on_train_epoch_end
Reads   trainer.callback_metrics
Writes  splits.json, when training begins: a run that is killed has it too
Logs    nothing
Resumes the best value is in the checkpoint, and what data the run is trained on: of a killed run nothing else tells
Limits  under ddp_spawn and ddp_fork the parent process sees only the last metrics; `history.jsonl` has the others
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, overload

import lightning.pytorch as pl

from stablelit.data.files import replacing
from stablelit.errors import StablelitError, bad_argument, did_you_mean
from stablelit.run.directory import SPLITS_FILE
from stablelit.run.objective_error import ObjectiveNotLogged
from stablelit.run.summary import data_identity
from stablelit.run_files import plain

ObjectiveMode = Literal["min", "max"]


class EpochMetrics(Sequence[dict[str, float]]):
    """The metrics of every epoch, in the eight bytes that a number takes.

    A dictionary an epoch is 100 bytes for each metric, which are tens of MB in a run of many short epochs.
    """

    def __init__(self) -> None:
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._rows: list[tuple[tuple[str, ...], array[float]]] = []

    def append(self, metrics: Mapping[str, float]) -> None:
        """Adds an epoch."""
        names = tuple(metrics)
        # a run has a set of names or two
        self._rows.append((self._names.setdefault(names, names), array("d", metrics.values())))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, float]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, float]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, float] | list[dict[str, float]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        names, values = self._rows[index]
        return dict(zip(names, values, strict=True))


class RunRecorder(pl.Callback):
    """Keeps every epoch's metrics in memory, and the best value of the objective.

    Args:
        metric: the name of the objective; None keeps no best value.
        mode: whether less or more of it is better.
        directory: where `splits.json` goes; None writes none.

    Raises:
        ConfigurationError: an unknown mode.
    """

    def __init__(self, metric: str | None, mode: ObjectiveMode = "min", directory: Path | None = None) -> None:
        if mode not in get_args(ObjectiveMode):
            raise bad_argument("objective", "mode", mode, "min or max")
        self.metric, self.mode, self.directory = metric, mode, directory
        self.epochs = EpochMetrics()
        self.best: dict[str, float] = {}
        self.best_epoch = -1
        self.data: Any = None
        self._validated = False

    @property
    def best_value(self) -> float | None:
        """The best finite value of the objective so far."""
        return self.best.get(self.metric) if self.metric else None

    @property
    def last_value(self) -> float | None:
        """The objective as it stood last."""
        return self.epochs[-1].get(self.metric) if self.metric and self.epochs else None

    @property
    def worst_possible(self) -> float:
        """What a sweeper is told of a run that diverged."""
        return math.inf if self.mode == "min" else -math.inf

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes which samples are train, val and test, and takes down what data they are of."""
        if trainer.is_global_zero:
            self.data = _identity(trainer)
        splits = _split_indices(trainer)
        if splits and self.directory is not None and trainer.is_global_zero:
            with replacing(self.directory / SPLITS_FILE) as fresh:
                fresh.write_text(json.dumps(splits) + "\n", encoding="utf-8")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks whether the objective is better than ever."""
        if not trainer.sanity_checking:
            self._validated = True
            self._keep_best(numbers(trainer.callback_metrics), trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps the epoch; complains of an objective that nobody logs before more time goes into it."""
        metrics = numbers(trainer.callback_metrics)
        self.take_epoch(metrics, trainer.current_epoch)
        if self._validated or not _has_validation(trainer):
            self.require_metric(metrics)

    def take_epoch(self, metrics: dict[str, float], epoch: int) -> None:
        """Adds an epoch."""
        self.epochs.append(metrics)
        self._keep_best(metrics, epoch)

    def require_metric(self, metrics: Mapping[str, float]) -> None:
        """Complains where the objective is not among what was logged.

        Raises:
            ConfigurationError: with what was logged, and near names.
        """
        if self.metric and self.metric not in metrics:
            available = sorted(name for name in metrics if not name.endswith(("_step", "_epoch")))
            raise ObjectiveNotLogged(
                f"objective.metric={self.metric!r} was not logged. {did_you_mean(self.metric, available)} "
                f"Logged: {', '.join(available) or 'nothing'}."
            )

    def state_dict(self) -> dict[str, Any]:
        """The best value and what was measured beside it; the identity of the data."""
        best = {"best": dict(self.best), "best_epoch": self.best_epoch}
        return {"metric": self.metric or "", "mode": self.mode, **best, "data": self.data}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up the best value, unless the resumed run has another objective."""
        self.data = state.get("data")
        if state["metric"] == (self.metric or "") and state["mode"] == self.mode:
            self.best, self.best_epoch = dict(state["best"]), int(state["best_epoch"])

    def _keep_best(self, metrics: dict[str, float], epoch: int) -> None:
        value = metrics.get(self.metric) if self.metric else None
        if value is None or not math.isfinite(value):
            return
        best = self.best_value
        better = best is None or (value < best if self.mode == "min" else value > best)
        # what training measured in the best epoch is there only at the epoch's end
        if better or (value == best and epoch == self.best_epoch):
            self.best, self.best_epoch = metrics, epoch


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Logged metrics as plain floats."""
    return {name: float(value) for name, value in sorted(metrics.items())}


def _identity(trainer: pl.Trainer) -> Any:
    # somebody's own may not know yet, and a file may be on its way out: training tells of that better
    try:
        return plain(data_identity(getattr(trainer, "datamodule", None)))
    except (OSError, StablelitError, AttributeError, RuntimeError, TypeError):
        return None


def _split_indices(trainer: pl.Trainer) -> dict[str, list[int]]:
    splits = getattr(getattr(trainer, "datamodule", None), "split_indices", None)
    splits = splits() if callable(splits) else splits
    return {str(name): [int(i) for i in indices] for name, indices in splits.items()} if splits else {}


def _has_validation(trainer: pl.Trainer) -> bool:
    return bool(trainer.enable_validation and trainer.num_val_batches)
