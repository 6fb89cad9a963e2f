"""Makes training harder along a ramp, and evaluates at full difficulty whatever the ramp says.

Runs    on_fit_start, on_train_start, on_train_batch_start (difficulty: a pure function of the clock and its gate);
        around every evaluation; on_validation_end (gate); on_train_batch_end (logs)
Reads   the Trainer's counters; the gate's metric; outputs["loss"] and the module's `trivial_loss`
Writes  `set_difficulty(d)` of the module, the datamodule, a train loader's sampler or any object; or a scalar
Logs    curriculum/difficulty, curriculum/progress, curriculum/gate_hold, curriculum/<what listeners say>;
        train/loss_norm
Resumes exactly, inside an epoch too; a ramp that was changed since goes on from the same clock, and a warning says so
Limits  workers run ahead, so a difficulty that lives in a data set reaches training up to workers x prefetched batches
        late (the first ones of a plain DataLoader have a sampler's own difficulty); the workers of a validation begin
        before any hook of it, so validation data must not depend on the difficulty where they have workers
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl

from stablelit.callbacks._around_evaluation import AroundEvaluation
from stablelit.callbacks._curriculum_clock import CurriculumClock
from stablelit.callbacks._curriculum_findings import findings_of_the_plan, misled, stopped_early
from stablelit.callbacks._curriculum_listeners import Listeners
from stablelit.callbacks._loss_norm import LossNorm
from stablelit.callbacks._scalar_writer import log_now
from stablelit.contracts import HasDifficulty
from stablelit.errors import bad_argument
from stablelit.findings import Action, FindingReporter
from stablelit.functional.pacing import Pacing
from stablelit.functional.plateau_gate import PlateauGate
from stablelit.functional.schedules import check_flag, check_number

_OWNER = "CurriculumCallback"


class CurriculumCallback(AroundEvaluation):
    r"""Paces the difficulty d in [0, 1] of a module, its data or any number of it.

    .. math:: d(t) = d_{end}\, \varphi\!\left(\frac{t - t_{delay}}{t_{duration}};\, \frac{d_{start}}{d_{end}}\right)

    with the pacing :math:`\varphi` of :mod:`stablelit.functional.pacing` and t the clock. With a `gate`, t is the time
    during which the gate was open: it is shut at the beginning, every end of a validation may open or shut it, and
    while it is shut the clock of the ramp, `delay` included, stands still. The difficulty never falls.

    A training loss under a curriculum is not comparable over time: the difficulty moves it, whatever is learned. Where
    the module has `trivial_loss(difficulty)`, the loss over it is logged as `train/loss_norm`: 1 is a predictor that
    has learned nothing.

    Args:
        pacing: linear, root, exponential, saturating, cosine, power, logistic, step, constant, `postmortem` (a
            published ramp that never ends; it counts batches), or a callable from [0, 1] to [0, 1].
        start: difficulty at the beginning.
        end: difficulty when the ramp is over.
        duration: a clock string: ``500`` or ``"500st"`` optimizer steps, ``"800ba"``, ``"20ep"``, ``"0.1dur"``.
        delay: a clock string in the same unit.
        power: of `root` and `power`; None is 2.
        steepness: of `saturating` (None is 3) and `logistic` (None is 10).
        boundaries: of `step`: shares of the ramp at which the difficulty rises; None is quarters.
        values: of `step`: the difficulty from each boundary on; None is equal rises.
        round_to: the difficulty is a multiple of it, but for the ends.
        gate: holds the ramp while a validation metric improves.
        targets: who is told, one or several of `module`, `datamodule` (one of these two is enough), `sampler` (of the
            train loaders; batch samplers too), a dotted path of a scalar or of something with `set_difficulty`, or such
            an object. A scalar is set to d.
        eval_difficulty: difficulty of validation, test and prediction, and when the fit is over.
        allow_unfinished: accept a ramp that the planned run does not finish, with a finding.
        loss_norm: whether to log `train/loss_norm`; None does where the module has `trivial_loss`.
        action: what a finding does: `warn`, `stop` or `raise`. Findings: `curriculum-unfinished`,
            `curriculum-inside-warmup`, `monitor-moves-with-difficulty`, `gate-metric-non-finite`.
        name: distinguishes instances in logs: ``curriculum/<name>/difficulty``.

    Raises:
        ConfigurationError: an argument out of range; a ramp longer than the run (when the fit begins).
        ContractError: nobody listens (before the fit; samplers when training begins); no such metric for the gate.

    Example:
        >>> from stablelit import CurriculumCallback
        >>> callback = CurriculumCallback("root", start=0.05, duration="0.3dur")  # a module with set_difficulty
    """

    def __init__(
        self,
        pacing: str | Callable[[float], float] = "linear",
        start: float = 0.1,
        end: float = 1.0,
        duration: int | str = "0.5dur",
        delay: int | str = 0,
        power: float | None = None,
        steepness: float | None = None,
        boundaries: Sequence[float] | None = None,
        values: Sequence[float] | None = None,
        round_to: float | None = None,
        gate: PlateauGate | None = None,
        targets: str | HasDifficulty | Sequence[str | HasDifficulty] = ("module", "datamodule"),
        eval_difficulty: float = 1.0,
        allow_unfinished: bool = False,
        loss_norm: bool | None = None,
        action: Action = "warn",
        name: str | None = None,
    ) -> None:
        self.pacing = Pacing(pacing, start, end, power, steepness, boundaries, values, round_to, _OWNER)
        if gate is not None and not isinstance(gate, PlateauGate):
            raise bad_argument(_OWNER, "gate", gate, "a PlateauGate or None")
        self._ramp_arguments = (delay, duration, gate, _OWNER)
        self.clock = CurriculumClock(*self._ramp_arguments)
        self._described = f"{self.pacing}, duration={self.clock.ramp.duration}, delay={self.clock.ramp.delay}"
        self._described += f", gate={gate}" if gate is not None else ""
        self.clock.check_published(self.pacing)
        self.listeners = Listeners(targets, _OWNER)
        self.eval_difficulty = check_number(_OWNER, "eval_difficulty", eval_difficulty, at_least=0.0, at_most=1.0)
        self.allow_unfinished = check_flag(_OWNER, "allow_unfinished", allow_unfinished)
        self.loss_norm = loss_norm if loss_norm is None else check_flag(_OWNER, "loss_norm", loss_norm)
        if name is not None and (not isinstance(name, str) or not name):
            raise bad_argument(_OWNER, "name", name, "a non-empty string or None")
        self.name = name
        self._reporter = FindingReporter(self.state_key, action)
        self._norm: LossNorm | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.clock = CurriculumClock(*self._ramp_arguments)
        self._progress = 1.0 if self.clock.begins_over else 0.0
        self._difficulty = self.pacing.value(self._progress)
        self._described_before = self._described
        self._reporter.load_state_dict({})
        self._saved_sums: dict[str, Any] = {}
        self._last_step = 0
        self._loaded = self._training = self._evaluating = self._is_over = self._has_seen_a_batch = False

    def __repr__(self) -> str:
        ramp = self.clock.ramp
        return f"{_OWNER}({self.pacing}, delay={ramp.delay}, duration={ramp.duration}, targets={self.listeners.names})"

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint: whom it tells, never how."""
        return f"{_OWNER}[{', '.join([*self.listeners.names, *([self.name] if self.name else [])])}]"

    @property
    def writes_scalar(self) -> str | None:
        """The path that this callback owns, where it is one."""
        return self.listeners.names[0] if len(self.listeners.names) == 1 else None

    @property
    def difficulty(self) -> float:
        """The difficulty of training now."""
        return self._difficulty

    @property
    def log_prefix(self) -> str:
        """What the logged names begin with."""
        return f"curriculum/{self.name}" if self.name else "curriculum"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finds those who listen; where nothing is going to be trained they are told the full difficulty at once."""
        self.listeners.refuse_second_writer(trainer, self.log_prefix)
        self.listeners.find(trainer, pl_module, required=stage == "fit")
        if stage == "fit":
            self._norm = LossNorm.of(pl_module, self.loss_norm, _OWNER)
        else:
            self.listeners.set_for_evaluation(self.eval_difficulty)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sets the first difficulty: workers of a plain DataLoader begin before training does."""
        if not self._loaded and trainer.global_step == 0:
            self._begin_anew()  # also where the callback is used again
        self._training = True
        self.listeners.set(self._difficulty)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Resolves the clock, finds the samplers, sets the difficulty: after a resume no epoch start may come."""
        ramp = self.clock.ramp
        ramp.begin(trainer, True, "allow_unfinished")
        self.clock.go_on(trainer)
        self._take_up(trainer)
        self.listeners.find_samplers(trainer, pl_module)
        for finding in findings_of_the_plan(trainer, self.pacing, ramp, self.allow_unfinished):
            self._reporter.report(trainer, finding)
        self._apply(trainer, anew=True)

    def on_rollback(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The ramp follows the run's clock, which goes on."""
        self.clock.ramp.go_on()
        self._loaded, self._saved_sums = False, {}
        self._apply(trainer, anew=True)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Loaders may have been built anew."""
        if self.listeners.wants_samplers:
            self.listeners.find_samplers(trainer, pl_module)
            self.listeners.set(self._difficulty)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Sets the difficulty of this batch."""
        if not self._is_over:
            self._apply(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds up the loss, and logs after an optimizer step."""
        if self._norm is not None:
            divided_by = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
            self._norm.add(outputs, self._difficulty, divided_by)
        if not self._has_seen_a_batch:
            self._has_seen_a_batch = True
            self._look_who_is_misled(trainer)
        step = trainer.global_step
        if step != self._last_step:
            self._last_step = step
            if log_now(trainer):
                self._log(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Some metrics of training are not logged in every step."""
        self._look_who_is_misled(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Asks the gate, and goes back to the difficulty of training."""
        if self._training and not trainer.sanity_checking:
            self.clock.after_validation(trainer, self._reporter)
        super().on_validation_end(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Says so where training has ended inside the ramp."""
        progress = self.clock.progress(trainer)
        finding = stopped_early(self.pacing, self.pacing.value(progress), progress)
        if finding is not None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._reporter.report(trainer, finding)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves the full difficulty behind, for whoever uses the model now."""
        self._training = False
        self.listeners.set_for_evaluation(self.eval_difficulty)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """An evaluation that broke must not leave its difficulty behind."""
        super().on_exception(trainer, pl_module, exception)
        self._training = False

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """A state that came with a checkpoint to evaluate is no beginning of a fit."""
        self._loaded = False

    def state_dict(self) -> dict[str, Any]:
        """Clock, gate and difficulty, plain."""
        return {
            "clock": self.clock.state_dict(),
            "difficulty": self._difficulty,
            "progress": self._progress,
            "pacing": self._described,
            "loss_norm": self._saved_sums if self._norm is None else self._norm.state_dict(),
            "findings": self._reporter.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up; the difficulty is set when the fit begins."""
        self._loaded = True
        self.clock.load_state_dict(state_dict["clock"])
        self._difficulty, self._progress = float(state_dict["difficulty"]), float(state_dict["progress"])
        self._described_before = state_dict["pacing"]
        self._saved_sums = dict(state_dict["loss_norm"])
        self._reporter.load_state_dict(state_dict["findings"])

    def _take_up(self, trainer: pl.Trainer) -> None:
        """Makes a loaded state the one in force, if there is one."""
        self._last_step, self._has_seen_a_batch = trainer.global_step, False
        if not self._loaded:
            return
        self._loaded = False
        if self._norm is not None:
            self._norm.load_state_dict(self._saved_sums)
        self._saved_sums = {}
        if self._described_before != self._described and trainer.is_global_zero:
            warnings.warn(
                f"{_OWNER}: the checkpoint was made with pacing {self._described_before}; the run goes on from the "
                f"same clock with {self._described}.",
                stacklevel=2,
            )

    def _apply(self, trainer: pl.Trainer, anew: bool = False) -> None:
        passed = self.clock.progress(trainer)
        progress = min(passed, 1.0) if self.pacing.ends else passed
        if progress == self._progress and not anew:
            return
        difficulty = self.pacing.value(progress)
        self._progress, self._is_over = progress, self.pacing.ends and progress == 1.0
        if difficulty != self._difficulty or anew:
            self._difficulty = difficulty
            self.listeners.set(difficulty)

    def _enter_eval(self) -> None:
        self._evaluating = True
        self.listeners.set_for_evaluation(self.eval_difficulty)

    def _leave_eval(self) -> None:
        # where nothing is trained, the full difficulty stays
        if self._evaluating and self._training:
            self.listeners.set(self._difficulty)
        self._evaluating = False

    def _look_who_is_misled(self, trainer: pl.Trainer) -> None:
        finding = None if self._is_over or self.pacing.name == "constant" else misled(trainer)
        if finding is not None:
            self._reporter.report(trainer, finding)

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = {"progress": min(self._progress, 1.0), **self.listeners.info()}
        if self.clock.gate is not None:
            values["gate_hold"] = float(self.clock.state.held)
        pl_module.log_dict({f"{self.log_prefix}/{key}": value for key, value in values.items()}, batch_size=1)
        pl_module.log(f"{self.log_prefix}/difficulty", self._difficulty, prog_bar=True, batch_size=1)
        ratio = self._norm.take() if self._norm is not None else None
        if ratio is not None:
            key = f"train/{self.name}/loss_norm" if self.name else "train/loss_norm"
            pl_module.log(key, ratio, batch_size=1, sync_dist=trainer.world_size > 1)
