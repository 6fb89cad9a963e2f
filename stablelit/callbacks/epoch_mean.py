"""Keeps what was logged in the checkpoint, so that a resumed run logs, shows and decides as the uninterrupted one.

Runs    on_save_checkpoint (keeps), on_train_start (puts back, cuts TensorBoard's events), on_train_batch_end (adds,
        when a name is logged again), on_train_epoch_end (keeps an epoch that the fit's end cuts short),
        on_train_epoch_start and on_train_end (a schedule's step)
Reads   the running sums behind `log(..., on_epoch=True)`, the Trainer's metrics
Writes  the same; the learning rate of a ReduceLROnPlateau
Logs    what a run that was killed after a checkpoint had not logged yet
Resumes exactly: the sums are added in the order in which the uninterrupted run adds them
Limits  means, sums, maxima and minima of numbers; a torchmetrics Metric keeps its own state (make it persistent); the
        same number of ranks as before; of loggers TensorBoard's and RunCSVLogger are cut back; where `max_steps` cuts
        an epoch short, all callbacks have been told of its end, and what they did then is not taken back
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from stablelit.callbacks._epoch_edge import (
    ResumedEpoch,
    close_the_epoch,
    count_the_batch,
    is_of_a_batchs_end,
    is_of_an_epochs_end,
    lacks_its_end,
    mark_if_cut_short,
    validate_if_due,
    was_cut_short,
)
from stablelit.callbacks._event_cut import cut_events, cut_rows, flush_events, log_late, written_rows
from stablelit.callbacks._plateau_steps import epoch_is_closing, take_plateau_step
from stablelit.callbacks._ranks import gather_from_ranks
from stablelit.callbacks._running_sums import (
    Sums,
    add_running_sums,
    begin_running_sums,
    forget_step_values,
    running_sums,
    stand_as_step_values,
    step_values,
)
from stablelit.callbacks._standing_metrics import about_to_be_logged, stand_again, standing_metrics

_KEY = "stablelit_epoch_mean"
# beside the sums, whose form is older
_STANDING = "stablelit_logged"


class EpochMeanCheckpoint(pl.Callback):
    """Carries what Lightning's checkpoints leave out of what was logged.

    Without it the epoch in which a run was interrupted is logged with the mean over its second part alone; a metric
    that is logged now and then is unknown until it is logged again; a ReduceLROnPlateau loses a step at every resume;
    TensorBoard shows what was logged between the checkpoint and the end of the run twice; and of an epoch whose last
    batch was the checkpoint's, validation and end never come, nor does a validation inside an epoch that is due behind
    the checkpoint's batch; with `max_steps` an epoch's end comes twice, and of an epoch that it ended the rest is never
    trained on.

    Lightning keeps all this out of its checkpoints, so this reads it where `log` collects it.

    Example:
        >>> from stablelit.callbacks import EpochMeanCheckpoint
        >>> callback = EpochMeanCheckpoint()
    """

    keeps_books = True

    def __init__(self) -> None:
        self._pending: Sums = {}
        self._loaded: list[Sums] | None = None
        self._logged: dict[str, Any] | None = None
        self._owes_a_step = self._owes_an_end = self._owes_a_validation = self._counts_the_next = False
        self._epoch = ResumedEpoch()
        # of an epoch that was cut short, when Lightning has reset them
        self._cut: tuple[Sums, list[dict[str, Any]]] | None = None

    def __repr__(self) -> str:
        return "EpochMeanCheckpoint()"

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps the sums of every rank, and what stands logged."""
        # behind an epoch's last batch no step comes that would show them
        standing = [] if trainer.is_last_batch else step_values(trainer)
        sums, steps = self._cut or ({**self._pending, **running_sums(trainer)}, standing)
        checkpoint[_KEY] = gather_from_ranks(trainer, sums)
        checkpoint[_STANDING] = {
            "standing": gather_from_ranks(trainer, standing_metrics(trainer)),
            "steps": gather_from_ranks(trainer, steps),
            "coming": about_to_be_logged(trainer),
            "closing": epoch_is_closing(trainer),
            # a run that was resumed inside its epoch and is interrupted again still owes the step
            "owes_a_step": self._owes_a_step,
            "rows": written_rows(trainer),
        }
        mark_if_cut_short(trainer, checkpoint)
        flush_events(trainer)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remembers them until training begins; Lightning reads its counters of batches after this."""
        self._loaded, self._logged = checkpoint.get(_KEY), checkpoint.get(_STANDING)
        self._epoch.load(trainer, checkpoint)
        if self._epoch.was_cut_short and self._logged is not None:
            # what was logged at its end was of a part of it
            self._logged = {**self._logged, "closing": False, "coming": {}}
        # behind its last batch Lightning has counted the step that comes
        self._counts_the_next = self._epoch.was_cut_short or is_of_an_epochs_end(checkpoint)
        self._owes_an_end = lacks_its_end(checkpoint)
        self._owes_a_validation = not self._owes_an_end and is_of_a_batchs_end(checkpoint)
        if self._owes_an_end:
            count_the_batch(checkpoint)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes this rank's sums and metrics, and lets the loggers go on where the checkpoint is."""
        self._cut = None
        logged, self._logged = self._logged, None
        if logged is not None:
            # first, so that names stand in the order in which they were logged; on another number of ranks rank zero's:
            # most metrics are the same on all
            standing = logged["standing"]
            stand_again(trainer, standing[trainer.global_rank if len(standing) == trainer.world_size else 0])
        loaded, self._loaded = self._loaded, None
        if loaded is not None and len(loaded) == trainer.world_size:
            self._pending = dict(loaded[trainer.global_rank])
        loop = trainer.fit_loop
        if loop.restarted_mid_epoch and loop.epoch_loop.batch_progress.is_last_batch:
            self._begin_the_rest(trainer)
        elif loop.restarted_mid_epoch and logged is not None:
            steps = logged.get("steps", [])
            stand_as_step_values(trainer, steps[trainer.global_rank] if len(steps) == trainer.world_size else [])
        if self._owes_an_end:
            self._owes_an_end = False
            close_the_epoch(trainer)
        if self._owes_a_validation:
            self._owes_a_validation = False
            validate_if_due(trainer)
        self._epoch.begin(trainer)
        self._owes_a_step = False
        cut_rows(trainer, (logged or {}).get("rows", []))
        if logged is None:
            return
        coming = logged["coming"]
        if logged["closing"]:
            take_plateau_step(trainer, pl_module, trainer.current_epoch)
        else:
            self._owes_a_step = trainer.fit_loop.restarting
        last = trainer.fit_loop.epoch_loop._batches_that_stepped - int(self._counts_the_next)
        cut_events(trainer, last + 1)
        if coming:
            log_late(trainer, coming["step"], coming["values"])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A new epoch owes nothing to the one before; after a resume inside an epoch this is not called."""
        self._pending, self._cut = {}, None
        forget_step_values(trainer)
        self._pay(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds the sums to those that have begun; what is logged in no batch that is left ends with its sum."""
        if self._pending:
            self._pending = add_running_sums(trainer, self._pending)
        if trainer.is_last_batch:
            self._begin_the_rest(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Of an epoch that `max_steps` ends the sums are kept: a run that goes on adds the rest to them."""
        self._begin_the_rest(trainer)
        self._cut = (running_sums(trainer), step_values(trainer)) if was_cut_short(trainer) else None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The epoch in which the run went on may be its last."""
        self._pay(trainer, pl_module)

    def _begin_the_rest(self, trainer: Any) -> None:
        # no batch comes any more to whose sums these could be added
        pending, self._pending = self._pending, {}
        begin_running_sums(trainer, pending)

    def _pay(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        owes, self._owes_a_step = self._owes_a_step, False
        if owes:
            take_plateau_step(trainer, pl_module, trainer.current_epoch)
