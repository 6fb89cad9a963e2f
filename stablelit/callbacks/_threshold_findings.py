"""The findings of ThresholdSweepValidation: what a threshold, a score or a monitor looks like when it misleads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stablelit.callbacks._threshold_choice import Outcome, ThresholdChoice
from stablelit.findings import Finding, FindingReporter

_MOST, _FEW_POSITIVES = 0.95, 0.8


class PatientReports:
    """Raises a finding about the scores once it has held for a while, since every model begins untrained.

    Args:
        reporter: takes the findings that are due.
        patience: validations of a fit in a row; elsewhere one is enough.
    """

    def __init__(self, reporter: FindingReporter, patience: int) -> None:
        self.reporter, self.patience = reporter, patience
        self.held: dict[str, int] = {}
        self._pending: list[Finding] = []

    def report(self, trainer: Any, found: list[Finding]) -> None:
        """Takes what holds at this validation."""
        self.held = {finding.name: self.held.get(finding.name, 0) + 1 for finding in found}
        patience = self.patience if trainer.state.fn == "fit" else 1
        ready = [finding for finding in found if self.held[finding.name] >= patience]
        self._pending = [finding for finding in found if finding not in ready]
        for finding in ready:
            self.reporter.report(trainer, finding)

    def conclude(self, trainer: Any) -> None:
        """What still held at the last validation is raised, however short the run was."""
        for finding in self._pending:
            self.reporter.report(trainer, finding)
        self._pending = []


def findings_of(choice: ThresholdChoice, outcome: Outcome) -> Iterator[Finding]:
    """What is wrong with an evaluation; an untrained model may show any of these for a while."""
    facts = outcome.facts
    predicted, total, positives = int(facts["predicted"]), int(facts["total"]), facts["positives"]
    threshold = outcome.thresholds[0]
    evidence: dict[str, float | int | str] = {"predicted": predicted, "total": total, "threshold": threshold}
    if positives == 0 and choice.needs_truth:
        return
    if facts["distinct"] == 1:
        yield Finding(
            "constant-scores",
            "warning",
            f"all {total} scores are the same, so a threshold predicts all of them or none.",
            evidence,
            "look whether the scores depend on the input, and whether gradients reach what makes them "
            "(an activation that saturates in half precision ties too: give logits)",
        )
    elif predicted == 0 and positives != 0:
        yield Finding(
            "nothing-predicted",
            "warning",
            f"the chosen threshold {threshold:.4g} predicts none of {total}.",
            evidence,
            "the scores have no order that the choice could use: look at auprc beside prevalence, then at the training",
        )
    elif predicted >= _MOST * total and not positives >= _FEW_POSITIVES * total:
        share = "" if positives != positives else f" where {int(positives)} are positive"
        yield Finding(
            "nearly-all-predicted",
            "warning",
            f"the chosen threshold {threshold:.4g} predicts {predicted} of {total}{share}: predicting everything is "
            f"what F1 prefers where the scores say nothing.",
            evidence,
            "look at auprc beside prevalence, then at the training; a grid that is too coarse does this too",
        )
    if choice.grid is not None and threshold in (0.0, 1.0):
        yield Finding(
            "threshold-at-the-grids-end",
            "warning",
            f"the best of {choice.grid} thresholds is {threshold:g}, an end of the grid: the best of all lies outside "
            f"it or between its points.",
            evidence,
            "grid=None looks at every score, and is faster",
        )
    if "score" in facts and facts["score"] <= facts["null_q95"]:
        score, null = facts["score"], facts["null_q95"]
        yield Finding(
            "not-above-chance",
            "warning",
            f"{outcome.main.removeprefix('oracle_')} is {score:.3f} at the chosen threshold; scores without any "
            f"information reach {null:.3f} in one of twenty cases when they are treated alike.",
            {"score": score, "null_q95": null, "positives": positives, "total": total},
            "do not read progress from this number yet; look at auprc beside prevalence",
        )


def no_positives(outcome: Outcome, which: str) -> Finding:
    """Nothing to choose by."""
    total = int(outcome.facts["total"])
    return Finding(
        "no-positives",
        "warning",
        f"{which} no positives among {total} targets: F1 is undefined, and the threshold stays as it was.",
        {"total": total},
        "validate on data that have positives; with few of them, on all at once and not on a part",
    )


def nothing_chosen(target: str) -> Finding:
    """A prediction with whatever the module was built with."""
    return Finding(
        "threshold-not-chosen",
        "warning",
        f"no threshold was chosen yet, so the module predicts with the {target} that it has.",
        {"target": target},
        "trainer.predict(ckpt_path='best') with the checkpoint of a validated run",
    )


def optimistic_monitors(trainer: Any, optimistic: set[str], instead: str) -> Finding | None:
    """EarlyStopping, checkpoints or schedulers that follow a number measured on what the threshold was chosen on."""
    followers = [(type(c).__name__, getattr(c, "monitor", None)) for c in getattr(trainer, "callbacks", [])]
    for config in getattr(trainer, "lr_scheduler_configs", []):
        if getattr(config, "reduce_on_plateau", False):
            followers.append((type(config.scheduler).__name__, getattr(config, "monitor", None)))
    found = [f"{who} monitors {key}" for who, key in followers if key in optimistic]
    if not found:
        return None
    return Finding(
        "oracle-monitored",
        "warning",
        f"{'; '.join(found)}: it was measured on the labels that the threshold was chosen on, so the labels are used "
        f"a second time and the best value is a lucky one.",
        {"monitors": len(found)},
        f"monitor {instead}, or a loss on held-out data",
    )


def averaged_too(names: list[str], target: str) -> Finding:
    """A weight-averaging callback that comes first would average the threshold in what it saves."""
    return Finding(
        "listed-after-averaging",
        "warning",
        f"{', '.join(names)} stands before ThresholdSweepValidation and averages buffers: {target} in its checkpoints "
        f"will be a mean of thresholds. The callback's own state is right.",
        {"callbacks": ", ".join(names)},
        "list ThresholdSweepValidation before it",
    )
