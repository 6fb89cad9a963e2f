"""What is known of one run, from whatever it left."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stablelit.doctor.evidence.curve import Curve
from stablelit.doctor.readers.tag_guess import Tag, guess_tags
from stablelit.findings import Finding

Plain = str | int | float | bool


@dataclass
class Curves:
    """Logged values over one axis.

    Args:
        by_name: each over the axis.
        axis: `epoch` or `optimizer step`.
        steps: the optimizer step at each epoch; empty where the axis is the step itself or nothing says.
        remarks: what was odd about the files, a sentence each.
    """

    by_name: dict[str, Curve] = field(default_factory=dict)
    axis: str = "epoch"
    steps: Curve = field(default_factory=Curve)
    remarks: list[str] = field(default_factory=list)

    def at_step(self, step: float) -> float | None:
        """Where an optimizer step is on the axis; None where nothing says."""
        if self.axis != "epoch":
            return step
        if not len(self.steps):
            return None
        # the epoch in which the step was: the first that ends at or behind it
        place = int(self.steps.values.searchsorted(step))
        return float(self.steps.steps[min(place, len(self.steps) - 1)])


@dataclass
class RunRecord:
    """One run. Curves are read when they are first asked for: of a thousand runs few are drawn.

    Args:
        place: its directory, or the file of logs that was given.
        name: of the experiment, else of the directory.
        status: `finished`, `interrupted`, `failed`, `diverged`, `running`, `broken off`, or `unknown`.
        summary: of `summary.json`; empty where there is none.
        settings: flat, by dotted key.
        overrides: the command line behind the run; None where it is not known.
        findings: that the run has left.
        pictures: files under `figures/`.
        remarks: what was odd about the files, a sentence each.
        read_curves: reads the curves.
    """

    place: Path
    name: str
    status: str = "unknown"
    summary: Mapping[str, Any] = field(default_factory=dict)
    settings: dict[str, Plain] = field(default_factory=dict)
    overrides: list[str] | None = None
    findings: list[Finding] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    read_curves: Callable[[], Curves] = Curves
    _curves: Curves | None = None

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return self.place.parent if self.place.is_file() else self.place

    @property
    def curves(self) -> Curves:
        """What was logged."""
        if self._curves is None:
            self._curves = self.read_curves()
        return self._curves

    @property
    def family(self) -> str:
        """What kind of model it is: runs of one family can be laid over one another."""
        target = str(self.settings.get("model._target_", ""))
        parts = target.split(".")
        if target.startswith("stablelit.families.") and len(parts) > 2:
            return parts[2]
        return target

    @property
    def metric(self) -> str | None:
        """The objective's name; of a run that has none its validation loss, else its training loss."""
        return self._objective_name() or self._guessed_metric()

    @property
    def metric_is_guessed(self) -> bool:
        """Whether nothing of the run says what it is to be judged by."""
        return self._objective_name() is None

    @property
    def mode(self) -> str:
        """Whether less (`min`) or more (`max`) of the objective is better."""
        held = self._part("objective").get("mode") or self.settings.get("objective.mode")
        return "max" if held == "max" else "min"

    @property
    def best(self) -> float | None:
        """The best value of the objective: the summary's, else that of the curve."""
        held = as_number(self._part("objective").get("best"))
        if held is not None or self.metric is None:
            return held
        curve = self.curves.by_name.get(self.metric, Curve()).finite()
        if not len(curve):
            return None
        return float(curve.values.max() if self.mode == "max" else curve.values.min())

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the best value."""
        held = as_number(self._part("best").get("epoch"))
        return None if held is None or not math.isfinite(held) else int(held)

    @property
    def results(self) -> tuple[dict[str, float], str]:
        """What the run came to and where it was measured: the test, else validation at its best, else the last line."""
        tested = self._numbers("test")
        if tested:
            return tested, "test of the best checkpoint"
        best = self._numbers("best")
        validated = {name: value for name, value in best.items() if name.startswith("val/")}
        if validated:
            return validated, "validation, best epoch"
        final = self._numbers("final")
        if final:
            return final, "last epoch"
        last = {n: curve.last for n, curve in self.curves.by_name.items() if len(curve)}
        of_validation = {n: value for n, value in last.items() if n.startswith(("val/", "val_", "valid"))}
        return of_validation or last, "last values that were logged"

    def _objective_name(self) -> str | None:
        held = self._part("objective").get("metric") or self.settings.get("objective.metric")
        return held if isinstance(held, str) and held else None

    def _guessed_metric(self) -> str | None:
        roles = guess_tags(Tag(name, len(curve)) for name, curve in self.curves.by_name.items())
        return roles.get("val_loss") or roles.get("loss")

    def _part(self, name: str) -> Mapping[str, Any]:
        held = self.summary.get(name)
        return held if isinstance(held, Mapping) else {}

    def _numbers(self, name: str) -> dict[str, float]:
        known = {str(key): as_number(value) for key, value in self._part(name).items() if key != "epoch"}
        return {key: value for key, value in known.items() if value is not None}


def as_number(value: object) -> float | None:
    """A number of a JSON file, where one that is not finite is a word; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and value not in ("nan", "inf", "-inf"):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
