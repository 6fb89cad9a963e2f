"""A matplotlib figure as SVG inside a page, in the page's own colours, so that one drawing serves light and dark.

It is drawn in stand-in colours that nothing else uses; each is then replaced by the CSS variable of its name, which
`page.css` sets for either theme. Texts stay texts, in the page's font.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stablelit.report.markup import Markup, element, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours that are told apart by the colour-blind, darkened where they are too light on white
SERIES = ("series-1", "series-2", "series-3", "series-4", "series-5", "series-6")
STAND_INS = {
    "muted": "#010a02",
    "rule": "#010a03",
    "bad": "#010a05",
    "warn": "#010a06",
    **{name: f"#010a1{place}" for place, name in enumerate(SERIES)},
}
_NAMES = {value: name for name, value in STAND_INS.items()}
_COLOUR = re.compile(r"#010a[01][0-9a-f]")
_TAG = re.compile(r"<[^>]*>")
_LONG_NUMBER = re.compile(r"(?<![\w#.])(-?\d+\.\d)\d+")
_FONT = re.compile(r"font: ((?:[\w-]+ )*?)([\d.]+)px [^;\"]*")
_ID = re.compile(r" id=\"([^\"]*)\"")
_REFERENCE = re.compile(r"#([\w.:-]+)")
_FAMILY = re.compile(r"font-family: [^;\"]*(; )?")
_SIZE = re.compile(r"<svg [^>]*viewBox=\"([^\"]+)\"[^>]*>")


def colour(name: str) -> str:
    """The stand-in for a colour of the page: `muted`, `rule`, `bad`, `warn`, `series-1` to `-6`."""
    return STAND_INS[name]


@contextmanager
def drawing_style(salt: str) -> Iterator[None]:
    """What holds while a figure is made and written; `salt` keeps the ids of two figures in a page apart."""
    import matplotlib

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        # names with a dollar sign are names
        "text.parse_math": False,
        "font.family": ["DejaVu Sans"],
        "figure.facecolor": "none",
        "lines.solid_capstyle": "round",
        "path.simplify": True,
        "path.simplify_threshold": 0.25,
    }
    with matplotlib.rc_context(settings):
        yield


def inline_svg(figure: Figure, alt: str) -> Markup:
    """Writes a figure as one ``<svg>`` for a page; `alt` is what those hear who do not see it."""
    held = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(held, format="svg", metadata=nothing)
    text = held.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    wanted = set(_REFERENCE.findall(text))
    text = _ID.sub(lambda found: found[0] if found[1] in wanted else "", text)
    text = _COLOUR.sub(lambda found: f"var(--{_NAMES[found[0]]})", text)
    # before matplotlib 3.10 in one word
    text = _FONT.sub(lambda found: f"font-size: {found[2]}px" + ("; font-weight: 700" if found[1] else ""), text)
    text = _FAMILY.sub("", text)
    # a tenth of a point is finer than any screen
    text = _TAG.sub(lambda tag: _LONG_NUMBER.sub(r"\1", tag[0]), text)
    text = re.sub(r"\n\s*", "\n", text)
    size = _SIZE.match(text)
    assert size is not None
    head = Markup(f'<svg role="img" aria-label="{escape(alt)}" viewBox="{size[1]}">')
    return Markup(head + text[size.end() :].strip())


def sparkline(values: list[float], alt: str, width: int = 96, height: int = 20) -> Markup:
    """A curve of the size of a word: finite values from least to greatest, the last one marked."""
    points = [(place, value) for place, value in enumerate(values) if value == value and abs(value) != float("inf")]
    if not points:
        return element("span", "not finite", class_="muted")
    if len(points) > 64:
        points = [points[round(place * (len(points) - 1) / 63)] for place in range(64)]
    low, high = min(value for _, value in points), max(value for _, value in points)
    across, span = max(len(values) - 1, 1), high - low

    def place_of(point: tuple[int, float]) -> tuple[float, float]:
        level = 0.5 if not span > 0 else (point[1] / span - low / span)
        return round(2 + point[0] / across * (width - 6), 1), round(height - 3 - level * (height - 6), 1)

    placed = [place_of(point) for point in points]
    line = element("polyline", points=" ".join(f"{x},{y}" for x, y in placed))
    dot = element("circle", cx=placed[-1][0], cy=placed[-1][1], r=2)
    return Markup(
        f'<svg class="spark" role="img" aria-label="{escape(alt)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">{line}{dot}</svg>'
    )
