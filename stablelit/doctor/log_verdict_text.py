"""A verdict as a person reads it: plain lines, without colours."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence

from stablelit.doctor.log_verdict import UNREADABLE, LogVerdict
from stablelit.doctor.rules.family import FAMILY_RULES
from stablelit.findings import Finding

WIDTH = 118
NEEDS_THE_CALLBACK = {
    "parameters": "optimizer coverage, gradients and movement of weights",
    "layers": "dead and saturated units, gradients by layer",
    "modes": "train/eval mode",
    "batches": "inputs, labels and leakage",
    "operations": "what the loss is made of",
    "settings.schedules": "schedulers",
}
"""What no log holds: parts of the evidence, in words."""

_OF_FAMILIES = frozenset(rule.name for rule in FAMILY_RULES)
# so begins what a rule that raised is said to need
_RAISED = "an answer: "
_SPARSE = 1.5


def describe(verdict: LogVerdict) -> str:
    """All that is known of one run."""
    if verdict.code == UNREADABLE:
        return f"{verdict.place}\n{_block('  UNREADABLE ', verdict.problem)}"
    lines = [_header(verdict)]
    for finding in verdict.findings:
        said = "   (the run said)" if finding.name in verdict.said else ""
        step = f"   step {finding.step}" if finding.step else ""
        lines.append(f"  {finding.severity.upper()} {finding.name}{step}{said}")
        lines.extend(_body(finding))
    if not verdict.findings:
        lines.append("  healthy, as far as its logs tell")
    if verdict.consequences:
        names = ", ".join(finding.name for finding in verdict.consequences)
        lines.append(_block("  also seen, and explained by these: ", names))
    for note in verdict.notes:
        said = "the run said: " if note.name in verdict.said else ""
        lines.append(_block(f"  note {note.name}: ", said + note.message))
    lines.extend(_block("  remark: ", remark) for remark in verdict.remarks)
    if verdict.logged_every >= _SPARSE and verdict.axis == "step":
        every = f"{verdict.logged_every:g}"
        lines.append(_block("  remark: ", f"the loss is known every {every} steps: a spike in between is not seen."))
    lines.extend(unchecked_lines(verdict.unchecked))
    return "\n".join(lines)


def count_line(verdict: LogVerdict) -> str:
    """``1 critical, 0 warnings, 14 rules ok, 9 not checkable``."""
    if verdict.code == UNREADABLE:
        return "unreadable"
    warnings = verdict.count("warning")
    return (
        f"{verdict.count('critical')} critical, {warnings} warning{'' if warnings == 1 else 's'}, "
        f"{len(verdict.passed)} rules ok, {len(verdict.unchecked)} not checkable"
    )


def unchecked_lines(unchecked: Mapping[str, Sequence[str]]) -> list[str]:
    """What silence does not mean: rules that need the callback, or something that was not logged; and broken ones."""
    inside: Counter[str] = Counter()
    missing: dict[str, list[str]] = {}
    families: dict[str, None] = {}
    of_families = 0
    broken = []
    for name, needs in unchecked.items():
        if needs[0].startswith(_RAISED):
            broken.append(f"{name} ({needs[0].removeprefix(_RAISED)})")
            continue
        parts = [part for need in needs for part in (need, need.partition(".")[0]) if part in NEEDS_THE_CALLBACK]
        if parts:
            inside[parts[0]] += 1
            continue
        words = [need.partition(".")[2].replace("_", " ") or need for need in needs]
        if name in _OF_FAMILIES:
            of_families += 1
            families.update(dict.fromkeys(words))
        else:
            missing.setdefault(" and ".join(words), []).append(name)
    lines = []
    if inside:
        held = ", ".join(f"{NEEDS_THE_CALLBACK[part]} ({count})" for part, count in inside.items())
        lines.append(_block("  not checkable from logs: ", f"{held}: these need the callback, TrainingDoctor()."))
    if missing:
        held = "; ".join(f"{what} ({', '.join(names)})" for what, names in missing.items())
        lines.append(_block("  not checkable, because not logged: ", held))
    if families:
        held = f"{', '.join(families)} ({of_families} rules of variational, graph and curriculum models)."
        lines.append(_block("  not logged here, where the model has them: ", held))
    if broken:
        lines.append(_block("  not checkable, because of an error in the rule: ", f"{'; '.join(broken)}."))
    return lines


def _header(verdict: LogVerdict) -> str:
    steps = f"{verdict.steps} {verdict.axis}s"
    if verdict.planned_steps is not None and verdict.planned_steps > verdict.steps:
        steps += f" of {verdict.planned_steps}"
    epochs = "" if verdict.epochs is None or verdict.axis == "epoch" else f", {verdict.epochs} epochs"
    tags = " ".join(f"{role}={tag}" for role, tag in verdict.tags.items())
    first = f"{verdict.place}   {steps}{epochs}   from {', '.join(dict.fromkeys(verdict.sources))}"
    return f"{first}\n{_block('  taken as: ', tags)}"


def _body(finding: Finding) -> list[str]:
    lines = [_block("    ", finding.message)]
    if finding.remedy:
        lines.append(_block("    try: ", finding.remedy))
    return lines


def _block(lead: str, text: str) -> str:
    """Wrapped, with what follows indented as far as the lead's own indent and two more."""
    indent = " " * (len(lead) - len(lead.lstrip()) + 2)
    whole = lead + " ".join(text.split())
    return "\n".join(
        textwrap.wrap(whole, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        or [lead.rstrip()]
    )
