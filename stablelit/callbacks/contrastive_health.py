"""Says why a contrastive run is at chance: where the loss stands, what the embeddings look like, and one cause.

Runs    on_fit_start (is the encoder trained?), on_train_start; on_train_batch_end: a sum every batch, and a look every
        `every_n_steps` optimizer steps and in the first; on_before_optimizer_step in the steps that are looked at
Reads   what `training_step` returns: loss, z0, z1, h; or the outputs of two submodules, by forward hooks; the loss also
        from the log; the scalar at `temperature`; the encoder's input, its gradients, its place in the optimizers
Writes  nothing
Logs    at every look ssl/excess, loss_over_chance, std_ratio, h_std_ratio, pos_cos, neg_cos, gap, align, uniform,
        rankme, rankme_frac, contrast_top1, enc_grad_norm, input_std, input_min, input_max, dead_frac: those that can be
        told; with a `name` it comes second (ssl/<name>/excess)
Resumes exactly; on several ranks the losses of the window are rank zero's
Limits  the loss of every step to the hundredth, of every fourth after; the rank at every look to step 200, at every
        eighth after; one wait for the device at a look, a few at the first batch; on several ranks the geometry is rank
        zero's; the gradient is that of the Trainer's `on_before_optimizer_step`, after a clip in manual optimisation; a
        compiled module may not call the hooks of its parts; no GPU path was run
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from stablelit.callbacks._contrastive_geometry import pages_of
from stablelit.callbacks._contrastive_look import ContrastiveLook
from stablelit.callbacks._contrastive_optimizers import gradient_norm, is_frozen, missing_from_optimizers
from stablelit.callbacks._contrastive_reader import ContrastiveReader
from stablelit.callbacks._contrastive_settings import (
    Chance,
    ContrastiveSettings,
    LossKind,
    gathers,
    read_settings,
    settings_findings,
)
from stablelit.callbacks._contrastive_state import VerdictKeeper
from stablelit.callbacks._epoch_log import log_step
from stablelit.callbacks._quantity import QuantityReader
from stablelit.errors import ContractError, bad_argument
from stablelit.findings import Action, Finding, FindingReporter
from stablelit.functional.contrastive_health import ContrastiveHealth
from stablelit.functional.contrastive_verdict import ContrastiveVerdict, contrastive_verdict
from stablelit.functional.schedules import check_count, check_number
from stablelit.nn import has_batch_norm

_OWNER = "ContrastiveHealthMonitor"


class ContrastiveHealthMonitor(pl.Callback):
    r"""Looks at a contrastive run, logs what it sees, and gives one verdict with its numbers.

    A raw contrastive loss says little: what is logged is its *excess*, 1 at chance and 0 at the floor,

    .. math:: e = \frac{L - L_{min}}{L_{chance} - L_{min}}, \qquad L_{chance} = \ln(2N - 1)

    for NT-Xent (:mod:`stablelit.functional.contrastive_levels` has those of other losses), beside what the embeddings
    look like. Verdicts, in the order in which they are asked: `non-finite-embeddings`, `encoder-not-optimised`,
    `blank-input`, `input-not-normalised`, `dead-encoder`, `collapsed-projector`, `mispaired-views`, `slow-start`,
    `worse-than-independent`, `weak-augmentation`, `dimensional-collapse`; the rules are in
    `stablelit/functional/contrastive_verdict.py`. An encoder with trainable parameters that no optimizer has raises
    before training, whatever `action` says. Findings about settings only ever warn: `accumulation-adds-no-negatives`,
    `negatives-not-gathered`, `batch-norm-per-rank`, `batch-norm-per-chunk`, `last-batch-is-small`,
    `batch-covers-the-data`, `unusual-temperature`.

    For a module that returns no embeddings give `projector`. What a module does not show (features, a temperature) is
    not judged, and is said once.

    Args:
        loss: key of what `training_step` returns, or the name of a logged metric.
        z0: key of the first view's embeddings, (N, d).
        z1: key of the second's, row by row of the same samples.
        h: key of the encoder's features, (2N, e).
        projector: path of the submodule that makes the embeddings, where they are not returned.
        encoder: path of the submodule that is pre-trained; None takes ``encoder`` where there is one.
        temperature: T, or its dotted path.
        chance: ``nt_xent``, ``supcon``, ``dcl``, ``clip``, ``info_nce:K``, ``byol`` (no level: only geometry is
            judged), the loss at chance, or a callable of N.
        scale: by which this implementation multiplies its loss.
        gathered: whether embeddings of all ranks are compared; None asks the module's attribute `gather`.
        every_n_steps: optimizer steps between two looks.
        max_rows: of both views together, that are looked at.
        rank_rows: most rows for the rank, those of a few steps before a look.
        warmup_steps: optimizer steps before which nothing is judged.
        patience_steps: optimizer steps that a state must last.
        action: what a verdict does: `warn`, `stop` or `raise`.
        name: tells two instances apart, which Lightning asks of all that are in a checkpoint.

    Attributes:
        verdict: the one that holds, with its numbers: a `ContrastiveVerdict`; ``ok`` before anything is judged.
        health: the numbers of the last look, a `ContrastiveHealth`.

    Raises:
        ConfigurationError: an argument out of range.
        ContractError: no embeddings, no loss, or nothing at a path (in the first steps; the message lists what is).
        FindingError: `encoder-not-optimised`, or any verdict with ``action="raise"``.

    Source: levels, spread and order are explained in `stablelit/functional/`; SimSiam (arXiv:2011.10566), RankMe
    (arXiv:2210.02885), alignment and uniformity (arXiv:2005.10242).

    Example:
        >>> from stablelit import ContrastiveHealthMonitor
        >>> callback = ContrastiveHealthMonitor(temperature=0.5)
    """

    keeps_books = True

    def __init__(
        self,
        loss: str = "loss",
        z0: str = "z0",
        z1: str = "z1",
        h: str = "h",
        projector: str | None = None,
        encoder: str | None = None,
        temperature: str | float = "temperature",
        chance: Chance = "nt_xent",
        scale: float = 1.0,
        gathered: bool | None = None,
        every_n_steps: int = 50,
        max_rows: int = 256,
        rank_rows: int = 4096,
        warmup_steps: int = 100,
        patience_steps: int = 50,
        action: Action = "warn",
        name: str | None = None,
    ) -> None:
        keys = {"loss": loss, "z0": z0, "z1": z1, "h": h}
        for key, value in {**keys, "projector": projector, "encoder": encoder, "name": name}.items():
            if not (isinstance(value, str) and value) and (value is not None or key in keys):
                raise bad_argument(_OWNER, key, value, "a non-empty string" + ("" if key in keys else " or None"))
        if not isinstance(temperature, str) or not temperature:
            temperature = check_number(_OWNER, "temperature", temperature, above=0.0)
        if gathered is not None and not isinstance(gathered, bool):
            raise bad_argument(_OWNER, "gathered", gathered, "True, False or None")
        self.every_n_steps = check_count(_OWNER, "every_n_steps", every_n_steps, 1)
        rows = check_count(_OWNER, "max_rows", max_rows, 4), check_count(_OWNER, "rank_rows", rank_rows, 4)
        self._look = ContrastiveLook(self.every_n_steps, *rows)
        self._kind = LossKind(chance, check_number(_OWNER, "scale", scale, above=0.0))
        if not callable(chance):
            self._kind.level(2, None)  # an unknown name is told here
        self.name, self._gathered = name, gathered
        self._loss_key, self._loss, self._has_loss = loss, QuantityReader(loss, _OWNER, "loss"), False
        self._reader = ContrastiveReader(keys, projector, encoder, temperature, _OWNER)
        self._reporter = FindingReporter(self.state_key, action)
        self._notes = FindingReporter(self.state_key, "warn")
        self.warmup_steps = check_count(_OWNER, "warmup_steps", warmup_steps, 0)
        self._keeper = VerdictKeeper(self.warmup_steps, check_count(_OWNER, "patience_steps", patience_steps, 0))
        self._settings: ContrastiveSettings | None = None
        self._step = 0
        self.verdict, self.health = ContrastiveVerdict("ok", severity="info"), ContrastiveHealth()

    def __repr__(self) -> str:
        name = f", name={self.name!r}" if self.name else ""
        return f"{_OWNER}(every_n_steps={self.every_n_steps}{name})"

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint."""
        return f"{_OWNER}[{self.name or ''}]"

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Finds the submodules.

        Raises:
            FindingError: an optimizer lacks trainable parameters of the encoder.
        """
        self._reader.attach(pl_module)
        if (missing := missing_from_optimizers(trainer, self._reader.encoder)) is not None:
            FindingReporter(self.state_key, "raise").report(trainer, missing)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins to listen; says at once where the encoder is frozen."""
        self._loss.attach(pl_module)
        self._settings, self._has_loss = None, False
        if trainer.global_step == 0:  # also where the callback is used again
            self._look.begin()
            self._keeper.begin()
            self._notes.load_state_dict({})
            self._tell(trainer, ContrastiveVerdict("ok", severity="info"))
        if is_frozen(self._reader.encoder):
            verdict = contrastive_verdict(ContrastiveHealth(is_frozen=True))
            if self._keeper.force(verdict.name):
                self._tell(trainer, verdict)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Listens to the submodules, and keeps what they give where it is wanted."""
        self._step = trainer.fit_loop.epoch_loop._batches_that_stepped + 1
        self._reader.open(self._look.wants(self._step))

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """The forward pass is over."""
        self._reader.close()

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """Measures the encoder's gradient, in steps that are looked at."""
        if self._reader.encoder is not None and self._look.is_due(self._step):
            norm = gradient_norm(trainer, optimizer, self._reader.encoder)
            if norm is not None:
                self._look.add_gradient(optimizer, norm)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds the loss to the window, of some steps; looks, where it is time."""
        wanted, takes_loss = self._look.wants(self._step), self._look.window.wants(self._step)
        if not wanted and not takes_loss:
            return
        n_rank = self._reader.n_pairs(outputs, batch)
        settings = self._settings or self._meet(trainer, pl_module, n_rank)
        loss = self._read_loss(pl_module, outputs, batch) if takes_loss else None
        if loss is not None:
            # automatic optimisation divides what is returned as "loss", and no other number
            divided = settings.accumulated if self._loss_key == "loss" else 1
            self._look.window.add(loss, n_rank * (settings.n_pairs // settings.n_rank), divided)
        if wanted and not trainer.fit_loop._should_accumulate():
            self._look.add(self._reader.pairs(outputs), self._step)
            if self._look.is_due(self._step):
                self._judge(trainer, settings, batch)
        self._reader.forget()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves the module."""
        self._leave(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leaves the module."""
        self._leave(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Losses, embeddings that are collected, and the verdict, as plain data and tensors; waits for the device."""
        return {
            "look": self._look.state_dict(),
            "keeper": self._keeper.state_dict(),
            "verdict": asdict(self.verdict),
            "findings": self._reporter.state_dict(),
            "notes": self._notes.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up."""
        self._look.load_state_dict(state_dict["look"])
        self._keeper.load_state_dict(state_dict["keeper"])
        self.verdict = ContrastiveVerdict(**state_dict["verdict"])
        self._reporter.load_state_dict(state_dict["findings"])
        self._notes.load_state_dict(state_dict["notes"])

    def _leave(self, pl_module: pl.LightningModule) -> None:
        self._loss.detach(pl_module)
        self._reader.detach()

    def _read_loss(self, pl_module: pl.LightningModule, outputs: Any, batch: Any) -> Tensor | None:
        try:
            loss = self._loss.read(pl_module, outputs, batch)
        except ContractError:
            if self._has_loss:  # a step that was left out
                return None
            raise
        self._has_loss = self._has_loss or loss is not None
        return loss

    def _meet(self, trainer: pl.Trainer, pl_module: pl.LightningModule, n_rank: int) -> ContrastiveSettings:
        """The first batch says how many pairs there are: says what follows from it."""
        gathered, temperature = gathers(pl_module, self._gathered), self._reader.temperature()
        self._settings = settings = read_settings(trainer, pl_module, self._kind, n_rank, gathered, temperature)
        encoder = "" if self._reader.encoder is not None else "\n  no encoder is known: name it with encoder="
        rank_zero_info(f"{_OWNER} of {type(pl_module).__name__}:\n  {settings}{encoder}")
        for finding in settings_findings(settings):
            self._notes.report(trainer, finding)
        return settings

    def _judge(self, trainer: pl.Trainer, settings: ContrastiveSettings, batch: Any) -> None:
        encoder = self._reader.encoder
        temperature = self._reader.temperature()
        health, logged = self._look.take(
            trainer, self._step, self._reader.input(), pages_of(batch), settings, temperature
        )
        self.health = replace(
            health,
            has_batch_norm=None if encoder is None else has_batch_norm(encoder),
            is_early=self._look.is_early(trainer, self._step),
            is_frozen=is_frozen(encoder),
        )
        prefix = f"ssl/{self.name}" if self.name else "ssl"
        log_step(trainer, {f"{prefix}/{key}": value for key, value in logged.items()})
        verdict = contrastive_verdict(self.health)
        if self._keeper.take(self._step, verdict):
            self._tell(trainer, verdict)
        elif verdict.name == self._keeper.name:
            self.verdict = verdict

    def _tell(self, trainer: pl.Trainer, verdict: ContrastiveVerdict) -> None:
        self.verdict = verdict
        self._reporter.load_state_dict({})  # one that comes again is told again
        if verdict.name != "ok":
            evidence: dict[str, float | int | str] = {**verdict.numbers}
            self._reporter.report(
                trainer, Finding(verdict.name, verdict.severity, verdict.message, evidence, verdict.remedy)
            )
