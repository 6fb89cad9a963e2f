"""The page about several runs: which is best and by how much, their curves, and in what they differ."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from stablelit.report.comparison import (
    Group,
    best_first_key,
    differing_settings,
    groups_of,
    is_seed,
    one_family,
    run_names,
    setting_word,
)
from stablelit.report.comparison_panels import COLOURED, MOST_LINES, overlaid
from stablelit.report.markup import Markup, big_number, element, folded, join, table
from stablelit.report.page import Section, page
from stablelit.report.panel_figures import panel_figures
from stablelit.report.references import scores_of
from stablelit.report.run_record import Plain, RunRecord
from stablelit.report.single_page import STATUSES
from stablelit.report.single_sections import results
from stablelit.report.units import counted, number

_ROWS_SHOWN = 20
_MOST_ROWS = 2000
_MOST_COLUMNS = 6
_SCORES_SHOWN, _MOST_SCORES = 12, 80


def comparison_page(records: Sequence[RunRecord], unread: Sequence[str] = ()) -> str:
    """The HTML of several runs.

    Args:
        records: at least two.
        unread: a sentence for each place that could not be read.
    """
    alike = one_family(records)
    groups = groups_of(records, best_first=alike)
    differing, equal = differing_settings(records)
    one_kind = len({record.family for record in records}) == 1
    curves = Markup()
    if alike:
        panels = overlaid(groups[:MOST_LINES])
        curves = panel_figures(panels) if panels else element("p", "No history to draw.", class_="muted")
    sections = [
        Section("runs", "Runs", _ranking(records, groups, differing, alike)),
        Section("curves", "Curves", curves),
        Section("results", "Results", _results(groups, alike) if one_kind else _each_results(groups)),
        Section("settings", "Settings", _settings(records, groups, differing, equal)),
        Section("unread", "Not read", element("ul", *(element("li", one) for one in unread)) if unread else Markup()),
    ]
    names = Counter(record.name for record in records)
    title = f"{len(records)} runs: {', '.join(list(names)[:4])}{' …' if len(names) > 4 else ''}"
    return page(title, _header(records, groups, alike, len(unread)), sections, "One file, no script.")


def _header(records: Sequence[RunRecord], groups: Sequence[Group], alike: bool, unread: int) -> Markup:
    first = records[0]
    names = list(dict.fromkeys(record.name for record in records))
    statuses = Counter(STATUSES.get(record.status, (record.status, ""))[0] for record in records)
    told = ", ".join(f"{count} {status}" for status, count in statuses.items())
    best = groups[0].best
    lead: list[Markup] = []
    if alike and first.metric and best is not None:
        way = "most" if first.mode == "max" else "least"
        lead = [big_number(f"{way} {first.metric}", number(best), groups[0].label)]
        if len(groups) > 1 and groups[1].best is not None:
            lead.append(big_number("next", number(groups[1].best), groups[1].label))
    if not alike:
        told += " · different models or objectives: tables, no curves over one another"
    return join(
        [
            element("h1", ", ".join(names[:4]) + (" …" if len(names) > 4 else "")),
            element("p", f"{counted(len(records), 'run')}: {told}" + (f" · {unread} not read" if unread else "")),
            element("dl", *lead, class_="figures") if lead else None,
        ]
    )


def _ranking(
    records: Sequence[RunRecord], groups: Sequence[Group], differing: Mapping[str, Sequence[Plain | None]], alike: bool
) -> Markup:
    place_of = _places(records)
    columns = list(differing)[:_MOST_COLUMNS] if alike else []
    names = run_names(records)
    # a column for what tells the groups apart comes before those of seeds
    columns.sort(key=is_seed)
    head = ["run", element("th", "status"), *(element("th", _short(name)) for name in columns)]
    head += ["best" if not alike else records[0].metric or "best", "epoch", "findings"]
    held = [(slot, record) for slot, group in enumerate(groups) for record in group.records]
    if alike:
        held.sort(key=lambda pair: best_first_key(pair[1].best, records[0].mode))
    rows = []
    for slot, record in held[:_MOST_ROWS]:
        place = place_of[id(record)]
        told, kind = STATUSES.get(record.status, (record.status, ""))
        metric = "" if alike or not record.metric else f" {record.metric}"
        serious = sum(finding.severity != "info" for finding in record.findings)
        rows.append(
            [
                element("td", _swatch(slot) if alike else None, names[place], class_="long"),
                element("td", told.partition(":")[0], class_=kind or None),
                *(element("td", setting_word(differing[name][place])) for name in columns),
                f"{number(record.best)}{metric}",
                number(record.best_epoch),
                str(serious or "–"),
            ]
        )
    shown = table(head, rows[:_ROWS_SHOWN], numeric_from=2 + len(columns))
    rest = rows[_ROWS_SHOWN:]
    if not rest:
        return shown
    left = len(held) - _MOST_ROWS
    return join(
        [
            shown,
            folded(f"{len(rest)} more", table(head, rest, 2 + len(columns))),
            element("p", f"{left} more runs are not listed.", class_="note") if left > 0 else None,
        ]
    )


def _results(groups: Sequence[Group], alike: bool) -> Markup:
    """Every score of the first few groups, with its difference to the first."""
    shown = list(groups[:_MOST_COLUMNS])
    held = [_medians(group) for group in shown]
    names = list(dict.fromkeys(name for one in held for name in one))
    metric = shown[0].records[0].metric or ""
    judged = {metric, f"test/{metric.rpartition('/')[2]}"} if metric and alike else set()
    names.sort(key=lambda name: name not in judged)
    more = shown[0].records[0].mode == "max"
    head = ["metric", *(join([_swatch(slot) if alike else None, group.label]) for slot, group in enumerate(shown))]
    rows = [
        [name, *(_compared(name, held, place, name in judged, more) for place in range(len(shown)))]
        for name in names[:_MOST_SCORES]
    ]
    if not rows:
        return element("p", "Nothing was measured.", class_="muted")
    seeds = any(len(group.records) > 1 for group in shown)
    note = "Differences are to the first column" + ("; of seeds the median and the range." if seeds else ".")
    if judged:
        note += f" {'More' if more else 'Less'} of {metric} is better."
    rest = rows[_SCORES_SHOWN:]
    more_rows = folded(f"{len(rest)} more", table(head, rest)) if rest else None
    return join([element("p", note, class_="note"), table(head, rows[:_SCORES_SHOWN]), more_rows])


def _each_results(groups: Sequence[Group]) -> Markup:
    """Of different kinds of models, each has its own scores."""
    records = [group.records[0] for group in groups[:_MOST_COLUMNS]]
    return join([join([element("h3", record.name, class_="apart"), results(record)]) for record in records])


def _medians(group: Group) -> dict[str, list[float]]:
    held: dict[str, list[float]] = {}
    for record in group.records:
        for score in scores_of(record.results[0]):
            held.setdefault(score.name, []).append(score.value)
    return {name: sorted(values) for name, values in held.items()}


def _compared(name: str, held: Sequence[dict[str, list[float]]], place: int, judged: bool, more: bool) -> Markup:
    values = held[place].get(name)
    if not values:
        return element("td", "–", class_="number")
    value = statistics.median(values)
    spread = f" ({number(values[0])} to {number(values[-1])})" if len(values) > 1 else ""
    first = held[0].get(name)
    below = None
    if place and first:
        difference = value - statistics.median(first)
        sign = "+" if difference > 0 else "±" if difference == 0 else ""
        kind, word = "muted", ""
        if judged and math.isfinite(difference) and difference:
            kind, word = ("good", " better") if (difference > 0) == more else ("critical", " worse")
        below = element("div", f"{sign}{number(difference)}{word}", class_=f"note {kind}")
    return element("td", f"{number(value)}{spread}", below, class_="number")


def _settings(
    records: Sequence[RunRecord],
    groups: Sequence[Group],
    differing: Mapping[str, Sequence[Plain | None]],
    equal: Sequence[str],
) -> Markup:
    if not differing and not equal:
        return element("p", "The runs say nothing of their settings.", class_="muted")
    shown = groups[:_MOST_COLUMNS]
    place_of = _places(records)
    rows = [
        [name, *(element("td", _values(values, group, place_of), class_="long") for group in shown)]
        for name, values in differing.items()
    ]
    head = ["setting", *(element("th", group.label) for group in shown)]
    few = (
        element("p", f"Of the first {len(shown)} of {len(groups)}.", class_="note")
        if len(groups) > len(shown)
        else None
    )
    same = [[name, element("td", setting_word(records[0].settings.get(name)), class_="long")] for name in equal]
    return join(
        [
            few,
            table(head, rows[:200], numeric_from=99) if rows else element("p", "No setting differs.", class_="muted"),
            folded(
                f"{counted(len(equal), 'setting')} equal in all",
                table(["setting", element("th", "value")], same, numeric_from=99),
            )
            if same
            else None,
        ]
    )


def _places(records: Sequence[RunRecord]) -> dict[int, int]:
    return {id(record): place for place, record in enumerate(records)}


def _values(values: Sequence[Plain | None], group: Group, place_of: dict[int, int]) -> str:
    return ", ".join(dict.fromkeys(setting_word(values[place_of[id(record)]]) for record in group.records))


def _swatch(slot: int) -> Markup:
    style = f"background: var(--series-{slot + 1})" if slot < COLOURED else None
    return element("span", class_="swatch", style=style)


def _short(name: str) -> str:
    return ".".join(name.split(".")[-2:])
