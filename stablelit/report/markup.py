"""HTML that cannot be broken out of: what is not markup already is escaped where it is put in.

Names, settings and findings come from files that anybody may have written, so nothing is joined by hand.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

_VOID = frozenset(["meta", "img", "br"])
_NAME = re.compile(r"[a-z][a-z0-9-]*")
# what no browser shows, and what XML and HTML do not allow
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """A string that is HTML already."""

    __slots__ = ()


def escape(text: object) -> Markup:
    """Text as it is to be read, in an element or in an attribute; characters that HTML does not allow become U+FFFD.

    >>> escape("<b> & 'c'")
    '&lt;b&gt; &amp; &#x27;c&#x27;'
    """
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(_NOT_TEXT.sub("\ufffd", str(text)), quote=True))


def join(parts: Iterable[object], between: object = "") -> Markup:
    """Escapes what is not markup and puts it in a row; None is left out."""
    return Markup(escape(between).join(escape(part) for part in parts if part is not None))


def element(tag: str, /, *children: object, **attributes: object) -> Markup:
    """An element with its children; an attribute that is None is left out, ``class_`` is ``class``.

    >>> element("td", "a < b", class_="number")
    '<td class="number">a &lt; b</td>'

    Raises:
        ValueError: a name that is none.
    """
    if not _NAME.fullmatch(tag):
        raise ValueError(f"{tag!r} is no name of an element.")
    held = ""
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if not _NAME.fullmatch(key):
            raise ValueError(f"{key!r} is no name of an attribute.")
        if value is True:
            held += f" {key}"
        elif value is not None and value is not False:
            held += f' {key}="{escape(value)}"'
    if tag in _VOID:
        return Markup(f"<{tag}{held}>")
    return Markup(f"<{tag}{held}>{join(children)}</{tag}>")


def big_number(term: object, value: object, below: object) -> Markup:
    """An entry of a list of figures: what it is, its value, and a line below."""
    return element("div", element("dt", term), element("dd", value, element("small", below)))


def folded(summary: object, *children: object) -> Markup:
    """What is shown when one asks for it."""
    return element("details", element("summary", summary), *children)


def table(head: Iterable[object], rows: Iterable[Iterable[object]], numeric_from: int = 1) -> Markup:
    """A table that scrolls sideways in itself where the page is narrow.

    Args:
        head: the names of the columns.
        rows: cells, as many in each as there are names; or a row that is markup.
        numeric_from: the first column that holds numbers and is set to the right.
    """

    def cells(kind: str, row: Iterable[object]) -> list[Markup]:
        return [
            cell
            if isinstance(cell, Markup) and cell.startswith(f"<{kind}")
            else element(kind, cell, class_="number" if place >= numeric_from else None)
            for place, cell in enumerate(row)
        ]

    lead = element("thead", element("tr", *cells("th", head)))
    body = element("tbody", *(row if isinstance(row, Markup) else element("tr", *cells("td", row)) for row in rows))
    # reached by the keyboard, so that it can be scrolled without a mouse
    return element("div", element("table", lead, body), class_="scroll", tabindex="0")
