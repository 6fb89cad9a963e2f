"""What one run left: curves by tag, hyperparameters, findings, and what was odd about the files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stablelit.doctor.evidence.curve import Curve
from stablelit.doctor.evidence.settings import Plain
from stablelit.errors import DataError
from stablelit.findings import Finding

_MOST_RESTARTS = 5


class Unreadable(DataError):
    """Logs that cannot be read, or that hold nothing to judge."""


@dataclass
class Points:
    """The points of one tag in the order in which they were written.

    Args:
        steps: as they were logged.
        values: as many.
        starts: places at which another file begins.
    """

    steps: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)

    def add(self, step: float, value: float) -> None:
        """Appends a point."""
        self.steps.append(step)
        self.values.append(value)

    def curve(self) -> tuple[Curve, str]:
        """By ascending step, and what had to be done for that.

        A run that was resumed writes steps again that it had written before: what is later in time holds, and what an
        earlier part has at or behind the first step of a later one is dropped. Steps that fall back all the time are
        no axis (a count within each epoch, say): then the order of writing is.
        """
        steps, values = np.asarray(self.steps), np.asarray(self.values)
        falls = np.flatnonzero(np.diff(steps) < 0) + 1
        restarts = sorted({*falls.tolist(), *(start for start in self.starts if 0 < start < len(steps))})
        if len(falls) > _MOST_RESTARTS + len(self.starts):
            return Curve(np.arange(len(values)), values), f"its steps fall back {len(falls)} times: counted instead"
        dropped = 0
        if restarts:
            keep = np.ones(len(steps), dtype=bool)
            for start, end in zip(restarts, [*restarts[1:], len(steps)], strict=True):
                # all that a restart has written counts, up to the next one
                keep[:start] &= steps[:start] < steps[start:end].min()
            dropped = int((~keep).sum())
            steps, values = steps[keep], values[keep]
        if len(steps) > 1:
            order = np.argsort(steps, kind="stable")
            steps, values = steps[order], values[order]
            last_of_its_step = np.append(np.diff(steps) > 0, True)
            steps, values = steps[last_of_its_step], values[last_of_its_step]
        return Curve(steps, values), f"{dropped} points written again after a restart" if dropped else ""


@dataclass
class RunLog:
    """One run.

    Args:
        directory: where it is.
        points: by tag.
        hyperparameters: flat, by dotted key.
        keys_are_overrides: whether these keys are those of a command line (our own ``config.yaml``).
        findings: that the run itself has left.
        sources: names of the files that were read.
        remarks: what was odd about them, one sentence each.
        axis: what the steps are: ``step`` or ``epoch``.
        status: of ``summary.json``: ``finished``, ``interrupted``, ``failed``, ``diverged``; empty where unknown.
    """

    directory: Path
    points: dict[str, Points] = field(default_factory=dict)
    hyperparameters: dict[str, Plain] = field(default_factory=dict)
    keys_are_overrides: bool = False
    findings: list[Finding] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    axis: str = "step"
    status: str = ""

    def begin_file(self, path: Path) -> None:
        """Another file is about to add points."""
        self.sources.append(path.name)
        for points in self.points.values():
            points.starts.append(len(points.steps))

    def add(self, tag: str, step: float, value: float) -> None:
        """Appends a point to a tag."""
        points = self.points.get(tag)
        if points is None:
            points = self.points[tag] = Points()
        points.add(step, value)

    def curves(self) -> dict[str, Curve]:
        """All tags as curves; what had to be mended is added to the remarks, each kind once."""
        curves, mended = {}, dict[str, list[str]]()
        for tag, points in sorted(self.points.items()):
            curves[tag], remark = points.curve()
            if remark:
                mended.setdefault(remark, []).append(tag)
        for remark, tags in mended.items():
            more = f" and {len(tags) - 3} more" if len(tags) > 3 else ""
            self.remarks.append(f"{', '.join(tags[:3])}{more}: {remark}.")
        return curves
