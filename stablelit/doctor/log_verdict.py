"""What is told of one run of logs: the findings of the rules and those that the run itself had left, in one order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stablelit.doctor.diagnosis import diagnose, rank
from stablelit.doctor.log_run import LogRun, open_log_run
from stablelit.doctor.readers import Unreadable
from stablelit.doctor.rules import RULES
from stablelit.findings import Finding

HEALTHY, WARNING, CRITICAL, UNREADABLE = 0, 1, 2, 3
NAMES = {HEALTHY: "healthy", WARNING: "warning", CRITICAL: "critical", UNREADABLE: "unreadable"}


@dataclass
class LogVerdict:
    """One run, without its curves.

    Args:
        place: as it was given.
        problem: why it could not be read; empty where it could.
        findings: the primary cause first.
        consequences: what follows from these.
        notes: of severity ``info``.
        said: names of findings that the run itself had left.
        passed: rules that found nothing.
        unchecked: rules that could not be checked, with what they need.
        steps: of the optimizer (or epochs) that were done.
        epochs: None where nothing says so.
        planned_steps: None where it is not known.
        axis: ``step`` or ``epoch``.
        tags: the tag taken for each role.
        sources: files that were read.
        remarks: what was odd.
        logged_every: steps between two values of the loss.
        last_loss: NaN where there is none.
    """

    place: Path
    problem: str = ""
    findings: tuple[Finding, ...] = ()
    consequences: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()
    said: frozenset[str] = frozenset()
    passed: tuple[str, ...] = ()
    unchecked: dict[str, tuple[str, ...]] = field(default_factory=dict)
    steps: int = 0
    epochs: int | None = None
    planned_steps: int | None = None
    axis: str = "step"
    tags: dict[str, str] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    logged_every: float = 1.0
    last_loss: float = float("nan")

    @property
    def code(self) -> int:
        """The exit code of this run alone."""
        if self.problem:
            return UNREADABLE
        severities = {finding.severity for finding in self.findings}
        return CRITICAL if "critical" in severities else WARNING if "warning" in severities else HEALTHY

    def count(self, severity: str) -> int:
        """How many findings of that severity are told."""
        return sum(finding.severity == severity for finding in self.findings)


def judge(place: Path, tags: Mapping[str, str] | None = None, mute: Iterable[str] = ()) -> LogVerdict:
    """Reads one run and checks every rule that logs allow.

    Raises:
        ConfigurationError: a tag was asked for that the run has not.
    """
    try:
        run = open_log_run(place, tags)
    except Unreadable as error:
        return LogVerdict(place, problem=str(error))
    return verdict_of(run, frozenset(mute))


def verdict_of(run: LogRun, mute: frozenset[str] = frozenset()) -> LogVerdict:
    """Of a run that has been read."""
    evidence, log = run.evidence, run.log
    diagnosis = diagnose(evidence, mute=mute)
    said = _each_once(finding for finding in evidence.raised if finding.name not in mute)
    names = {finding.name for finding in said}
    found = [*diagnosis.findings, *diagnosis.consequences, *diagnosis.notes]
    told, consequences, notes = rank([*said, *(f for f in found if f.name not in names)], RULES)
    return LogVerdict(
        place=run.place,
        findings=told,
        consequences=consequences,
        notes=notes,
        said=frozenset(names),
        passed=tuple(name for name in diagnosis.passed if name not in names),
        unchecked=diagnosis.unchecked,
        steps=evidence.step,
        epochs=run.epochs,
        planned_steps=evidence.planned_steps,
        axis=log.axis,
        tags=run.tags,
        sources=log.sources,
        remarks=log.remarks,
        logged_every=run.logged_every,
        last_loss=evidence.curve("loss").last,
    )


def _each_once(findings: Iterable[Finding]) -> list[Finding]:
    """The last of each name: what the run knew best."""
    return list({finding.name: finding for finding in findings}.values())
