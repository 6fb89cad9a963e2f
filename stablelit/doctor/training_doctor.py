"""Says why a run goes wrong: looks at it from inside, and names one cause with its numbers and what to change.

Runs    on_train_start; in a look (each of the first five steps, then as often as the budget allows) from
        on_train_batch_start to on_train_batch_end; in every step on_before_backward and on_train_batch_end (the loss);
        in two batches of a validation, also of the sanity check; on_validation_end and on_train_epoch_end (what is
        logged); on_train_end, on_exception
Reads   batches, losses, gradients, weights, activations, modes of layers, optimizers, schedules, what is logged, and
        what other callbacks have found
Writes  nothing
Logs    nothing; findings go to findings.jsonl
Resumes exactly where `every_n_steps` is given; else but for when it looks
Limits  rank zero looks and judges, at every 25th step where others must stop with it; on an accelerator losses are
        read in looks and judgements, so that one that is not finite is seen at the next of these; what is sampled
        depends on the clock unless `every_n_steps` is given; a compiled module shows no activations and no
        operations; no GPU path was run
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal, get_args

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from stablelit.doctor.diagnosis import Diagnosis
from stablelit.doctor.evidence import Evidence
from stablelit.doctor.examination import Examination
from stablelit.doctor.rule import Rule
from stablelit.doctor.verdicts import Verdicts
from stablelit.errors import bad_argument
from stablelit.findings import Action, Finding
from stablelit.functional.schedules import check_count, check_number

Mode = Literal["observe", "advise"]
_OWNER = "TrainingDoctor"
# where ranks decide together, they must do it at the same steps
_SHARED_EVERY = 25


class TrainingDoctor(pl.Callback):
    """Watches any Lightning training, and names the cause where it fails; silent where it does not.

    Three kinds of rules look at a run. *Structural* ones are exact and speak within a step of what they see: parameters
    that no optimizer has, gradients that are not zeroed, a module left in eval mode, rows shared by training and
    validation, softmax twice. *Curve* rules test losses, rates and norms against their own noise, and speak when they
    have held at two judgements in a row. *Family* rules take up what the monitors of KL terms, contrastive losses and
    graphs have found. One cause is told, at most two beside it, and nothing that follows from them.

    It changes nothing of the run. Where a remedy has to act (skip a step that is not finite, go back to the last good
    state), the finding names the callback that does: `NonFiniteGuard`.

    Args:
        mode: ``advise`` warns as soon as something is found; ``observe`` keeps it for the end.
        mute: names of rules that are left out.
        budget: share of the time of training that looking may cost.
        every_n_steps: looks and judges at this distance instead, so that what is seen does not depend on the clock.
        action: what a finding does: `warn`, `stop` or `raise`. On several ranks, rank zero judges for all.
        rules: more rules, of somebody's own.
        name: tells two instances apart.

    Attributes:
        findings: what is the matter, the primary cause first.
        notes: of severity `info`.
        diagnosis: both, with consequences, rules that passed and rules that could not be checked.
        evidence: all that was seen.

    Raises:
        ConfigurationError: an argument out of range; a name in `mute` that is no rule.
        FindingError: with ``action="raise"``.

    Example:
        >>> from stablelit import TrainingDoctor
        >>> callback = TrainingDoctor(mute=["overfitting"])
    """

    keeps_books = True

    def __init__(
        self,
        mode: Mode = "advise",
        mute: Sequence[str] = (),
        budget: float = 0.01,
        every_n_steps: int | None = None,
        action: Action = "warn",
        rules: Sequence[Rule] = (),
        name: str | None = None,
    ) -> None:
        if mode not in get_args(Mode):
            raise bad_argument(_OWNER, "mode", mode, ", ".join(get_args(Mode)))
        if name is not None and not (isinstance(name, str) and name):
            raise bad_argument(_OWNER, "name", name, "a non-empty string or None")
        self.mode, self.name, self.action = mode, name, action
        self._verdicts = Verdicts(_OWNER, self.state_key, action, mode == "observe", rules, mute)
        self._every = every_n_steps if every_n_steps is None else check_count(_OWNER, "every_n_steps", every_n_steps, 1)
        self._budget = check_number(_OWNER, "budget", budget, above=0.0)
        self._keeps_verdict = False
        self._begin_anew()

    def __repr__(self) -> str:
        return f"{_OWNER}(mode={self.mode!r}, mute={sorted(self._verdicts.book.mute)!r})"

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint."""
        return f"{_OWNER}[{self.name or ''}]"

    @property
    def evidence(self) -> Evidence:
        """All that was seen."""
        return self._examination.evidence

    @property
    def diagnosis(self) -> Diagnosis:
        """What is the matter as it stands."""
        return self._verdicts.diagnosis(self.evidence)

    @property
    def findings(self) -> list[Finding]:
        """Warnings and worse, the primary cause first."""
        return list(self.diagnosis.findings)

    @property
    def notes(self) -> list[Finding]:
        """What is worth a look and no alarm."""
        return list(self.diagnosis.notes)

    def hear_finding(self, finding: Finding) -> None:
        """Another callback has found something."""
        # what is found before training begins is found again where the run goes on
        if finding.source != self.state_key and finding not in self.evidence.raised:
            self.evidence.raised.append(finding)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Forgets another run, where the callback is used again."""
        self._keeps_verdict = stage != "fit" and self._has_trained
        if stage == "fit" and self._has_trained:
            self._begin_anew()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reads the settings; the probes find what they look at."""
        self._has_trained = True
        together = self._verdicts.meet(trainer)
        self._examination.begin(trainer, pl_module, (self._every or _SHARED_EVERY) if together else self._every)
        self._verdicts.judge(trainer, self.evidence, structural=True)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begins a look, where it is time."""
        self._examination.batch_start(trainer, pl_module, batch, batch_idx)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Keeps the loss; in a look the graph is looked at."""
        self._examination.before_backward(trainer, pl_module, loss)

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """In a look, gradients are looked at."""
        self._examination.after_backward(trainer, pl_module)

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """Keeps the rate; in a look, norms are taken."""
        self._examination.before_step(trainer, pl_module, optimizer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keeps the loss; ends a look; judges, where it is time."""
        something, everything = self._examination.batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if something:
            began = time.perf_counter()
            self._verdicts.judge(trainer, self.evidence, structural=not everything)
            if everything:
                self._examination.judged(time.perf_counter() - began, self._verdicts.book.suspects)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A few batches of it are looked at."""
        if trainer.state.fn == "fit":
            self._examination.validation_start(trainer, pl_module)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begins a look into validation."""
        self._examination.validation_batch_start(trainer, pl_module, batch)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Ends it."""
        if trainer.state.fn == "fit":
            self._examination.validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes what validation has logged."""
        if trainer.state.fn == "fit":
            self._examination.validation_end(trainer, pl_module)
            if not trainer.sanity_checking:
                self._verdicts.judge(trainer, self.evidence, structural=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What the epoch has logged is there a hook later."""
        self._examination.epoch_end(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes what the epoch before has logged."""
        self._examination.epoch_start()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judges once more, and says in a line how it stands."""
        self._examination.end()
        self._verdicts.judge(trainer, self.evidence, structural=False)
        self._examination.leave(trainer, pl_module)
        if trainer.is_global_zero:
            rank_zero_info(self.summary())

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """What ended the run may have a cause that is known."""
        self._examination.leave(trainer, pl_module)
        if isinstance(exception, KeyboardInterrupt | SystemExit) or trainer.state.fn != "fit":
            return
        # nothing of ours may stand between a person and what has happened: a device that failed does not answer, and
        # a finding that raises would come in its place
        self._verdicts.only_warn()
        with suppress(Exception):
            self._examination.break_off(pl_module)
            self._verdicts.judge(trainer, self.evidence, structural=True)

    def summary(self) -> str:
        """How the run stands, in a line each for a cause; one line where it is healthy."""
        return self._verdicts.summary(self.evidence)

    def state_dict(self) -> dict[str, Any]:
        """What was seen, found and told, as plain data and tensors."""
        return {"examination": self._examination.state_dict(), "verdicts": self._verdicts.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it up; a test of the best checkpoint leaves the verdict of the whole run as it is."""
        if self._keeps_verdict:
            return
        self._begin_anew()
        self._examination.load_state_dict(state_dict["examination"])
        self._verdicts.load_state_dict(state_dict["verdicts"])

    def keep_verdict(self) -> None:
        """What was loaded is of a fit that another process has made: a test after it leaves its verdict alone."""
        self._has_trained = True

    def _begin_anew(self) -> None:
        self._examination = Examination(self._budget, self.hear_finding)
        self._verdicts.begin()
        self._has_trained = False
