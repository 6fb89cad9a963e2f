"""Finding: the one form of every alarm, and where it goes.

A callback that sees trouble builds a `Finding` and hands it to its `FindingReporter`, which raises each cause once,
appends it to `findings.jsonl` and then warns, stops the run or raises, as the callback's `action` says. One that only
informs is logged, and does none of these.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from stablelit.errors import StablelitError, bad_argument
from stablelit.lost_reports import report_may_be_lost
from stablelit.run_files import append_line, from_json

Severity = Literal["info", "warning", "critical"]
Action = Literal["warn", "stop", "raise"]
FINDINGS_FILE = "findings.jsonl"
# below Lightning's logger: what only informs is shown, and silenced, as Lightning's own lines are
_log = logging.getLogger("lightning.pytorch.stablelit")


@dataclass(frozen=True)
class Finding:
    """Something a person should know about a run.

    Args:
        name: short and stable, in kebab case: `cap-ineffective`. It is what mutes, tests and reports refer to.
        severity: `info`, `warning` or `critical`.
        message: one sentence with the numbers in it.
        evidence: the numbers as data: plain floats, ints and strings.
        remedy: what to do; a Hydra override where one exists (`callbacks.kl_cap.max_weight=1.0`).
        source: the callback and the thing it looks at, `KLCapCallback[kl_weight]`.
        step: the optimizer step at which it was seen; 0 leaves it to the reporter.
    """

    name: str
    severity: Severity
    message: str
    evidence: dict[str, float | int | str] = field(default_factory=dict)
    remedy: str = ""
    source: str = ""
    step: int = 0

    def __post_init__(self) -> None:
        if self.severity not in get_args(Severity):
            raise bad_argument("Finding", "severity", self.severity, ", ".join(get_args(Severity)))
        # a checkpoint with a NumPy scalar in it does not load with weights_only=True, and JSON knows none
        object.__setattr__(self, "evidence", {str(name): _plain(value) for name, value in self.evidence.items()})

    def __str__(self) -> str:
        remedy = f" Try: {self.remedy}" if self.remedy else ""
        return f"[{self.severity}] {self.name}: {self.message}{remedy}"


class FindingError(StablelitError, RuntimeError):
    """A finding whose callback was told `action="raise"`."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


class FindingWarning(UserWarning):
    """The warning category of findings, so that they can be filtered apart from other warnings."""


@runtime_checkable
class HearsFindings(Protocol):
    """A callback that is told what every callback of its Trainer has found, itself included."""

    def hear_finding(self, finding: Finding) -> None:
        """Takes a finding, with its source and its step, before the finding's action is carried out."""
        ...


class FindingReporter:
    """Raises each cause once; remembers what it raised, across a resume too.

    Args:
        source: who reports, for the record.
        action: `warn` goes on, `stop` ends the run cleanly after this batch, `raise` raises `FindingError`. A finding
            of severity `info` does none of these: it is logged.
        quiet: leaves out what a person would see at once; file, listeners and action stay.

    Raises:
        ConfigurationError: unknown action.
    """

    def __init__(self, source: str, action: Action = "warn", quiet: bool = False) -> None:
        if action not in get_args(Action):
            raise bad_argument(source, "action", action, ", ".join(get_args(Action)))
        self.source = source
        self.action = action
        self.quiet = quiet
        # somebody who carries the callback that reports, and takes its findings instead of file, person and action
        self.to: Callable[[Finding], None] | None = None
        self.raised: dict[str, int] = {}

    def report(self, trainer: Any, finding: Finding) -> bool:
        """Takes a finding; returns whether it was new."""
        if finding.name in self.raised:
            return False
        step = finding.step or int(getattr(trainer, "global_step", 0))
        finding = Finding(**{**asdict(finding), "source": finding.source or self.source, "step": step})
        self.raised[finding.name] = step
        if self.to is not None:
            self.to(finding)
            return True
        if getattr(trainer, "is_global_zero", True):
            if not getattr(trainer, "fast_dev_run", False):
                directory = findings_directory(trainer)
                with report_may_be_lost(trainer, self.source, directory / FINDINGS_FILE):
                    append_finding(directory, finding)
            if self.quiet:
                pass
            elif finding.severity == "info":
                _log.info(finding)
            else:
                warnings.warn(str(finding), FindingWarning, stacklevel=3)
        for callback in getattr(trainer, "callbacks", None) or ():
            if isinstance(callback, HearsFindings):
                callback.hear_finding(finding)
        if finding.severity == "info":
            return True
        if self.action == "stop":
            trainer.should_stop = True
        elif self.action == "raise":
            raise FindingError(finding)
        return True

    def state_dict(self) -> dict[str, int]:
        """What has been raised, and at which step."""
        return dict(self.raised)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Takes up what an earlier run of the same training has raised."""
        self.raised = dict(state)

    def keep_in(self, checkpoint: dict[str, Any]) -> None:
        """For a module's `on_save_checkpoint`: a callback has a state of its own."""
        checkpoint.setdefault(_KEPT, {})[self.source] = self.state_dict()

    def take_from(self, checkpoint: Mapping[str, Any], trainer: Any) -> None:
        """For a module's `on_load_checkpoint`: takes it up where a fit goes on, and not where weights are tested."""
        state = getattr(trainer, "state", None)
        if getattr(state, "fn", None) == "fit":
            self.load_state_dict(checkpoint.get(_KEPT, {}).get(self.source, {}))


_KEPT = "stablelit_findings"


def findings_directory(trainer: Any) -> Path:
    """Where a Trainer's findings go: the logger's directory, else `default_root_dir`.

    Reads the loggers' own directories rather than `trainer.log_dir`, which broadcasts and therefore hangs when only
    one rank asks.
    """
    for logger in getattr(trainer, "loggers", []) or []:
        directory = getattr(logger, "log_dir", None) or getattr(logger, "save_dir", None)
        if directory:
            return Path(directory)
    return Path(getattr(trainer, "default_root_dir", "."))


def append_finding(directory: Path, finding: Finding) -> None:
    """Appends one line to `findings.jsonl`; one that a resumed run comes to again is there already.

    Raises:
        OSError: it cannot be written there.
    """
    path, line = directory / FINDINGS_FILE, json.dumps(asdict(finding), sort_keys=True)
    if path.is_file() and line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        return
    append_line(path, line)


def _plain(value: Any) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    try:
        return _plain(value.item())
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return str(value)


def read_findings(directory: str | Path) -> list[Finding]:
    """The findings of a run, in the order in which they were raised; an empty list where there are none.

    Raises:
        ValueError: a line that is not a finding; the message has file and line number.
    """
    path = Path(directory) / FINDINGS_FILE
    if not path.is_file():
        return []
    findings = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            findings.append(_finding_of(from_json(line)))
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path}:{number}: not a finding: {error}") from error
    return findings


def _finding_of(held: Any) -> Finding:
    for name in ("name", "message", "remedy", "source"):
        if not isinstance(held.get(name, ""), str):
            raise ValueError(f"{name} is {held[name]!r:.60}, no text")
    if isinstance(step := held.get("step", 0), bool) or not isinstance(step, int):
        raise ValueError(f"step is {step!r:.60}, no whole number")
    return Finding(**held)
