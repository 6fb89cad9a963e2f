"""Chooses the decision threshold on the validation data, over all scores in one pass, and keeps it for testing.

Runs    on_validation_batch_end (collects), on_validation_epoch_end (chooses, before checkpoints are written),
        on_validation_end, on_test_batch_end and on_test_epoch_end (measures the kept threshold)
Reads   `scores` and `targets` of what validation_step and test_step return, or `edge_scores()` and `edge_truth()`
Writes  `decision_threshold` of the module, where it has one, or `target`; the true threshold is in its own state
Logs    threshold/best, f1 (cross-fitted), oracle_f1, precision, recall, auprc, prevalence, f1_all, f1_fixed, f1_null,
        f1_null_q95, f1_low, f1_high; of graphs also edge_count, is_dag, shd, shd_empty; when testing test_f1 and so on
Resumes exactly: threshold and findings are in the checkpoint, so the best checkpoint brings its own threshold
Limits  more scores than `exact_max` are thinned to groups; edges are the module's own, not those of single samples; on
        a GPU the scores wait there until the epoch's end (the GPU path was not run)
"""

from __future__ import annotations

import math
from typing import Any, get_args

import lightning.pytorch as pl

from stablelit.callbacks._threshold_choice import ONLY_EDGES, Outcome, Select, ThresholdChoice
from stablelit.callbacks._threshold_edges import EdgeReader
from stablelit.callbacks._threshold_evaluation import Kind, ThresholdEvaluation
from stablelit.callbacks._threshold_findings import (
    PatientReports,
    averaged_too,
    findings_of,
    no_positives,
    nothing_chosen,
    optimistic_monitors,
)
from stablelit.callbacks._threshold_samples import Activation, SampleCollector, SampleSources
from stablelit.callbacks._threshold_target import ThresholdTarget
from stablelit.contracts import Quantity
from stablelit.errors import ConfigurationError, bad_argument
from stablelit.findings import Action, FindingReporter
from stablelit.functional.multilabel_thresholds import Average

_OWNER = "ThresholdSweepValidation"


class ThresholdSweepValidation(pl.Callback):
    r"""The best threshold of a binary, multilabel or graph-learning module, and honest numbers about it.

    ================  ==============================================================================================
    select            the threshold
    ================  ==============================================================================================
    `f1`, `fbeta`     with the largest F1 or F-beta over all scores
    `youden`          with the largest recall + specificity - 1
    `accuracy`        with the largest accuracy
    `fixed`           `fixed`; needs no truth
    `target_edges`    edges: that has `target_edges` of them (a graph); needs no truth
    `shd`             edges: with the smallest structural Hamming distance
    `min_dag`         edges: the smallest whose graph is acyclic; needs no truth
    `bic`             edges: acyclic with the smallest BIC, by `edge_statistics()`; needs no truth
    `stability`       edges: those that are among the first `stability_edges` in at least `stability_frequency` of
                      `half_sample_scores()`; needs no truth
    ================  ==============================================================================================

    A score measured on the labels that the threshold was chosen on is logged as `oracle_f1`. Beside it, `f1` is
    cross-fitted: samples (or `groups` of them, or graphs) are split in two, and each half is judged by the threshold of
    the other. `f1_null` is what scores without information reach when their threshold is chosen alike, `f1_all` what
    predicting everything gets, `f1_low` to `f1_high` a 95 % bootstrap interval over samples, groups or graphs.

    Everywhere, predicted is what has ``score >= threshold``. Testing and predicting never choose anew.

    Args:
        scores: a key of what `validation_step` returns, or a callable of (module, outputs, batch): (N, ...).
        targets: the same for 0 and 1 in the same shape.
        groups: the same for an integer a sample: samples that belong together (one patient, one event) stay on one side
            of the cross-fit and are drawn together for the interval.
        kind: `samples`, `edges`, or `auto`: edges where the module has `edge_scores()`.
        select: see the table.
        activation: what is applied to the scores: `none`, `sigmoid`, or `softmax` of two classes (the probability of
            the second). Never guessed. The threshold is in units after it.
        average: of several labels (the last dimension): `micro` pools all, `macro` shares one threshold, `per-label`
            has one each.
        beta: of `fbeta`; names then begin with f2 for beta 2.
        grid: None looks at every score; 21 at `linspace(0, 1, 21)` alone.
        fixed: the threshold of `fixed`, and of `f1_fixed` always.
        target_edges: how many edges a graph has.
        reversal_cost: of an edge the wrong way round in SHD, 1 or 2.
        bic_penalty: times log n is the price of an edge.
        stability_edges: edges of each half-sample's graph, q.
        stability_frequency: above 0.5 and at most 1.
        allow_cyclic_truth: take a true graph that has a cycle.
        dataloader_idx: which of several validation (and test) loaders.
        exact_max: how many scores are kept as they are, over all ranks.
        bins: groups that each `exact_max` scores are thinned to where there are more; a threshold's counts are then off
            by at most one part in `bins`.
        target: dotted path of where the threshold is written; None is `decision_threshold` where the module has it and
            this instance has no name.
        report_test: measure the kept threshold when testing; `test_step` must return what `validation_step` does.
        patience: validations in a row that a finding about the scores must hold before it is raised, since every model
            begins untrained; at the end of a fit it is raised at once.
        action: what a finding does: `warn`, `stop` or `raise`. Findings: `no-positives`, `constant-scores`,
            `nothing-predicted`, `nearly-all-predicted`, `threshold-at-the-grids-end`, `not-above-chance`,
            `oracle-monitored`, `listed-after-averaging`, `threshold-not-chosen`.
        name: distinguishes instances: ``threshold/<name>/best``.

    Raises:
        ConfigurationError: an argument out of range or without effect; testing when no threshold was chosen yet.
        ContractError: the module lacks what is read (before the fit, or in the sanity check).
        DataError: NaN scores, targets other than 0 and 1, a true graph with self-loops or cycles.

    Example:
        >>> from stablelit import ThresholdSweepValidation
        >>> callback = ThresholdSweepValidation(activation="sigmoid")  # validation_step returns logits as "scores"
    """

    def __init__(
        self,
        scores: Quantity = "scores",
        targets: Quantity = "targets",
        groups: Quantity | None = None,
        kind: Kind = "auto",
        select: Select = "f1",
        activation: Activation = "none",
        average: Average = "micro",
        beta: float = 1.0,
        grid: int | None = None,
        fixed: float = 0.5,
        target_edges: int | None = None,
        reversal_cost: int = 1,
        bic_penalty: float = 2.0,
        stability_edges: int | None = None,
        stability_frequency: float = 0.75,
        allow_cyclic_truth: bool = False,
        dataloader_idx: int = 0,
        exact_max: int = 1_000_000,
        bins: int = 4096,
        target: str | None = None,
        report_test: bool = True,
        patience: int = 5,
        action: Action = "warn",
        name: str | None = None,
    ) -> None:
        self.choice = ThresholdChoice(
            _OWNER,
            select,
            average,
            beta,
            grid,
            fixed,
            target_edges,
            reversal_cost,
            bic_penalty,
            stability_edges,
            stability_frequency,
        )
        if kind not in get_args(Kind):
            raise bad_argument(_OWNER, "kind", kind, ", ".join(get_args(Kind)))
        if kind == "samples" and select in ONLY_EDGES:
            raise bad_argument(_OWNER, "select", select, "a choice for samples", f"kind='edges' has {select!r}.")
        counts = {"dataloader_idx": (dataloader_idx, 0), "exact_max": (exact_max, 2), "bins": (bins, 16)}
        for label, (value, least) in {**counts, "patience": (patience, 1)}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise bad_argument(_OWNER, label, value, f"an int of {least} or more")
        for label, text in (("name", name), ("target", target)):
            if text is not None and (not isinstance(text, str) or not text):
                raise bad_argument(_OWNER, label, text, "a non-empty string or None")
        self.target, self.report_test, self.name = target, report_test, name
        sources = SampleSources(_OWNER, scores, targets, groups, activation)
        collector = SampleCollector(sources, self.choice, exact_max, bins)
        edges = EdgeReader(self.choice, allow_cyclic_truth)
        self._evaluation = ThresholdEvaluation(self.choice, collector, edges, kind, dataloader_idx)
        self._reporter = FindingReporter(self.state_key, action)
        self._reports = PatientReports(self._reporter, patience)
        self._place: ThresholdTarget | None = None
        # what a threshold is in units of: one of another kind is of no use after a resume with other settings
        self._units = [kind, activation, average]
        self.thresholds: list[float] | None = [fixed] if select == "fixed" and average == "micro" else None
        self.outcome: Outcome | None = None

    def __repr__(self) -> str:
        named = f", name={self.name!r}" if self.name else ""
        return f"{_OWNER}(select={self.choice.select!r}, average={self.choice.average!r}{named})"

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint."""
        return f"{_OWNER}[{self.name}]" if self.name else _OWNER

    @property
    def log_prefix(self) -> str:
        """What the logged names begin with."""
        return f"threshold/{self.name}" if self.name else "threshold"

    @property
    def writes_scalar(self) -> str | None:
        """The path that this callback owns; two owners of one path are an error."""
        return None if self._place is None else self._place.path

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finds what is read and written, before anything runs."""
        self._evaluation.check(pl_module)
        self._place = None
        # the threshold of `stability` is a frequency: compared with edge scores it would mean nothing
        if self.choice.select != "stability" and (self.target is not None or self.name is None):
            self._place = ThresholdTarget(pl_module, self.target, self.choice.average == "per-label", _OWNER)
        others: list[Any] = [other for other in getattr(trainer, "callbacks", []) if other is not self]
        for other in others:
            if self.writes_scalar is not None and getattr(other, "writes_scalar", None) == self.writes_scalar:
                raise ConfigurationError(
                    f"{_OWNER}: {type(other).__name__} in the same Trainer writes {type(pl_module).__name__}."
                    f"{self.writes_scalar} too, so the last one would win. Give one of them another target."
                )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes a restored threshold, and looks at who follows the numbers of this callback."""
        self._write()
        finding = optimistic_monitors(trainer, self._optimistic(), f"{self.log_prefix}/auprc")
        if finding is not None:
            self._reporter.report(trainer, finding)
        callbacks: list[Any] = list(trainer.callbacks)  # type: ignore[attr-defined]
        averaging = [type(c).__name__ for c in callbacks[: callbacks.index(self)] if hasattr(c, "_swap_models")]
        if averaging and self.writes_scalar is not None:
            self._reporter.report(trainer, averaged_too(averaging, self.writes_scalar))

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins to collect."""
        self._evaluation.begin(trainer)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collects; of the sanity check only to see that everything is there."""
        last = batch_idx + 1 == _batches_of(trainer, dataloader_idx) and not trainer.sanity_checking
        self._evaluation.add(trainer, pl_module, outputs, batch, dataloader_idx, last, "validation_step")

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Chooses, logs and writes."""
        if trainer.sanity_checking:
            self._evaluation.begin(trainer)
            return
        self.outcome = outcome = self._evaluation.choose(trainer, pl_module)
        # what could not be chosen stays as it was
        before = self.thresholds or outcome.thresholds
        kept = [old if math.isnan(new) else new for old, new in zip(before, outcome.thresholds, strict=True)]
        self.thresholds = None if all(map(math.isnan, kept)) else kept
        self._write()
        self._log(trainer, pl_module, outcome, "")
        if outcome.facts["positives"] == 0 and self.choice.needs_truth:
            which = "the true graph has" if self._evaluation.of_edges else "the validation data have"
            self._reporter.report(trainer, no_positives(outcome, which))
        self._reports.report(trainer, list(findings_of(self.choice, outcome)))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes again: a weight-averaging callback has exchanged the module's buffers since."""
        if not trainer.sanity_checking:
            self._write()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What still held at the last validation is raised, however short the run was."""
        self._reports.conclude(trainer)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the kept threshold.

        Raises:
            ConfigurationError: there is none.
        """
        if self.report_test and self.thresholds is None and self.choice.select != "fixed":
            raise ConfigurationError(
                f"{_OWNER}: no threshold was chosen yet, and testing never chooses one. Pass the checkpoint that has "
                f"it (trainer.test(ckpt_path='best')), run trainer.validate first, or give select='fixed'."
            )
        self._write()
        self._evaluation.begin(trainer)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collects."""
        if self.report_test:
            self._evaluation.add(trainer, pl_module, outputs, batch, dataloader_idx, False, "test_step")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measures the kept threshold."""
        if self.report_test:
            outcome = self._evaluation.measure(trainer, pl_module, self.thresholds)
            self._log(trainer, pl_module, outcome, "test_")

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the kept threshold, or says that the module predicts with its own."""
        if self.thresholds is None and self.writes_scalar is not None:
            self._reporter.report(trainer, nothing_chosen(self.writes_scalar))
        self._write()

    def on_rollback(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Makes a state that was loaded in the middle of a fit take effect."""
        self._write()

    def state_dict(self) -> dict[str, Any]:
        """The thresholds, on which graph they were chosen, and what was seen."""
        return {
            "thresholds": None if self.thresholds is None else list(self.thresholds),
            "units": list(self._units),
            "truth": self._evaluation.truth,
            "held": dict(self._reports.held),
            "findings": self._reporter.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up; a threshold of other scores than these, or for other labels, is left behind."""
        thresholds = state_dict["thresholds"]
        if self.choice.select != "fixed":
            usable = thresholds is not None and state_dict["units"] == self._units
            self.thresholds = list(thresholds) if usable else None
        self._evaluation.truth, self._reports.held = state_dict["truth"], dict(state_dict["held"])
        self._reporter.load_state_dict(state_dict["findings"])

    def figures(self) -> dict[str, Any]:
        """The curve of the last validation as a matplotlib figure; empty where there is none."""
        if self.outcome is None or self.outcome.curve is None:
            return {}
        from stablelit.callbacks._threshold_figure import draw_curve

        return {self.log_prefix.replace("/", "_"): draw_curve(self.outcome, self.choice)}

    def _write(self) -> None:
        if self._place is not None and self.thresholds is not None:
            self._place.write(self.thresholds)

    def _log(self, trainer: Any, pl_module: pl.LightningModule, outcome: Outcome, before: str) -> None:
        values = {f"{self.log_prefix}/{before}{name}": float(value) for name, value in outcome.values.items()}
        main = f"{self.log_prefix}/{before}{outcome.main}"
        synchronise = trainer.world_size > 1  # all ranks have the same; Lightning asks for it all the same
        pl_module.log(main, values.pop(main), prog_bar=True, batch_size=1, sync_dist=synchronise)
        pl_module.log_dict(values, batch_size=1, sync_dist=synchronise)

    def _optimistic(self) -> set[str]:
        if not self.choice.needs_truth:
            return set()
        names = {f"oracle_{self.choice.score_name}", "precision", "recall", "shd"}
        return {f"{self.log_prefix}/{name}" for name in names}


def _batches_of(trainer: Any, dataloader_idx: int) -> float:
    batches = trainer.num_val_batches
    return float(batches[dataloader_idx]) if dataloader_idx < len(batches) else float("inf")
