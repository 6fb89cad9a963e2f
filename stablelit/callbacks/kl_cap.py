"""Holds a KL term where it was asked to be, by a schedule and a cap on its weight or by a controller.

Runs    on_train_start, on_train_batch_start (weight); on_train_batch_end (controller, once an optimizer step)
Reads   the KL in nats per sample: outputs["kl"] of shape () or (B,), a logged metric, or a callable
Writes  the scalar at `target` (default "kl_weight"); in mode `free_bits` the instance's `kl_penalty`, while it trains
Logs    kl/weight, kl/raw (smoothed, before the weight), kl/target
Resumes exactly: the controller's state is in the checkpoint
Limits  one optimizer step passes before a change of weight is felt; on a GPU a `kl_weight` that is a Python float costs
        one wait for the device a step, a buffer none (the GPU path was not run); free bits compare the mean over one
        batch of all ranks, not over accumulated ones
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from stablelit.callbacks._clock import RampClock
from stablelit.callbacks._kl_findings import report_kl_findings
from stablelit.callbacks._kl_mode import KLCapMode, build_free_bits, check_source, ends_of_the_warmup, resolve_mode
from stablelit.callbacks._quantity import QuantityReader
from stablelit.callbacks._scalar_writer import ScalarWriter, log_now, loggers_listen
from stablelit.contracts import Quantity
from stablelit.errors import bad_argument, did_you_mean
from stablelit.findings import Action, FindingReporter
from stablelit.functional.free_bits import FreeBitsReduce
from stablelit.functional.kl import ControllerState, is_finite
from stablelit.functional.kl_controller import KLController
from stablelit.functional.schedules import PACINGS, Ramp, check_number

_OWNER = "KLCapCallback"


class KLCapCallback(ScalarWriter):
    r"""Warm-up, cap, target, upper bound or free bits for the KL term of any variational module.

    ==========  ====================================================================================================
    mode        what is held
    ==========  ====================================================================================================
    `weight`    the *weight*: it rises from `start` along `schedule` during `warmup` and never exceeds `max_weight`.
                This bounds the share of the gradient. It does not bound the KL: a smaller weight buys a larger KL.
    `target`    the *KL*, at `kl_target` nats: a log-domain PI controller moves the weight
                (:func:`stablelit.functional.kl.log_pi_step`). `warmup` ramps the target.
    `capacity`  the *KL*, at `kl_target` nats, by a two-sided multiplier; the weight may become negative
                (:func:`stablelit.functional.kl.multiplier_step`). `warmup` ramps the target.
    `hinge`     an *upper bound* on the KL of `kl_target` nats on top of the weight `base_weight`, by a multiplier that
                is 0 where it is not needed. `warmup` ramps the base weight.
    `free_bits` a *lower bound* on the KL of each dimension: what is below `free_bits` nats is not penalised
                (:func:`stablelit.functional.free_bits.free_bits_kl`), through the module's `kl_penalty(kl_per_dim)`.
                The weight times it is that of `weight`, or with a `kl_target` that of `target`. Evaluation is without.
    ==========  ====================================================================================================

    The weight that is logged is the weight in force: nothing multiplies it a second time.

    Args:
        kl: where the KL comes from: a key of what `training_step` returns, the name of a logged metric, or a callable
            of (module, outputs, batch). None reads nothing, which only `weight` can do.
        mode: see the table; None means `free_bits` or else `target` where that argument is given, else `weight`.
        kl_target: nats per sample, for every mode but `weight`; may be left out in `free_bits`.
        target: dotted path of the weight in the module.
        schedule: shape of the warm-up, a name in `stablelit.functional.schedules.PACINGS`.
        warmup: a clock string: ``500``, ``"500st"``, ``"800ba"``, ``"20ep"``, ``"0.1dur"``; 0 is no warm-up.
        delay: how long to wait before the warm-up, in the same unit.
        start: first weight; None is 1 for `target` and 0 for the others.
        max_weight: the cap; None is 1 for `weight` and 50 for the others.
        min_weight: the smallest weight of `target`.
        base_weight: the weight of `hinge` while the KL is below the bound.
        cycles: cycles of the schedule `cyclical` (or rises of `step`).
        ramp_share: share of a cycle that rises.
        proportional: gain of `target` on the relative error.
        integral: gain on its sum, a step.
        smoothing: decay of the moving average of the KL, in [0, 1).
        gamma: immediate part of `capacity` and `hinge`, relative to the weight in force.
        free_bits: nats per dimension that cost nothing; None is 0.5. For the mode `free_bits` only.
        free_bits_reduce: `batch` compares the batch's mean of a dimension with it, `sample` each sample's.
        eval_weight: the weight during validation, test and prediction; None leaves it alone.
        allow_unfinished_warmup: accept a warm-up that the planned run does not finish.
        action: what a finding does: `warn`, `stop` or `raise`. Findings: `kl-non-finite`, `kl-target-out-of-reach`.
        name: distinguishes instances in logs: ``kl/<name>/weight``.

    Raises:
        ConfigurationError: an argument out of range, `max_weight` below `start`, an unknown mode, a `kl_target` that
            is missing or has no effect, `free_bits` likewise; a warm-up longer than the run (when the fit begins);
            `free_bits` that add up to more than the target (first batch).
        ContractError: the module has no such weight, or it is read-only, or no `kl_penalty` (before the fit); no such
            KL, or `kl_penalty` is not called (first batches).

    Example:
        >>> from stablelit import KLCapCallback
        >>> callback = KLCapCallback(kl="train_kl", kl_target=20.0)  # for a module that logs "train_kl"
    """

    def __init__(
        self,
        kl: Quantity | None = "kl",
        mode: KLCapMode | None = None,
        kl_target: float | None = None,
        target: str = "kl_weight",
        schedule: str = "linear",
        warmup: int | str = 0,
        delay: int | str = 0,
        start: float | None = None,
        max_weight: float | None = None,
        min_weight: float = 1e-4,
        base_weight: float = 1.0,
        cycles: int = 4,
        ramp_share: float = 0.5,
        proportional: float = 0.5,
        integral: float = 0.03,
        smoothing: float = 0.9,
        gamma: float = 1.0,
        free_bits: float | None = None,
        free_bits_reduce: FreeBitsReduce = "batch",
        eval_weight: float | None = None,
        allow_unfinished_warmup: bool = False,
        action: Action = "warn",
        name: str | None = None,
    ) -> None:
        self.mode, held_by = resolve_mode(mode, kl_target, free_bits, _OWNER)
        self._free_bits = build_free_bits(self.mode, free_bits, free_bits_reduce, kl_target, _OWNER)
        self.controller = KLController(
            held_by,
            kl_target,
            max_weight=(1.0 if held_by == "weight" else 50.0) if max_weight is None else max_weight,
            min_weight=min_weight,
            proportional=proportional,
            integral=integral,
            smoothing=smoothing,
            gamma=gamma,
            owner=_OWNER,
        )
        super().__init__(target, name, eval_weight)
        self.kl = check_source(kl, held_by, _OWNER)
        self.base_weight = check_number(_OWNER, "base_weight", base_weight, at_least=0.0)
        default_start = min(1.0, self.controller.max_weight) if held_by == "target" else 0.0
        self.start = check_number(_OWNER, "start", default_start if start is None else start, at_least=0.0)
        self.allow_unfinished_warmup = allow_unfinished_warmup
        self.clock = RampClock(delay, warmup, _OWNER, duration_name="warmup")
        if schedule not in PACINGS:
            raise bad_argument(_OWNER, "schedule", schedule, ", ".join(PACINGS), did_you_mean(str(schedule), PACINGS))
        ends = ends_of_the_warmup(self.controller, self.start, self.base_weight, _OWNER)
        self.ramp = Ramp(*ends, schedule, cycles, ramp_share, owner=_OWNER)
        self._reporter = FindingReporter(self.state_key, action)
        way_out = f"In mode={self.mode!r} it is only logged: kl=None does without." if held_by == "weight" else ""
        self._reader = QuantityReader(kl, _OWNER, "KL", way_out) if kl is not None else None
        self._state: ControllerState | None = None
        self._saved: dict[str, Any] | None = None
        self._window: list[Tensor] = []
        self._last_step, self._skipped = 0, 0.0  # type: int, Any
        self._target_is_logged = False

    def __repr__(self) -> str:
        goal, cap = self.controller.kl_target, self.controller.max_weight
        held = f"max_weight={cap:g}" if goal is None else f"kl_target={goal:g}"
        return f"KLCapCallback(kl={self.kl!r}, mode={self.mode!r}, {held}, warmup={self.clock.duration})"

    @property
    def log_prefix(self) -> str:
        """What the logged names begin with."""
        return f"kl/{self.name}" if self.name else "kl"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finds the weight, and in mode `free_bits` the module's `kl_penalty`."""
        super().setup(trainer, pl_module, stage)
        if self._free_bits is not None and stage == "fit":
            self._free_bits.require(pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Resolves the clock, takes up a saved state and sets the weight."""
        self.clock.begin(trainer, self.allow_unfinished_warmup, "allow_unfinished_warmup")
        if self._saved is None and (self._state is None or trainer.global_step == 0):
            # also where the callback is used again: a new run has nothing to do with the one before
            self._skipped, self._target_is_logged = 0.0, False
            self._reporter.load_state_dict({})
            self._state = self.controller.initial(self._first(trainer, self.start))
        self._take_up(trainer)
        if self._reader is not None:
            self._reader.attach(pl_module)
        if self._free_bits is not None:
            self._free_bits.attach(trainer, pl_module, self.scalar)
        self._apply(trainer)

    def on_rollback(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Goes on from the controller of the state that was put back."""
        self.clock.go_on()
        self._take_up(trainer)
        self._apply(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Sets the weight of this batch."""
        self._apply(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Collects the KL of the batch; after an optimizer step, moves the controller and logs."""
        if self._free_bits is not None:
            self._free_bits.check_called(pl_module)
        value = self._reader.read(pl_module, outputs, batch) if self._reader is not None else None
        if value is not None:
            self._window.append(value)
        step = trainer.global_step
        if step == self._last_step:
            return
        self._last_step = step
        if self._window:
            window, self._window = self._window, []
            kl = window[0] if len(window) == 1 else torch.stack(window).mean()
            if trainer.world_size > 1:
                kl = trainer.strategy.reduce(kl, reduce_op="mean")  # type: ignore[assignment]
            self._control(trainer, kl)
        if log_now(trainer):
            self._log(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Says so when the controller has nothing left to turn, or when the KL was not finite."""
        if self._state is not None and self._reader is not None:
            held, state, skipped = self.controller, self._state, int(self._skipped)
            report_kl_findings(self._reporter, trainer, held, state, skipped, self.clock.progress(trainer))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops listening to the module's `log`, and gives `kl_penalty` back."""
        self._detach(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Stops listening to the module's `log`, and gives `kl_penalty` back."""
        super().on_exception(trainer, pl_module, exception)
        self._detach(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The controller and the clock as plain numbers."""
        if self._saved is not None or self._state is None:
            return dict(self._saved or {})
        controller = {n: float(v) for n, v in zip(ControllerState._fields, self._state, strict=True)}
        return {
            **controller,
            "mode": self.controller.mode,
            "skipped": float(self._skipped),
            "target_is_logged": self._target_is_logged,
            "clock": self.clock.state_dict(),
            "findings": self._reporter.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the controller where the checkpoint left it; tensors are made when the device is known."""
        self._saved = dict(state_dict)
        self.clock.load_state_dict(state_dict["clock"])
        self._reporter.load_state_dict(state_dict["findings"])

    def _take_up(self, trainer: pl.Trainer) -> None:
        """Makes a loaded state the one in force, if there is one; tensors go to the device."""
        saved, self._saved = self._saved, None
        if saved is not None:
            state = ControllerState(*(float(saved[name]) for name in ControllerState._fields))
            self._state = self.controller.going_on(state, saved["mode"], self._first(trainer, float(saved["weight"])))
            self._skipped, self._target_is_logged = saved["skipped"], saved["target_is_logged"]
        assert self._state is not None
        self._state = self._state.on(trainer.strategy.root_device)
        self._window, self._last_step = [], trainer.global_step

    def _first(self, trainer: pl.Trainer, weight: float) -> float:
        held_by_ramp = self.controller.mode in ("weight", "hinge")
        return self.ramp.value(self.clock.progress(trainer)) if held_by_ramp else weight

    def _control(self, trainer: pl.Trainer, kl: Tensor) -> None:
        assert self._state is not None
        now = self._state.weight
        value = kl.to(now.device) if isinstance(now, Tensor) else kl.item()
        self._skipped = self._skipped + (1.0 - 1.0 * is_finite(value))
        self._state = self.controller.step(self._state, value, self.ramp.value(self.clock.progress(trainer)))

    def _apply(self, trainer: pl.Trainer) -> None:
        assert self._state is not None
        if self.controller.mode == "weight":
            self.scalar.set(self.ramp.value(self.clock.progress(trainer)))
        else:
            self.scalar.set(self._state.weight)

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self._state is not None
        held = self.controller
        values: dict[str, Any] = {} if self._reader is None else {f"{self.log_prefix}/raw": self._state.kl}
        progress = self.clock.progress(trainer)
        # a call of `log` costs more than the controller: a target that stands still is logged until the loggers have
        # it, and then once an epoch for the history
        if held.kl_target is not None and (progress < 1.0 or not self._target_is_logged or trainer.is_last_batch):
            now = held.kl_target if held.mode == "hinge" else self.ramp.value(progress)
            values[f"{self.log_prefix}/target"] = now
            self._target_is_logged = progress >= 1.0 and loggers_listen(trainer)
        pl_module.log_dict(values, batch_size=1)
        pl_module.log(f"{self.log_prefix}/weight", self.scalar.value, prog_bar=True, batch_size=1)

    def _detach(self, pl_module: pl.LightningModule) -> None:
        if self._free_bits is not None:
            self._free_bits.detach(pl_module)
        if self._reader is not None:
            self._reader.detach(pl_module)
