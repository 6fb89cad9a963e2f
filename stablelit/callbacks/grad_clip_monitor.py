"""Says how large the gradients were before the clip, and what the clip did to them; it never changes one.

Runs    on_before_optimizer_step, and between the clip and the step (GradientTap); on_train_batch_end,
        on_train_epoch_end; with `components_every_n_steps` around `training_step`, in those steps
Reads   the gradients' norm where Lightning clips; on request the gradients; live loss components that training_step
        returns
Writes  nothing
Logs    every `log_every_n_steps`: grad/norm, grad/clip_coef, grad/layer/<layer>; once an epoch: grad/clip_ratio,
        grad/mean_clip_coef, grad/norm_p50, grad/norm_p95, grad/norm_max, grad/nonfinite_steps, grad/scaler_skips,
        grad/value_clipped_share, grad/dead_parameters; in their steps grad/component/<loss> and grad/share/<loss>.
        With several optimizers their number comes last (grad/norm/1), with a `name` it comes second
        (grad/<name>/norm)
Draws   `gradients`, for FigureWriter: the run's norms before the clip, its threshold and ratio, steps not finite
Resumes exactly, also inside an epoch: the books of the epoch and of the run are in the checkpoint
Limits  the device is waited for when the loggers listen, at an epoch's end, and in the steps 1, 2, 4, ... of an epoch
        (dead parameters). Where nothing clips by norm the norm costs a pass over the gradients. On a CPU the clip's own
        norm of one tensor with a million float32 elements is 1e-5 off. In manual optimisation a clip by torch's own
        function is not seen, and the norm is then the one after it. Not with DeepSpeed. No GPU path was run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, get_args

import lightning.pytorch as pl

from stablelit.callbacks._clip_books import ClipBooks
from stablelit.callbacks._clip_event import ClipEvent
from stablelit.callbacks._component_gradients import ComponentGradients
from stablelit.callbacks._epoch_log import log_epoch, log_step, loggers_hear_this_batch
from stablelit.callbacks._gradient_figure import draw_gradients
from stablelit.callbacks._gradient_findings import judge_epoch, judge_finite, scaled_clip, scaler_of
from stablelit.callbacks._gradient_tap import GradientTap
from stablelit.callbacks._layer_norms import LayerNorms, PerLayer
from stablelit.callbacks._parameter_census import ParameterCensus
from stablelit.errors import ConfigurationError, bad_argument
from stablelit.findings import Action, Finding, FindingReporter
from stablelit.functional.schedules import check_number

_OWNER = "GradClipMonitor"


class GradClipMonitor(pl.Callback):
    """Norm before the clip, the clip's coefficient and ratio, dead parameters, and the gradient of each loss component.

    Where the Trainer clips by norm, the norm is the clip's own, so looking costs nothing; Lightning throws it away. The
    ratio is that of finite optimizer steps. Where nothing clips there is no ratio. A clip by value has the share of
    elements that it changed, measured in every tenth step.

    The ratio alone is no alarm: which findings there are and why they are sound is told in
    `stablelit/callbacks/_gradient_findings.py`.

    Args:
        per_layer: `module` or `parameter` also logs norms by layer, before the clip: ``grad/layer/encoder``.
        depth: of `module`, how many parts of a module's path are kept.
        components_every_n_steps: above 0, every so many optimizer steps the gradient of each loss component alone is
            measured, at the cost of one backward each, and its share of the sum of these norms.
        components: keys of the components in what `training_step` returns, live and of shape () or (B,); None takes
            the mapping `loss_components` there, else every other key that qualifies.
        dead_parameters: count and name parameters without gradient, or with exactly zero, in all steps of an epoch.
        quantiles: of the norm, logged once an epoch: 0.5 is ``grad/norm_p50``.
        capacity: norms kept for them; exact up to so many steps an epoch, every second, fourth, ... step beyond.
        severe_ratio: of median norm to threshold above which the clip of an SGD optimizer is `clip-severe`.
        spread_ratio: of the 95 % quantile to the median above which always clipping is `clip-spread`.
        min_steps: finite optimizer steps that must have been seen before an epoch is judged.
        action: what a finding does: `warn`, `stop` or `raise`. Findings: `gradients-non-finite`, `clip-norm-overflow`,
            `clip-of-scaled-gradients`, `clip-severe`, `dead-parameters`, `gradient-vanished`; `clip-spread`,
            `clip-never-active` and `clip-unseen` are for information and only ever warn.
        name: tells two instances apart; a second one in a Trainer needs another.

    Raises:
        ConfigurationError: an argument out of range; two instances of one name, `components_every_n_steps` in manual
            optimisation or with sharded parameters, a strategy that hides its gradients (before training).
        ContractError: no such loss component, or a detached one (in the first step).

    Example:
        >>> from stablelit import GradClipMonitor
        >>> callback = GradClipMonitor(per_layer="module")
    """

    # a rollback of the weights must not roll these books back
    keeps_books = True

    def __init__(
        self,
        per_layer: PerLayer = "none",
        depth: int = 2,
        components_every_n_steps: int = 0,
        components: Sequence[str] | None = None,
        dead_parameters: bool = True,
        quantiles: Sequence[float] = (0.5, 0.95),
        capacity: int = 8192,
        severe_ratio: float = 100.0,
        spread_ratio: float = 10.0,
        min_steps: int = 20,
        action: Action = "warn",
        name: str | None = None,
    ) -> None:
        if per_layer not in get_args(PerLayer):
            raise bad_argument(_OWNER, "per_layer", per_layer, ", ".join(get_args(PerLayer)))
        counts = {"depth": (depth, 1), "components_every_n_steps": (components_every_n_steps, 0)}
        counts |= {"capacity": (capacity, 2), "min_steps": (min_steps, 1)}
        for argument, (value, least) in counts.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise bad_argument(_OWNER, argument, value, f"an int of {least} or more")
        if components is not None and (isinstance(components, str) or not components):
            raise bad_argument(_OWNER, "components", components, "a list of keys, or None")
        if components is not None and not components_every_n_steps:
            raise ConfigurationError(
                f"{_OWNER}: components={list(components)!r} has no effect with components_every_n_steps=0. Give the "
                f"number of optimizer steps between two measurements, such as 50."
            )
        if isinstance(quantiles, str | float | int):
            raise bad_argument(_OWNER, "quantiles", quantiles, "a list of numbers in [0, 1]")
        for share in quantiles:
            check_number(_OWNER, "quantiles", share, at_least=0.0, at_most=1.0)
        if name is not None and (not isinstance(name, str) or not name):
            raise bad_argument(_OWNER, "name", name, "a non-empty string or None")
        self.severe_ratio = check_number(_OWNER, "severe_ratio", severe_ratio, above=1.0)
        self.spread_ratio = check_number(_OWNER, "spread_ratio", spread_ratio, above=1.0)
        self.components_every_n_steps = every = components_every_n_steps
        self.quantiles, self.min_steps, self.name = tuple(quantiles), min_steps, name
        self._reporter = FindingReporter(self.state_key, action)
        self._notes = FindingReporter(self.state_key, "warn")
        self._books = ClipBooks(capacity)
        self._census = ParameterCensus() if dead_parameters else None
        self._layers = LayerNorms(per_layer, depth) if per_layer != "none" else None
        self._has_names = False
        self._components = ComponentGradients(every, components, _OWNER) if every else None
        self._tap: GradientTap | None = None
        self._finite_steps = 0

    def __repr__(self) -> str:
        return f"{_OWNER}({f'name={self.name!r}' if self.name else ''})"

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint."""
        return f"{_OWNER}[{self.name or ''}]"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Begins to listen.

        Raises:
            ConfigurationError: see the class.
        """
        if stage != "fit":
            return
        callbacks: list[Any] = list(getattr(trainer, "callbacks", []))
        for other in callbacks:
            if other is not self and isinstance(other, GradClipMonitor) and other.name == self.name:
                raise ConfigurationError(
                    f"{_OWNER}: two of them in one Trainer with name={self.name!r} would log under the same names. "
                    f"Keep one, or give the second a name."
                )
        if self._components is not None:
            self._components.refuse(pl_module)
        self._books.scaled = scaler_of(trainer) is not None
        self._tap = GradientTap.on(trainer, pl_module, self._hear)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A callback that is used again begins anew."""
        if trainer.global_step == 0:
            self._books.begin_run()
            self._finite_steps = 0
            for reporter in (self._reporter, self._notes):
                reporter.load_state_dict({})
            if self._census is not None:
                self._census.begin()
        self._has_names = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """In the steps that measure loss components, stands around `training_step`."""
        if self._components is not None:
            self._components.arm_when_due(trainer, pl_module, batch_idx)

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """By layer, the norms are measured here, before Lightning's clip."""
        assert self._tap is not None
        if not self._has_names:
            # only now: behind an evaluation FSDP2 leaves whole parameters in the module, which no optimizer has
            self._has_names = True
            for listener in (self._census, self._layers):
                if listener is not None:
                    listener.attach(pl_module)
        if self._layers is not None and loggers_hear_this_batch(trainer):
            self._layers.measure(optimizer, self._tap.applied(optimizer), self._tap.scale_left(optimizer))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs where the loggers listen."""
        if self._components is not None:
            self._components.disarm(pl_module)
            if measured := self._components.take():
                log_step(trainer, {self._key(quantity): value for quantity, value in measured.items()})
        hears = loggers_hear_this_batch(trainer)
        if (hears or trainer.is_last_batch) and not trainer.fit_loop._should_accumulate():
            self._log(trainer, hears)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs the epoch, judges it, and begins a new one."""
        self._books.read()
        values: dict[str, float] = {}
        for index, record in self._books.records.items():
            skipped = "nonfinite_steps" if scaler_of(trainer) is None else "scaler_skips"
            summary = {**record.summary(self.quantiles), skipped: float(record.non_finite)}
            values.update({self._key(quantity, trainer, index): value for quantity, value in summary.items()})
            self._finite_steps += record.finite
        dead = self._census.dead() if self._census is not None else None
        if dead is not None and values:
            values[self._key("dead_parameters")] = float(len(dead))
        if values:
            log_epoch(trainer, values, [name for name in values if "/clip_ratio" in name])
            self._judge(trainer, pl_module, dead or {})
        self._books.begin()
        if self._census is not None:
            self._census.begin()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stops listening."""
        self._release(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Stops listening."""
        self._release(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The books of the epoch and of the run and what was reported, as plain data; waits for the device."""
        return {
            "books": self._books.state_dict(),
            "run": self._books.run_state_dict(),
            "census": self._census.state_dict() if self._census is not None else None,
            "finite_steps": self._finite_steps,
            "findings": self._reporter.state_dict(),
            "notes": self._notes.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up; it holds from the next step on."""
        self._books.load_state_dict(state_dict["books"], state_dict.get("run", {}))
        if self._census is not None and state_dict["census"] is not None:
            self._census.load_state_dict(state_dict["census"])
        self._finite_steps = state_dict["finite_steps"]
        self._reporter.load_state_dict(state_dict["findings"])
        self._notes.load_state_dict(state_dict["notes"])

    def figures(self) -> dict[str, Any]:
        """The norms of the whole run as a matplotlib figure; empty where there was no step. Waits for the device."""
        self._books.read()
        name = f"gradients_{self.name}" if self.name else "gradients"
        return {name: draw_gradients(self._books.run)} if self._books.run else {}

    def _release(self, pl_module: pl.LightningModule) -> None:
        if self._components is not None:
            self._components.disarm(pl_module)
        if self._tap is not None:
            self._tap.release(self._hear)
        self._tap = None

    def _hear(self, event: ClipEvent) -> None:
        if not event.gradients:
            return
        assert self._tap is not None
        self._books.hear(event, self._tap.trainer.fit_loop.epoch_loop._batches_that_stepped)
        if self._census is not None:
            self._census.look(event.index, event.optimizer)
        if event.scaled:
            self._report(self._tap.trainer, [scaled_clip()])

    def _key(self, quantity: str, trainer: pl.Trainer | None = None, index: int = 0) -> str:
        several = trainer is not None and len(trainer.optimizers) > 1
        return "/".join(["grad", *([self.name] if self.name else []), quantity, *([str(index)] if several else [])])

    def _log(self, trainer: pl.Trainer, hears: bool) -> None:
        self._books.read()
        values = {}
        for index, (_, norm, coefficient) in self._books.last.items():
            values[self._key("norm", trainer, index)] = norm
            if coefficient is not None:
                values[self._key("clip_coef", trainer, index)] = coefficient
        clips = {index: record.clip_ratio for index, record in self._books.records.items()}
        ratios = {self._key("clip_ratio", trainer, i): ratio for i, ratio in clips.items() if ratio is not None}
        if scaler_of(trainer) is None:  # with a scaler the epoch decides
            self._report(trainer, judge_finite(self._books.records.values(), trainer))
        if self._layers is not None:
            values.update({self._key(f"layer/{layer}"): norm for layer, norm in self._layers.take().items()})
        if values:
            log_step(trainer, values, hears)
            trainer.progress_bar_metrics.update(ratios)

    def _judge(self, trainer: pl.Trainer, pl_module: pl.LightningModule, dead: dict[str, str]) -> None:
        records = self._books.records
        self._report(trainer, judge_finite(records.values(), trainer))
        if self._finite_steps >= self.min_steps:
            rms = self._census.rms if self._census is not None and scaler_of(trainer) is None else {}
            ratios, manual = (self.severe_ratio, self.spread_ratio), not pl_module.automatic_optimization
            self._report(trainer, judge_epoch(records, trainer.optimizers, rms, dead, *ratios, manual))

    def _report(self, trainer: Any, findings: Iterable[Finding]) -> None:
        for finding in findings:
            (self._notes if finding.severity == "info" else self._reporter).report(trainer, finding)
