"""Many runs, a line each, the worst first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from stablelit.doctor.log_verdict import CRITICAL, HEALTHY, NAMES, UNREADABLE, WARNING, LogVerdict
from stablelit.doctor.log_verdict_text import unchecked_lines

_MOST_HEALTHY = 30
_ORDER = {CRITICAL: 0, WARNING: 1, UNREADABLE: 2, HEALTHY: 3}


def table(verdicts: Sequence[LogVerdict]) -> str:
    """The table, and below it what was checked in none of them; of many healthy runs the first thirty have a line."""
    root = _common(verdicts)
    rows = [("verdict", "cause", "steps", "last loss", "run")]
    ordered = sorted(verdicts, key=lambda verdict: _ORDER[verdict.code])
    faulty = sum(verdict.code != HEALTHY for verdict in verdicts)
    rows.extend(_row(verdict, root) for verdict in ordered[: faulty + _MOST_HEALTHY])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]) - 1)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]
    if len(verdicts) > faulty + _MOST_HEALTHY:
        lines.append(f"... and {len(verdicts) - faulty - _MOST_HEALTHY} more healthy runs (--json has them all)")
    lines.extend(unchecked_lines(_never_checked(verdicts)))
    if faulty:
        lines.append(f"more on one of them: python -m stablelit.doctor {ordered[0].place}")
    return "\n".join(lines)


def total_line(verdicts: Sequence[LogVerdict]) -> str:
    """``12 runs: 1 critical, 2 warning, 9 healthy``."""
    counts = [(NAMES[code], sum(verdict.code == code for verdict in verdicts)) for code in _ORDER]
    held = ", ".join(f"{count} {name}" for name, count in counts if count or name in ("critical", "warning"))
    return f"{len(verdicts)} runs: {held}"


def _row(verdict: LogVerdict, root: Path) -> tuple[str, str, str, str, str]:
    try:
        shown = str(verdict.place.relative_to(root))
    except ValueError:
        shown = str(verdict.place)
    if verdict.code == UNREADABLE:
        return ("UNREADABLE", verdict.problem.removeprefix(f"{verdict.place}").lstrip(": ")[:60], "", "", shown)
    more = f" +{len(verdict.findings) - 1}" if len(verdict.findings) > 1 else ""
    cause = verdict.findings[0].name + more if verdict.findings else ""
    name = NAMES[verdict.code]
    return (
        name if verdict.code == HEALTHY else name.upper(),
        cause,
        f"{verdict.steps}{'ep' if verdict.axis == 'epoch' else ''}",
        f"{verdict.last_loss:.4g}",
        shown,
    )


def _common(verdicts: Sequence[LogVerdict]) -> Path:
    try:
        return Path(os.path.commonpath([verdict.place for verdict in verdicts]))
    except ValueError:
        return Path()


def _never_checked(verdicts: Sequence[LogVerdict]) -> dict[str, tuple[str, ...]]:
    read = [verdict for verdict in verdicts if verdict.code != UNREADABLE]
    if not read:
        return {}
    return {
        name: needs for name, needs in read[0].unchecked.items() if all(name in verdict.unchecked for verdict in read)
    }
