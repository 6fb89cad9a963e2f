"""The sections of a page about one run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stablelit.doctor.log_verdict import UNREADABLE, LogVerdict
from stablelit.findings import Finding
from stablelit.report.command import reproducing_commands
from stablelit.report.markup import Markup, element, folded, join, table
from stablelit.report.references import LEVELS, LEVELS_IN_WORDS, Score, is_step_value, scores_of
from stablelit.report.run_record import Curves, RunRecord
from stablelit.report.themed_svg import sparkline
from stablelit.report.units import counted, number

_FEW_ROWS = 8
_MOST_NAMES = 400
_MOST_FINDINGS = 200


def results(record: RunRecord) -> Markup:
    """Every score beside what it is to be held against, the objective first."""
    metrics, where = record.results
    scores = [_with_what_was_asked(score, record) for score in scores_of(metrics)]
    if not scores:
        return element("p", "Nothing was measured.", class_="muted")
    chosen = record.metric
    names = {chosen, f"test/{chosen.rpartition('/')[2]}"} if chosen else set()
    levels = [level for level in (*LEVELS, "asked") if any(level in score.levels for score in scores)]
    head = ["metric", "value", *(LEVELS_IN_WORDS.get(level, level) for level in levels)]

    def rows(held: Sequence[Score]) -> list[Markup]:
        return [
            element(
                "tr",
                element("td", score.name),
                element("td", _with_error(score), class_="number"),
                *(element("td", number(score.levels[x]) if x in score.levels else "", class_="number") for x in levels),
                class_="first" if score.name in names else None,
            )
            for score in held
        ]

    # what is compared with something is what a reader looks for
    scores.sort(key=lambda score: (score.name not in names, not score.levels))
    first, rest = scores[:_FEW_ROWS], scores[_FEW_ROWS:]
    more = folded(f"{len(rest)} more", table(head, rows(rest))) if rest else None
    note = f"{where[0].upper()}{where[1:]}."
    if any(score.interval is not None for score in scores):
        note += " ± is half of the 95 % interval."
    elif any(score.error is not None for score in scores):
        note += " ± is the standard error."
    return join([element("p", note, class_="note"), table(head, rows(first)), more])


def findings(record: RunRecord) -> Markup:
    """What callbacks and the doctor had to say while the run went, with their numbers."""
    if not record.findings:
        return element("p", "Nothing was found while the run went.", class_="muted")
    held = record.findings[:_MOST_FINDINGS]
    shown = [_finding(place, finding, record.curves) for place, finding in enumerate(held, start=1)]
    rest = len(record.findings) - len(held)
    more = element("p", f"{rest} more are in findings.jsonl.", class_="muted") if rest else None
    return join([element("ol", *shown, class_="findings"), more])


def doctor(record: RunRecord, verdict: LogVerdict | None) -> Markup:
    """What the doctor said in the run, and what it says of the logs."""
    said = record.summary.get("doctor")
    parts: list[Markup | None] = []
    if isinstance(said, list):
        parts.extend(element("pre", line) for line in said if isinstance(line, str) and line)
    if verdict is not None:
        parts.append(_of_logs(verdict))
    return join(parts)


def logged(curves: Curves) -> Markup:
    """Every name that was logged, as a curve of the size of a word and four numbers."""
    names = [name for name in curves.by_name if not is_step_value(name, curves.by_name)]
    rows = []
    for name in names[:_MOST_NAMES]:
        curve = curves.by_name[name]
        known = curve.finite().values
        if not len(curve):
            continue
        low, high = (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)
        alt = f"{name}: from {number(curve.values[0])} to {number(curve.last)}"
        rows.append(
            [name, sparkline(curve.values.tolist(), alt), *map(number, (curve.values[0], curve.last, low, high))]
        )
    if not rows:
        return Markup()
    more = len(names) - _MOST_NAMES
    return folded(
        f"{counted(len(names), 'name')}, each with its course",
        table(["name", element("th", "course"), "first", "last", "least", "most"], rows, numeric_from=2),
        element("p", f"{more} more names are in the logs.", class_="muted") if more > 0 else None,
    )


def what_was_run(record: RunRecord) -> Markup:
    """Commands, data, code and machine; the whole configuration folded."""
    commands = [
        join([element("p", told, class_="note"), element("pre", command)])
        for told, command in reproducing_commands(record)
    ]
    rows = []
    for title in ("data", "code", "machine", "versions", "weights", "checkpoints"):
        held = record.summary.get(title)
        if held:
            rows.append([title, element("td", _in_a_line(held), class_="long")])
    for key in ("seed", "notes", "error"):
        held = record.summary.get(key)
        if held not in (None, [], ""):
            rows.append([key, element("td", _in_a_line(held), class_="long")])
    settings = [[key, element("td", str(value), class_="long")] for key, value in record.settings.items()]
    configuration = folded(
        f"The configuration: {counted(len(settings), 'setting')}",
        table(["setting", element("th", "value")], settings, numeric_from=2),
    )
    return join(
        [
            *commands,
            table(["", element("th", "")], rows, numeric_from=2) if rows else None,
            configuration if settings else None,
            _remarks(record),
        ]
    )


def _remarks(record: RunRecord) -> Markup | None:
    held = list(dict.fromkeys([*record.remarks, *record.curves.remarks]))
    if not held:
        return None
    return join(
        [element("p", "What was odd about the files:", class_="note"), *(element("p", one) for one in held[:20])]
    )


def _with_what_was_asked(score: Score, record: RunRecord) -> Score:
    """A KL that a callback was told to hold has its target as a level."""
    if score.name.rpartition("/")[2] != "kl":
        return score
    asked = [v for key, v in record.settings.items() if key.startswith("callbacks.") and key.endswith(".kl_target")]
    numbers = [float(value) for value in asked if isinstance(value, int | float)]
    return replace(score, levels={**score.levels, "asked": numbers[0]}) if numbers else score


def _with_error(score: Score) -> str:
    if score.interval is not None:
        return f"{number(score.value)} ± {score.interval:.1g}"
    return number(score.value) if score.error is None else f"{number(score.value)} ± {score.error:.1g}"


def _finding(place: int, finding: Finding, curves: Curves) -> Markup:
    at = curves.at_step(finding.step)
    when = f"step {finding.step:,}" if curves.axis != "epoch" or at is None else f"epoch {at:g}, step {finding.step:,}"
    source = f" · {finding.source}" if finding.source else ""
    evidence = finding.evidence if isinstance(finding.evidence, dict) else {}
    rows = [[name, number(value) if isinstance(value, int | float) else str(value)] for name, value in evidence.items()]
    below = element("p", when + source, class_="note")
    return _told(place, finding, below, folded("Evidence", table(["quantity", "value"], rows)) if rows else None)


def _told(mark: object, finding: Finding, *below: Markup | None) -> Markup:
    """A finding as an item of a list."""
    return element(
        "li",
        element("span", mark, class_=f"count {finding.severity}"),
        element(
            "div",
            element("h3", finding.name, element("span", f" {finding.severity}", class_=f"note {finding.severity}")),
            element("p", finding.message),
            element("p", "Try: ", element("code", finding.remedy), class_="try") if finding.remedy else None,
            *below,
        ),
    )


def _of_logs(verdict: LogVerdict) -> Markup:
    if verdict.code == UNREADABLE:
        return element("p", f"The logs cannot be judged: {verdict.problem}", class_="muted")
    told = [_told("•", finding) for finding in verdict.findings if finding.name not in verdict.said]
    follows = ", ".join(finding.name for finding in verdict.consequences)
    checked = (
        f"{counted(len(verdict.passed), 'rule')} found nothing, {len(verdict.unchecked)} cannot be checked from logs."
    )
    lead = "Of the logs: " if verdict.code else "Healthy, as far as the logs tell: "
    return join(
        [
            element("ul", *told, class_="findings") if told else None,
            element("p", f"Also seen, and explained by these: {follows}.") if follows else None,
            element("p", lead + checked, class_="muted"),
        ]
    )


def _in_a_line(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_in_a_line(held)}" for key, held in value.items() if held is not None)
    if isinstance(value, list):
        return ", ".join(_in_a_line(held) for held in value[:40])
    return value if isinstance(value, str) else number(value) if isinstance(value, float) else str(value)
