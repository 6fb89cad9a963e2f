"""Keeps a NaN out of the weights, and takes a run back when its loss has jumped and does not return.

Runs    on_train_batch_start (buffers), on_before_backward (loss), between the clip and the optimizer's step (decides),
        on_train_batch_end (writes down, rolls back, keeps a snapshot), on_train_epoch_end (logs)
Reads   the loss, the norm of the gradients before the clip, the module's buffers
Writes  a skipped step: no gradients, the buffers and the epoch's running means as before; a rollback: all of the
        training's state; `skipped.jsonl`; before-nonfinite.ckpt where it stops
Logs    guard/skipped_steps, guard/rollbacks, guard/spikes, and guard/scaler_skips with a gradient scaler; once an epoch
Resumes counters and the window of losses are in the checkpoint; the snapshots are not: they begin anew
Limits  one wait for the device and one reduction over ranks of five numbers a step; with accumulation one wait a batch,
        and one bad batch takes its whole window with it; a skipped step counts as a step for schedules and clocks;
        metrics that the module updated with a skipped batch keep it; the GPU path was not run
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from stablelit.callbacks._buffers import BufferKeeper
from stablelit.callbacks._checkpoint_directory import save_last_good
from stablelit.callbacks._clip_event import ClipEvent
from stablelit.callbacks._epoch_log import log_epoch
from stablelit.callbacks._gradient_tap import GradientTap
from stablelit.callbacks._guard_books import COUNTS, Evidence, GuardBooks, Trouble
from stablelit.callbacks._rollback import Rollbacks
from stablelit.callbacks._running_means import RunningMeans
from stablelit.callbacks._skip_log import SampleIds, SkipLog
from stablelit.callbacks._snapshots import refuse_sharded
from stablelit.callbacks._step_health import StepMeter, drop_gradients, gradient_scaler
from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.findings import Action, Finding, FindingReporter
from stablelit.functional.spikes import SpikeRule
from stablelit.lost_reports import say

Policy = Literal["skip", "stop", "rollback"]
_OWNER = "NonFiniteGuard"
_REMEDY = "a lower learning rate, a longer warm-up, clipping; data.leave_out for samples that are broken"


class NonFiniteGuard(pl.Callback):
    """Leaves out optimizer steps with a loss, gradients or buffers that are not finite, on all ranks together.

    A step that is left out changes nothing: neither weights nor momentum, and no batch-norm statistics. What the policy
    says is what happens where that is not enough.

    ==========  ====================================================================================================
    policy      what happens
    ==========  ====================================================================================================
    `skip`      more than `max_consecutive` steps in a row: a critical finding. A loss that jumps and does not come back
                is reported; nothing is done about it.
    `stop`      the first step that is not finite, or a loss that does not come back: a critical finding. The last good
                state is written to before-nonfinite.ckpt.
    `rollback`  more than `max_consecutive` steps in a row, or a loss that does not come back: the state of the training
                goes back to a snapshot that is known to be good, the learning rate is lowered, and the run goes on
                *with later data*. After `max_rollbacks` a critical finding.
    ==========  ====================================================================================================

    Rolled back are model, optimizers, schedules, scaler, the average of Lightning's EMAWeightAveraging, and callbacks
    that are part of the training. Counters, the place in the data and the callbacks that keep books go on: a callback
    says so by `keeps_books = True`, and one that takes its loaded state up only in `on_train_start` gets
    `on_rollback(trainer, pl_module)` (:class:`stablelit.contracts.FollowsRollback`). A snapshot of Adam takes three
    times the weights in host memory, on every rank.

    A gradient scaler's own skips are healthy: they are counted apart, and are an alarm only where the scale falls below
    1, or there are more than `max_consecutive` in a row after the first search for a scale.

    Args:
        policy: see the table.
        max_consecutive: steps of one optimizer in a row that may be left out.
        spike_threshold: robust standard deviations above the median from which a loss has jumped; None does not look
            (:class:`stablelit.functional.spikes.SpikeRule`). A loss whose weights or difficulty are raised by a jump on
            purpose needs that, or a larger `patience`.
        spike_window: losses that the median looks back on.
        patience: consecutive steps above that may still come back.
        every: a clock string: how often a snapshot is kept (`rollback`).
        keep: how many snapshots.
        lr_factor: what a rollback multiplies all learning rates with, in (0, 1]; schedules keep to it
            (:func:`stablelit.optim.scale_learning_rates`).
        max_rollbacks: how many, over the whole run.
        ids: the numbers of a batch's samples, for `skipped.jsonl`: a key of the batch or a callable of it. None works
            them out from the order of a ShuffleSampler, LengthBucketBatchSampler or DistributedSampler.
            `stablelit.data.leave_out` makes the next run do without them.
        action: what a critical finding does: `stop` ends the run cleanly, `raise` raises, `warn` goes on skipping.
            Findings: `non-finite-step`, `non-finite-persists`, `loss-does-not-recover`, `rolled-back`,
            `rollbacks-exhausted`, `scaler-finds-no-scale`, `no-step-to-guard`.

    Raises:
        ConfigurationError: an argument out of range; a second guard, DeepSpeed, or `rollback` with a strategy whose
            state is sharded (before the fit).
        ContractError: a batch without `ids`, when one is skipped.

    Example:
        >>> from stablelit import NonFiniteGuard
        >>> guard = NonFiniteGuard(policy="rollback", every="200st")
    """

    keeps_books = True
    # for who would tell of a NaN that does no harm here
    leaves_out_non_finite = True

    def __init__(
        self,
        policy: Policy = "skip",
        max_consecutive: int = 5,
        spike_threshold: float | None = 8.0,
        spike_window: int = 64,
        patience: int = 16,
        every: int | str = "100st",
        keep: int = 2,
        lr_factor: float = 0.5,
        max_rollbacks: int = 3,
        ids: SampleIds | None = None,
        action: Action = "stop",
    ) -> None:
        if policy not in get_args(Policy):
            hint = did_you_mean(str(policy), get_args(Policy))
            raise bad_argument(_OWNER, "policy", policy, ", ".join(get_args(Policy)), hint)
        if isinstance(max_consecutive, bool) or not isinstance(max_consecutive, int) or max_consecutive < 1:
            raise bad_argument(_OWNER, "max_consecutive", max_consecutive, "an int of 1 or more")
        rule = SpikeRule(8.0 if spike_threshold is None else spike_threshold, spike_window, patience, _OWNER)
        self.policy, self.max_consecutive = policy, max_consecutive
        self.rule = None if spike_threshold is None else rule
        self._rollbacks = Rollbacks(every, keep, lr_factor, max_rollbacks, _OWNER)
        self._skips = SkipLog(ids, _OWNER)
        self._notes, self._verdicts = FindingReporter(_OWNER, "warn"), FindingReporter(_OWNER, action)
        self._books = GuardBooks()
        self._said_unknown = False
        self._fit: tuple[Any, Any] | None = None
        self._tap: GradientTap | None = None
        self._begin_step()

    def __repr__(self) -> str:
        return f"{_OWNER}(policy={self.policy!r}, max_consecutive={self.max_consecutive})"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Listens to the clip, and goes behind the other callbacks: what a rollback undoes, they have seen."""
        if stage != "fit":
            return
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if sum(type(callback).__name__ == _OWNER for callback in callbacks) > 1:
            raise ConfigurationError(f"{_OWNER}: two in one Trainer would skip a step twice. Keep one.")
        if self.policy == "rollback":
            refuse_sharded(trainer, _OWNER)
        saving = [c for c in callbacks if c in trainer.checkpoint_callbacks]
        others = [c for c in callbacks if c is not self and c not in saving]
        trainer.callbacks = [*others, self, *saving]  # type: ignore[attr-defined]
        self._fit = (trainer, pl_module)
        self._tap = GradientTap.on(trainer, pl_module, self._decide)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps the state that the run begins with."""
        if trainer.global_step == 0:  # also where the callback is used again
            self.load_state_dict({"books": GuardBooks().plain(), "rollbacks": 0, "findings": [{}, {}]})
        self._buffers, self._means, self._meter = BufferKeeper(pl_module), RunningMeans(), StepMeter()
        self._window_is_open = self._saw_a_step = self._saw_a_batch = False
        self._begin_step()
        if self.policy == "rollback":
            self._rollbacks.begin(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Counts anew."""
        self._books.counts = dict.fromkeys(COUNTS, 0)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keeps what a forward pass changes, as it is before the first batch of a step."""
        self._saw_a_batch = True
        if not self._window_is_open:
            self._buffers.keep()
            self._means.keep(trainer)
            self._window_is_open = True

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Adds the loss, without waiting for it."""
        self._meter.add(trainer, loss)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Does what the step's decision asks for, where no step is half done."""
        decided, skipped, due = self._decided, self._skipped, self._due
        self._begin_step()
        if decided and skipped is None:
            self._skips.forget()
        else:
            guilty = self._meter.last_was_bad()
            closer = guilty or skipped is not None
            self._skips.see(trainer, batch, batch_idx, outputs, guilty, closer)
        if skipped is not None:
            self._means.restore(trainer)
            if not self._skips.write(trainer, *skipped) and not self._said_unknown:
                self._said_unknown = True
                rank_zero_warn(f"{_OWNER}: nobody knows which samples were skipped. Give ids=, a key of the batch.")
        if due is not None:
            self._act(trainer, pl_module, *due)
        elif self.policy == "rollback" and decided and skipped is None and not self._books.rising:
            self._rollbacks.keep_if_due(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs the epoch's counts."""
        names = COUNTS if gradient_scaler(trainer) is not None else COUNTS[:-1]
        log_epoch(trainer, {f"guard/{name}": float(self._books.counts[name]) for name in names})
        # a run may go on behind the last batch of an epoch
        if self._saw_a_batch and not self._saw_a_step:
            message = "an epoch went by, and no optimizer step went through Lightning: none was guarded."
            self._note(trainer, "no-step-to-guard", message, {}, "step the optimizers that self.optimizers() returns")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Lets go of the clip and of the snapshots."""
        self._release()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Lets go of the clip and of the snapshots."""
        self._release()

    def state_dict(self) -> dict[str, Any]:
        """Counters, the windows of losses, and what was reported."""
        findings = [self._notes.state_dict(), self._verdicts.state_dict()]
        return {"books": self._books.plain(), "rollbacks": self._rollbacks.count, "findings": findings}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up."""
        self._books, self._rollbacks.count = GuardBooks.of(state_dict["books"]), int(state_dict["rollbacks"])
        for reporter, found in zip((self._notes, self._verdicts), state_dict["findings"], strict=True):
            reporter.load_state_dict(found)

    def _begin_step(self) -> None:
        self._decided = False
        self._skipped: tuple[str, str, int] | None = None
        self._due: Trouble | None = None

    def _release(self) -> None:
        if self._tap is not None:
            self._tap.release(self._decide)
        self._tap, self._fit = None, None
        self._rollbacks.clear()
        self._skips.forget()

    def _decide(self, event: ClipEvent) -> None:
        """Between the clip and the step of one optimizer, the same on every rank."""
        assert self._fit is not None
        trainer, books, scaler = self._fit[0], self._books, gradient_scaler(self._fit[0])
        self._decided, self._saw_a_step, self._window_is_open = True, True, False
        if (
            not event.gradients
        ):  # training_step returned None: there is nothing to take, and the last loss is an old one
            return
        health = self._meter.read(trainer, event.norm, self._buffers)
        if scaler is not None and health.quantity == "gradient":
            self._due = books.scaler_skipped(float(scaler.get_scale()), self.max_consecutive, event.index) or self._due
        elif health.quantity is not None:
            self._skip(trainer, health.quantity, event)
        else:
            self._due = books.stepped(self.rule, health.loss, event.index, scaler is not None) or self._due
            if not books.rising:
                self._rollbacks.confirm()

    def _skip(self, trainer: pl.Trainer, quantity: str, event: ClipEvent) -> None:
        assert self._tap is not None
        drop_gradients(event.optimizer, still_scaled=self._tap.scale_left(event.optimizer) is not None)
        self._buffers.restore()
        reason, row = f"the {quantity} is not finite", self._books.skipped(event.index)
        self._skipped = (reason, quantity, int(trainer.global_step))
        evidence: Evidence = {"quantity": quantity, "consecutive": row}
        message = f"{reason} at optimizer step {trainer.global_step}"
        if self.policy == "stop" or row > self.max_consecutive:
            self._due = ("non-finite-persists", f"{message}, {row} in a row.", evidence)
        if self.policy != "stop":
            remedy = "look at the samples in skipped.jsonl; data.leave_out does without them"
            self._note(trainer, "non-finite-step", f"{message}; the step was left out.", evidence, remedy)

    def _act(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, name: str, message: str, evidence: Evidence
    ) -> None:
        if self.policy == "rollback" and self._roll_back(trainer, message, evidence):
            return
        if self.policy == "skip" and name == "loss-does-not-recover":
            self._note(trainer, name, message, evidence, "policy='rollback', or a lower learning rate")
        else:
            if name != "loss-does-not-recover":
                message += save_last_good(trainer, pl_module, "before-nonfinite.ckpt")
            if self.policy == "rollback":
                name, back = "rollbacks-exhausted", self._rollbacks
                share = f"{back.lr_share:.3g}"
                message += f" {back.count} rollbacks have not helped; the learning rate is at {share} of what it was."
            self._verdicts.report(trainer, Finding(name, "critical", message, evidence, _REMEDY))
        self._books.new_level()

    def _roll_back(self, trainer: pl.Trainer, message: str, evidence: Evidence) -> bool:
        back, now = self._rollbacks, trainer.global_step
        snapshot = back.go_back(trainer)
        if snapshot is None:
            return False
        self._books.counts["rollbacks"] += 1
        self._books.went_back()
        message += (
            f" The state of step {snapshot.step} was put back at step {now} (rollback {back.count} of {back.most}), "
            f"and the learning rate is at {back.lr_share:.3g} of what it was."
        )
        evidence = {**evidence, "to_step": snapshot.step, "rollbacks": back.count}
        new = self._note(trainer, "rolled-back", message, evidence, "a lower learning rate, or a longer warm-up")
        if not new and trainer.is_global_zero:
            say(trainer, _OWNER, f"{_OWNER}: {message}")
        return True

    def _note(self, trainer: pl.Trainer, name: str, message: str, evidence: Evidence, remedy: str) -> bool:
        return self._notes.report(trainer, Finding(name, "warning", message, evidence, remedy))
