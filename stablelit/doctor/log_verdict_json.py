"""Verdicts as JSON, for a script: one object a run, and in it one a finding.

``schema`` changes when a field changes its meaning or goes; a new field may come at any time. A number that is not
finite is the string ``"nan"``, ``"inf"`` or ``"-inf"``, as in history.jsonl.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stablelit.doctor.log_verdict import NAMES, LogVerdict
from stablelit.errors import ConfigurationError
from stablelit.findings import Finding
from stablelit.run_files import plain

SCHEMA = "stablelit.doctor/1"


def write_json(where: str, verdicts: Sequence[LogVerdict], code: int) -> None:
    """Writes the document; ``-`` is the standard output.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    text = json.dumps(plain(document(verdicts, code)), indent=2, allow_nan=False) + "\n"
    if where == "-":
        sys.stdout.write(text)
        return
    # its package brings torch, two seconds that a verdict on the terminal need not wait for
    from stablelit.data.files import replacing

    path = Path(where).expanduser()
    try:
        with replacing(path) as fresh:
            fresh.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--json {where}: cannot be written: {error.strerror or error}.") from error


def document(verdicts: Sequence[LogVerdict], code: int) -> dict[str, Any]:
    """All runs, in the order in which they were read."""
    return {"schema": SCHEMA, "exit_code": code, "runs": [_run(verdict) for verdict in verdicts]}


def _run(verdict: LogVerdict) -> dict[str, Any]:
    told = [
        *((finding, "primary" if place == 0 else "also") for place, finding in enumerate(verdict.findings)),
        *((finding, "consequence") for finding in verdict.consequences),
        *((finding, "note") for finding in verdict.notes),
    ]
    return {
        "run": str(verdict.place),
        "verdict": NAMES[verdict.code],
        "problem": verdict.problem or None,
        "steps": verdict.steps,
        "axis": verdict.axis,
        "epochs": verdict.epochs,
        "planned_steps": verdict.planned_steps,
        "last_loss": verdict.last_loss,
        "logged_every": verdict.logged_every,
        "tags": verdict.tags,
        "sources": verdict.sources,
        "remarks": verdict.remarks,
        "findings": [_finding(finding, part, verdict) for finding, part in told],
        "passed": verdict.passed,
        "unchecked": verdict.unchecked,
    }


def _finding(finding: Finding, part: str, verdict: LogVerdict) -> dict[str, Any]:
    return {**asdict(finding), "part": part, "said_by_the_run": finding.name in verdict.said}
