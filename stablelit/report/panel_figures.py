"""Panels as figures of a page: the picture, what it is, and its numbers for those who do not see it."""

from __future__ import annotations

from collections.abc import Sequence

from stablelit.report.markup import Markup, element, folded, table
from stablelit.report.panel import Panel
from stablelit.report.panel_drawing import draw_panel


def panel_figures(panels: Sequence[Panel]) -> Markup:
    """All panels in a grid, of which a page has one."""
    return element("div", *(_figure(panel, str(place)) for place, panel in enumerate(panels)), class_="panels")


def _figure(panel: Panel, salt: str) -> Markup:
    scale = ", ".join(part for part in (panel.unit, "log scale" if panel.is_logarithmic else "") if part)
    below = f"below: {panel.lower_title}" if panel.lower and panel.lower_title else ""
    told = " · ".join(part for part in (scale, below) if part)
    title = element("h3", panel.title, element("small", told) if told else None)
    note = " ".join(part for part in (panel.note, "A few values lie outside." if panel.is_cut else "") if part)
    head, rows = panel.numbers()
    return element(
        "figure",
        element("figcaption", title),
        draw_panel(panel, salt),
        element("p", note, class_="note") if note else None,
        folded("Numbers", table(head, rows, numeric_from=0)),
    )
