"""Looks at what a variational module codes: units, nats, information; and says when a KL term does no good.

Runs    on_train_start; inside the first `training_step`, and inside every `gradient_every`-th; on_train_batch_end and
        on_validation_batch_end (sums); on_validation_end, or on_train_epoch_end where no validation was (evaluation)
Reads   what `training_step` and `validation_step` return: kl, recon, kl_per_dim, mean, logvar; the KL and recon of
        training also from the log; the scalar at `weight`; a KLCapCallback in the Trainer, by its attributes
Writes  nothing
Logs    posterior/active_units, active_units_by_mean, kl_per_dim_max, mutual_information, marginal_kl, mean_sigma,
        rms_mean, kl_share, gradient_share: once an evaluation, those there is something for
Resumes exactly: history and sums are in the checkpoint; on several ranks rank zero's sums inside an epoch
Limits  one wait for the device an evaluation, one after the first batch of all; an evaluation is the end of a
        validation or of an epoch, so a run with neither sees none; where 64 batches of training or more lie between
        two, it looks at every fourth; mutual_information cannot exceed ln(buffer); only the first validation loader;
        first step and `gradient_every` keep the graph for a backward pass or two (manual optimisation: and copy its
        activations) and run uncompiled; the GPU path was not run
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from stablelit.callbacks._batch import sample_count
from stablelit.callbacks._constant_terms import without_gradient, without_motion
from stablelit.callbacks._epoch_log import log_epoch
from stablelit.callbacks._first_step import FirstStepTap
from stablelit.callbacks._gradient_share import gradient_share
from stablelit.callbacks._posterior_evaluation import evaluation, what_is_missing
from stablelit.callbacks._posterior_findings import FIELDS, judge, reduction_suspect, unfinished_warmup
from stablelit.callbacks._posterior_reader import PosteriorReader, spread_of_features
from stablelit.callbacks._posterior_sums import TrainSums, ValidationSums
from stablelit.callbacks._ranks import gather_from_ranks
from stablelit.errors import bad_argument
from stablelit.findings import Action, Finding, FindingReporter
from stablelit.functional.schedules import check_count, check_number

_OWNER = "PosteriorMonitor"
_LONGEST_HISTORY = 500
# where so many batches lie between two evaluations, every fourth of them says enough
_MANY_BATCHES, _STRIDE = 64, 4


class PosteriorMonitor(pl.Callback):
    r"""Says what the latent code of a VAE holds, and names seven ways in which its KL term goes wrong.

    Logged are the active units (KL_j above `active_threshold`, and Burda's Var_x mu_j > 0.01), the largest KL of a
    dimension, the two parts of the mean KL (:func:`stablelit.functional.posterior.mutual_information`), the mean sigma
    and the root mean square of mu over validation, the share of the KL term of the loss,
    ``|w KL| / (|w KL| + |loss - w KL|)``, and its gradient's size beside that of the reconstruction.

    Findings: `posterior-collapse`, `over-coding`, `overfitting`, `cap-ineffective`, `reduction-mismatch` (the rules and
    their reasons are in `_posterior_findings.py`), `constant-loss-term` (nine tenths of the loss, and no gradient in
    the first step or no motion over an epoch), `warmup-never-finishes` (where KLCapCallback was told to allow it).

    Of a module that only logs a KL it reads that; what is missing for the rest it says once.

    Args:
        kl: key of the steps' outputs, or the name of a logged metric: nats per sample.
        recon: likewise, the negative log likelihood.
        kl_per_dim: key of the outputs, (B, d), nats.
        mean: key of the outputs, posterior means (B, d).
        logvar: key of the outputs, log variances (B, d).
        encode: name of a method that gives (mean, logvar) of a validation batch, where its step does not return them.
        neg_elbo: name of a logged validation metric, recon + KL in nats, where validation does not return its terms.
        weight: dotted path of the KL's weight.
        active_threshold: nats, above which a dimension counts as active.
        patience: evaluations a state must last for a finding; trends are looked for over twice as many.
        buffer: posteriors of a validation that the mutual information is estimated from.
        gradient_every: optimizer steps between two looks at the gradients; 0 is none.
        action: what a finding does: `warn`, `stop` or `raise`.
        name: distinguishes instances in logs: ``posterior/<name>/active_units``.

    Raises:
        ConfigurationError: an argument out of range.
        ContractError: no KL in the first batches.

    Example:
        >>> from stablelit import PosteriorMonitor
        >>> monitor = PosteriorMonitor(kl="train_kl", neg_elbo="val_loss")  # for a module that logs both
    """

    keeps_books = True

    def __init__(
        self,
        kl: str = "kl",
        recon: str = "recon",
        kl_per_dim: str = "kl_per_dim",
        mean: str = "mean",
        logvar: str = "logvar",
        encode: str | None = None,
        neg_elbo: str | None = None,
        weight: str = "kl_weight",
        active_threshold: float = 0.01,
        patience: int = 5,
        buffer: int = 512,
        gradient_every: int = 0,
        action: Action = "warn",
        name: str | None = None,
    ) -> None:
        keys = {"kl": kl, "recon": recon, "kl_per_dim": kl_per_dim, "mean": mean, "logvar": logvar, "weight": weight}
        for key, value in {**keys, "encode": encode, "neg_elbo": neg_elbo, "name": name}.items():
            if not (isinstance(value, str) and value) and (value is not None or key in keys):
                raise bad_argument(_OWNER, key, value, "a non-empty string" + ("" if key in keys else " or None"))
        self.active_threshold = check_number(_OWNER, "active_threshold", active_threshold, above=0.0)
        self.patience = check_count(_OWNER, "patience", patience, 3)
        self.buffer = check_count(_OWNER, "buffer", buffer, 2)
        self.gradient_every = check_count(_OWNER, "gradient_every", gradient_every, 0)
        self.name, self.neg_elbo = name, neg_elbo
        self._reader = PosteriorReader(keys, encode, _OWNER)
        self._reporter = FindingReporter(self.state_key, action)
        self._taps: list[FirstStepTap] = []
        self._validation: ValidationSums | None = None
        self._train, self._has_begun, self._said = TrainSums(), False, False
        self._is_automatic, self._stride = True, 1
        self._history: list[dict[str, float]] = []
        self._gradient_shares: list[float] = []
        self._suspect: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"{_OWNER}(kl={self._reader.keys['kl']!r}, patience={self.patience}, buffer={self.buffer})"

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint."""
        return f"{_OWNER}[{self.name or ''}]"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Finds the weight; before the first step of a run, arranges to look into it."""
        self._reader.attach(pl_module)
        self._is_automatic = bool(pl_module.automatic_optimization)
        between = (trainer.num_training_batches, getattr(trainer, "val_check_batch", None))
        few = min(math.inf if batches is None else batches for batches in between) < _MANY_BATCHES
        self._stride = 1 if few else _STRIDE
        if trainer.global_step == 0:  # also where the callback is used again
            self._train, self._has_begun, self._said = TrainSums(), False, False
            self._history, self._gradient_shares, self._suspect = [], [], {}
            self._reporter.load_state_dict({})
            self._tap(pl_module, lambda outputs: self._look_for_constants(trainer, pl_module, outputs))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Arranges to look at the gradients, every `gradient_every` optimizer steps."""
        if self.gradient_every and trainer.global_step % self.gradient_every == 0:
            self._tap(pl_module, lambda outputs: self._look_at_gradients(pl_module, outputs))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds the batch to the sums; where an evaluation has many batches, every fourth."""
        if batch_idx % self._stride:
            return
        accumulated = trainer.accumulate_grad_batches if self._is_automatic else 1
        values, kl_per_dim = self._reader.train_values(pl_module, outputs, batch, accumulated)
        self._train.add(values, kl_per_dim)
        if not self._has_begun:
            self._has_begun = True
            self._report(trainer, unfinished_warmup(trainer, self._writer_of_the_weight(trainer)))
            if "~recon" in values:
                self._suspect = reduction_suspect(float(values["~recon"].mean()), *spread_of_features(batch))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins the sums of a validation."""
        self._validation = None
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            batches = trainer.num_val_batches[0] if trainer.num_val_batches else 1
            rows = math.ceil(self.buffer / trainer.world_size)
            self._validation = ValidationSums(rows, math.ceil(rows / batches) if 0 < batches < math.inf else rows)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Adds the batch to the sums."""
        if self._validation is not None and dataloader_idx == 0:
            self._validation.add(*self._reader.validation_values(pl_module, outputs, batch, sample_count(batch)))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluates."""
        if self._validation is not None and self._train.n:
            self._evaluate(trainer, pl_module, trainer.fit_loop.epoch_loop._batches_that_stepped)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluates what no validation has."""
        if self._train.n:
            self._evaluate(trainer, pl_module, trainer.fit_loop.epoch_loop._batches_that_stepped - 1)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves the module."""
        self._leave(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leaves the module."""
        self._leave(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The history, the sums and what was reported, as plain data."""
        return {
            "history": [[record[field] for field in FIELDS] for record in self._history],
            "train": self._train.plain(),
            "gradient_shares": list(self._gradient_shares),
            "suspect": dict(self._suspect),
            "has_begun": self._has_begun,
            "findings": self._reporter.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up."""
        self._history = [dict(zip(FIELDS, row, strict=True)) for row in state_dict["history"]]
        self._train = TrainSums.of(state_dict["train"])
        self._gradient_shares = list(state_dict["gradient_shares"])
        self._suspect, self._has_begun = dict(state_dict["suspect"]), bool(state_dict["has_begun"])
        self._reporter.load_state_dict(state_dict["findings"])

    def _tap(self, pl_module: pl.LightningModule, look: Any) -> None:
        self._taps = [tap for tap in self._taps if not tap.spent]
        self._taps.append(FirstStepTap(pl_module, look))

    def _leave(self, pl_module: pl.LightningModule) -> None:
        for tap in self._taps:
            tap.release()
        self._taps = []
        self._reader.detach(pl_module)

    def _look_for_constants(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any) -> None:
        self._report(trainer, without_gradient(trainer, pl_module, outputs, _OWNER))

    def _look_at_gradients(self, pl_module: pl.LightningModule, outputs: Any) -> None:
        self._taps = []
        keys, weight = self._reader.keys, self._reader.weight
        recon, kl = (outputs.get(keys[k]) if isinstance(outputs, Mapping) else None for k in ("recon", "kl"))
        if weight is not None and isinstance(recon, Tensor) and isinstance(kl, Tensor):
            share = gradient_share(pl_module, recon, kl, weight)
            self._gradient_shares += [] if share is None else [share]

    def _writer_of_the_weight(self, trainer: pl.Trainer) -> Any:
        callbacks: list[Any] = list(getattr(trainer, "callbacks", []))
        mine = self._reader.keys["weight"]
        return next((callback for callback in callbacks if getattr(callback, "writes_scalar", None) == mine), None)

    def _evaluate(self, trainer: pl.Trainer, pl_module: pl.LightningModule, step: int) -> None:
        validation, bound = self._validation, math.nan
        if validation is not None and self.neg_elbo is not None:
            bound = float(trainer.callback_metrics.get(self.neg_elbo, math.nan))
        mine = {
            "train": self._train.plain(),
            "validation": {} if validation is None else validation.plain(),
            "shares": self._gradient_shares,
        }
        self._train, self._gradient_shares, self._validation = TrainSums(), [], None
        found = evaluation(gather_from_ranks(trainer, mine), self.active_threshold, bound)
        prefix = f"posterior/{self.name}" if self.name else "posterior"
        log_epoch(trainer, {f"{prefix}/{name}": value for name, value in found.logged.items()}, step=step)
        self._history = [*self._history, found.record][-_LONGEST_HISTORY:]
        if not self._said:
            self._said = True
            if missing := what_is_missing(found, self._reader.keys, validation is not None):
                rank_zero_info(f"{_OWNER}: of {type(pl_module).__name__} it cannot tell {missing}.")
        controller = getattr(self._writer_of_the_weight(trainer), "controller", None)
        cap = getattr(controller, "max_weight", None)
        for finding in [*judge(self._history, self.patience, cap, self._suspect), without_motion(found.train)]:
            self._report(trainer, finding)

    def _report(self, trainer: pl.Trainer, finding: Finding | None) -> None:
        if finding is not None:
            self._reporter.report(trainer, finding)
