"""The page around the sections: one file, no script, nothing from elsewhere, and a policy that forbids both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stablelit.report.markup import Markup, element, join

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = Path(__file__).with_name("page.css")


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        key: its id, in letters.
        title: its heading and its name in the bar of contents.
        body: what is in it.
    """

    key: str
    title: str
    body: Markup


def page(title: str, header: Markup, sections: Sequence[Section], footer: str) -> str:
    """The whole HTML file; sections without a body are left out."""
    held = [section for section in sections if section.body]
    bar = element(
        "nav",
        element("div", *(element("a", section.title, href=f"#{section.key}") for section in held)),
        aria_label="Contents",
    )
    body = element(
        "div",
        element("header", header),
        element(
            "main",
            *(
                element("section", element("h2", section.title), section.body, id=section.key, aria_label=section.title)
                for section in held
            ),
        ),
        element("footer", footer),
        class_="page",
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(_STYLE.read_text(encoding="utf-8"))),
    )
    return "<!doctype html>\n" + element("html", head, element("body", join([bar, body], "\n")), lang="en") + "\n"
