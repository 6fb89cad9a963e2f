"""The curves of several runs laid over one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stablelit.doctor.evidence.curve import Curve
from stablelit.doctor.readers.tag_guess import Tag, guess_tags
from stablelit.report.comparison import Group
from stablelit.report.panel import Line, Panel
from stablelit.report.references import levels_of
from stablelit.report.run_record import RunRecord
from stablelit.report.themed_svg import SERIES
from stablelit.report.units import counted, unit_of

COLOURED = len(SERIES)
MOST_LINES = 20
# by the role that a name has, in the order of the page
_ROLES = (
    ("loss", "Training loss"),
    ("val_loss", "Validation loss"),
    ("kl", "KL"),
    ("grad_norm", "Gradient norm"),
    ("lr", "Learning rate"),
)
_SECONDS = "seconds"


def overlaid(groups: Sequence[Group]) -> list[Panel]:
    """A picture for each quantity that more than one group has; seeds are thin, their median is thick and named."""
    first = groups[0].records[0]
    metric = first.metric
    panels: list[Panel | None] = []
    shown: set[str] = set()
    if metric is not None:
        panels.append(_panel(metric, groups, [metric] * len(groups), unit_of(metric)))
        shown.add(metric)
    roles = [_roles(group.records[0]) for group in groups]
    for role, title in _ROLES:
        names = [held.get(role) for held in roles]
        if shown.isdisjoint(name for name in names if name):
            shown.update(name for name in names if name)
            panel = _panel(title, groups, names, next((unit_of(name) for name in names if name), ""))
            if panel is not None and not _says_nothing_new(role, panel, panels):
                panels.append(panel)
    panels.append(_panel("Time per epoch", groups, [_SECONDS] * len(groups), "s"))
    return [panel for panel in panels if panel is not None]


def _panel(title: str, groups: Sequence[Group], names: Sequence[str | None], unit: str) -> Panel | None:
    lines: list[Line] = []
    grey: list[Line] = []
    axis = ""
    each = max(1, MOST_LINES // len(groups))
    for slot, (group, name) in enumerate(zip(groups, names, strict=True)):
        if name is None:
            continue
        logged = [record.curves for record in group.records[:each]]
        held = [(one.axis, one.by_name[name]) for one in logged if len(one.by_name.get(name, ()))]
        # an axis of steps and one of epochs are not one picture
        axis = axis or (held[0][0] if held else "")
        curves = [curve for its_axis, curve in held if its_axis == axis]
        if not curves:
            continue
        if slot >= COLOURED:
            grey.extend(Line("", curve, level=True, solid=True) for curve in curves)
            continue
        lines.append(Line(group.label, median_curve(curves), slot=slot))
        if len(curves) > 1:
            lines.extend(Line("", curve, slot=slot, faint=True) for curve in curves)
    if not lines:
        return None
    drawn = sum(line.faint for line in lines)
    note = "Thick: the median over seeds." if drawn else ""
    if drawn and any(len(group.records) > each for group in groups):
        note = f"Thick: the median over the first {counted(each, 'seed')} of each."
    if grey:
        note += f" Grey: {len(grey)} more runs."
    first = groups[0].records[0]
    levels = [
        Line(level, Curve([0.0], [first.curves.by_name[of].last]), level=True)
        for level, of in (levels_of(names[0], first.curves.by_name.keys()).items() if names[0] else ())
        if len(first.curves.by_name[of])
    ]
    return Panel(title, [*lines, *grey, *levels], axis, unit, note=note.strip(), from_zero=title == "Time per epoch")


def _says_nothing_new(role: str, panel: Panel, panels: Sequence[Panel | None]) -> bool:
    """Whether it is a picture that is there under another name, or a rate that is the same in all runs."""
    curves = [line.curve for line in panel.lines if not line.level]
    if role == "lr" and len(curves) > 1:
        return all(_equal(curve, curves[0]) for curve in curves[1:])
    for other in panels:
        held = [line.curve for line in other.lines if not line.level] if other is not None else []
        if len(held) == len(curves) and all(map(_equal, held, curves)):
            return True
    return False


def _equal(one: Curve, other: Curve) -> bool:
    return np.array_equal(one.steps, other.steps) and np.array_equal(one.values, other.values, equal_nan=True)


def median_curve(curves: Sequence[Curve]) -> Curve:
    """The median at every place at which all curves have begun and none has ended.

    >>> median_curve([Curve([0, 1, 2], [1, 2, 3]), Curve([0, 1, 2], [3, 4, 5])]).values.tolist()
    [2.0, 3.0, 4.0]
    """
    if len(curves) == 1:
        return curves[0]
    begin = max(float(curve.steps[0]) for curve in curves)
    end = min(float(curve.steps[-1]) for curve in curves)
    places = np.unique(np.concatenate([curve.steps for curve in curves]))
    places = places[(places >= begin) & (places <= end)]
    held = np.stack([np.interp(places, curve.steps, curve.values) for curve in curves])
    return Curve(places, np.median(held, axis=0))


def _roles(record: RunRecord) -> dict[str, str]:
    curves = record.curves.by_name
    roles = guess_tags(Tag(name, len(curve)) for name, curve in curves.items())
    for role, name in (("kl", "val/kl"), ("grad_norm", "grad/norm_p50"), ("lr", "lr")):
        if name in curves:
            roles[role] = name
    return roles
