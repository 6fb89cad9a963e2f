"""Which pictures a run is shown by: what it is judged by first, then what drives it, then how it was trained."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import count
from typing import Any

import numpy as np

from stablelit.doctor.evidence.curve import Curve
from stablelit.doctor.evidence.hyperparameters import number_named
from stablelit.doctor.evidence.settings import Settings
from stablelit.doctor.log_run import NAMES
from stablelit.doctor.readers.tag_guess import Tag, guess_tags
from stablelit.report.asked_curves import AskedCurves
from stablelit.report.panel import Line, Mark, Panel
from stablelit.report.references import is_compared, is_level, levels_of
from stablelit.report.run_record import RunRecord
from stablelit.report.units import unit_of

# of what training logs beside its loss: measures of it, not terms of it
_NOT_A_TERM = re.compile(
    r"(^|[/_])(loss|loss_norm|accuracy|acc|top1|top5|f1|excess|mask_rate|temperature|tau|error|angular_error|epoch|step"
    r"|lr|perplexity|chance_loss)($|_)"
)
_MOST_TERMS, _MOST_COMPARED, _MOST_ASKED = 6, 4, 12
_VALIDATION = ("val", "valid", "validation")
# the colour of what drives, in every picture
_SCHEDULE = 2


class PanelChooser:
    """Chooses the panels of one run.

    Args:
        record: the run.
        asked: what its pictures of curves show (:func:`stablelit.report.asked_curves.asked_curves`).
    """

    def __init__(self, record: RunRecord, asked: AskedCurves | None = None) -> None:
        self.record, self.asked = record, asked or {}
        curves = record.curves
        # a metric logged per step and per epoch is there three times
        self.curves = {
            name: curve
            for name, curve in curves.by_name.items()
            if len(curve) and not (name.endswith("_epoch") and name[: -len("_epoch")] in curves.by_name)
        }
        self.roles = guess_tags(Tag(name, len(curve)) for name, curve in self.curves.items())
        self.marks = [
            Mark(at, place, finding.severity)
            for place, finding in enumerate(record.findings, start=1)
            if finding.severity != "info" and (at := curves.at_step(finding.step)) is not None
        ]

    def panels(self) -> list[Panel]:
        """All that there is something to draw for."""
        of_the_model = (self._objective(), self._loss(), self._terms(), self._kl(), self._difficulty(),
                        self._schedules(), self._threshold(), self._gradients())  # fmt: skip
        tried = (*of_the_model, *self._compared(), self._seconds())
        chosen = [panel for panel in tried if panel is not None]
        return [*chosen, *self._asked(chosen)]

    def _panel(self, title: str, lines: Iterable[Line | None], **more: Any) -> Panel | None:
        held = [line for line in lines if line is not None]
        if not any(not line.level for line in held):
            return None
        return Panel(title, held, self.record.curves.axis, **more)

    def _line(self, name: str | None, label: str, slot: int = 0, level: bool = False) -> Line | None:
        curve = self.curves.get(name) if name else None
        if curve is None:
            return None
        if level:
            known = curve.finite()
            if len(known) and known.values.min() == known.values.max():
                curve = Curve(known.steps[-1:], known.values[-1:])
        return Line(label, curve, level, slot, metric=str(name))

    def _levels(self, name: str) -> list[Line | None]:
        return [self._line(of, level, level=True) for level, of in levels_of(name, self.curves.keys()).items()]

    def _rates(self) -> list[Line]:
        line = self._line("lr" if "lr" in self.curves else self.roles.get("lr"), "", _SCHEDULE)
        return [line] if line is not None else []

    def _objective(self) -> Panel | None:
        metric = self.record.metric
        if metric is None or metric not in self.curves:
            return None
        lines = [
            self._line(metric, metric.partition("/")[0] if "/" in metric else metric, 0),
            self._line(self._twin(metric), "train", 1),
            *self._levels(metric),
        ]
        way = "more is better" if self.record.mode == "max" else "less is better"
        note = f"What the best checkpoint is chosen by: {way}."
        if self.record.metric_is_guessed:
            note = "No objective is known: taken by its name."
        rates = self._rates() if self._loss_is_the_objective() else []
        return self._panel(
            metric, lines, unit=unit_of(metric), note=note, marks=self.marks, lower=rates, lower_title="learning rate"
        )

    def _twin(self, metric: str) -> str | None:
        """The same quantity in training."""
        group, _, quantity = metric.rpartition("/")
        if "loss" in quantity or (self.record.metric_is_guessed and metric == self.roles.get("val_loss")):
            return self.roles.get("loss") if metric != self.roles.get("loss") else None
        return f"train/{quantity}" if group != "train" else None

    def _loss_is_the_objective(self) -> bool:
        metric, train = self.record.metric, self.roles.get("loss")
        return metric in self.curves and (train is None or train in (metric, self._twin(str(metric))))

    def _loss(self) -> Panel | None:
        train, validation = self.roles.get("loss"), self.roles.get("val_loss")
        if train is None or self._loss_is_the_objective():
            return None  # the objective's picture is this one
        # a likelihood of validation is not the loss with its penalties
        same = validation is not None and "loss" in validation
        lines = [
            self._line(train, "train", 1),
            self._line(validation, "val", 0) if same else None,
            *self._levels(train),
        ]
        return self._panel(
            "Loss", lines, marks=self.marks, lower=self._rates(), lower_title="learning rate", unit=unit_of(train)
        )

    def _compared(self) -> list[Panel]:
        """Other scores of validation that have a level, or the same in training, beside them."""
        taken = {self.record.metric, self.roles.get("val_loss"), "val/kl", "val/recon", "val/loss"}
        found = []
        for name in self.curves:
            words = name.partition("/")[0] if "/" in name else name.partition("_")[0]
            if words not in _VALIDATION or name in taken or is_level(name):
                continue
            levels = self._levels(name)
            twin = self._line("train" + name.removeprefix(words), "train", 1)
            if levels or twin is not None:
                lines = [self._line(name, "val", 0), twin, *levels]
                found.append(self._panel(name, lines, unit=unit_of(name)))
        return [panel for panel in found if panel is not None][:_MOST_COMPARED]

    def _terms(self) -> Panel | None:
        names = [
            name
            for name in self.curves
            if name.startswith("train/") and not is_level(name) and not _NOT_A_TERM.search(name)
        ][:_MOST_TERMS]
        if len(names) < 2:
            return None
        lines = [self._line(name, name.removeprefix("train/"), slot) for slot, name in enumerate(names)]
        return self._panel("Components of the loss", lines, note="As they were logged, before their weights.")

    def _kl(self) -> Panel | None:
        train = "train/kl" if "train/kl" in self.curves else self.roles.get("kl")
        weight = "kl/weight" if "kl/weight" in self.curves else self.roles.get("kl_weight")
        lines = [
            self._line("val/kl", "val", 0),
            self._line(train, "train", 1),
            self._line("kl/target", "target", level=True),
        ]
        below = self._line(weight, "", _SCHEDULE)
        return self._panel("KL", lines, unit="nats", lower=[below] if below else [], lower_title="weight of the KL")

    def _difficulty(self) -> Panel | None:
        below = self._line(self.roles.get("difficulty"), "", _SCHEDULE)
        if below is None:
            return None
        name, title, note = self.roles.get("loss"), "Loss under a curriculum", "Below it the difficulty."
        if "train/loss_norm" in self.curves:
            name, title = "train/loss_norm", "Loss over that of no model"
            note += " 1 is a predictor that has learned nothing."
        return self._panel(title, [self._line(name, "train", 1)], lower=[below], lower_title="difficulty", note=note)

    def _schedules(self) -> Panel | None:
        moved = [name for name in self.curves if name.startswith("schedule/")][:3]
        metric = self.record.metric
        if not moved or metric not in self.curves:
            return None
        lower = [line for slot, name in enumerate(moved, 2) if (line := self._line(name, name.partition("/")[2], slot))]
        lines = [self._line(metric, str(metric).partition("/")[0], 0), *self._levels(str(metric))]
        names = ", ".join(name.partition("/")[2] for name in moved)
        return self._panel(
            f"{metric} under a schedule", lines, unit=unit_of(str(metric)), lower=lower,
            lower_title=names,
        )  # fmt: skip

    def _threshold(self) -> Panel | None:
        score = "threshold/f1" if "threshold/f1" in self.curves else self.roles.get("f1")
        below = self._line("threshold/best", "", _SCHEDULE)
        if below is None:
            return None
        lines = [
            self._line(score, "F1", 0),
            self._line("threshold/auprc", "AUPRC", 1),
            self._line("threshold/f1_all", "all edges", level=True),
            self._line("threshold/f1_null", "no information", level=True),
            self._line("threshold/prevalence", "prevalence", level=True),
        ]
        return self._panel(
            "Decision threshold", lines, unit="share, 0 to 1", lower=[below], lower_title="threshold",
            note="Dashed is what scores without information reach.", from_zero=True,
        )  # fmt: skip

    def _gradients(self) -> Panel | None:
        clip = self._clip()
        middle = "grad/norm_p50" if "grad/norm_p50" in self.curves else self.roles.get("grad_norm")
        lines = [
            self._line("grad/norm_max", "most", 3),
            self._line("grad/norm_p95", "95 %", 1),
            self._line(middle, "median" if middle == "grad/norm_p50" else "norm", 0),
        ]
        if clip is not None and any(lines):
            lines.append(Line("clip", Curve([0.0], [clip]), level=True))
        below = self._line("grad/clip_ratio", "", _SCHEDULE)
        note = "Norm before the clip" + (f"; dashed is the clip, {clip:g}." if clip is not None else "; there is none.")
        return self._panel(
            "Gradient norm", lines, lower=[below] if below else [], lower_title="share of steps clipped", note=note
        )

    def _asked(self, chosen: Iterable[Panel]) -> list[Panel]:
        """What the run's own pictures show of its curves, where no picture before has it."""
        shown = {line.metric for panel in chosen for line in (*panel.lines, *panel.lower)}
        found = []
        for name, panels in self.asked.items():
            for metrics in panels:
                known = [metric for metric in metrics if metric in self.curves]
                if all(metric in shown or is_compared(metric) for metric in known):
                    continue
                shown.update(known)
                slots = count()
                lines = [
                    self._line(metric, metric, level=True)
                    if is_compared(metric)
                    else self._line(metric, metric, next(slots))
                    for metric in known[:_MOST_TERMS]
                ]
                title = f"{name}: {known[0]}" if len(panels) > 1 else name
                found.append(self._panel(title, lines, unit=unit_of(known[0])))
        return [panel for panel in found if panel is not None][:_MOST_ASKED]

    def _clip(self) -> float | None:
        found = number_named(Settings(hyperparameters=self.record.settings), NAMES["clip_value"])
        return found[1] if found is not None and found[1] > 0 else None

    def _seconds(self) -> Panel | None:
        seconds = self.curves.get("seconds")
        if seconds is None or self.record.curves.axis != "epoch":
            return None
        lines = [Line("epoch", seconds, slot=0)]
        waited = self.curves.get("perf/data_wait_frac")
        if waited is not None:
            _, of_seconds, of_waited = np.intersect1d(seconds.steps, waited.steps, return_indices=True)
            spent = seconds.values[of_seconds] * waited.values[of_waited]
            lines.append(Line("data wait", Curve(seconds.steps[of_seconds], spent), slot=1))
            note = "What the steps wait for data, of the epoch's time; the rest is compute, host and validation."
        else:
            note = "From one epoch's beginning to the next, validation included."
        return self._panel("Time per epoch", lines, unit="s", note=note, from_zero=True, log=False)
