"""What holds of every page, asked of Python's own parser, which knows nothing of how the page was made."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "img", "br", "hr", "input", "link"}
_SECTION_TAGS = {"script", "iframe", "object", "embed", "form", "base", "link"}


@dataclass
class Element:
    """One element as it was opened."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""


@dataclass
class Parsed(HTMLParser):
    """A page in pieces; raises where an element is closed that is not open."""

    elements: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag, attrs):
        found = Element(tag, dict(attrs))
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        self.elements.append(found)
        if tag not in _VOID:
            self.open.append(found)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data):
        for held in self.open:
            held.text += data
        if not self.open or self.open[-1].tag != "style":
            self.text += data

    def all(self, tag: str) -> list[Element]:
        return [found for found in self.elements if found.tag == tag]


def parsed(html: str) -> Parsed:
    """Parses a page and complains of what must not be in any."""
    page = Parsed()
    page.feed(html)
    page.close()
    assert not page.open, f"never closed: {[held.tag for held in page.open]}"
    assert not [found.tag for found in page.elements if found.tag in _SECTION_TAGS]
    _nothing_from_elsewhere(page)
    _everything_has_words(page)
    ids = [found.attributes["id"] for found in page.elements if found.attributes.get("id")]
    assert len(ids) == len(set(ids)), f"ids twice: {sorted({one for one in ids if ids.count(one) > 1})[:5]}"
    policy = [m.attributes.get("content") for m in page.all("meta") if m.attributes.get("http-equiv")]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    return page


def _nothing_from_elsewhere(page: Parsed) -> None:
    ids = {found.attributes.get("id") for found in page.elements}
    for found in page.elements:
        for name, value in found.attributes.items():
            assert not name.startswith("on"), f"<{found.tag} {name}>"
            if name in ("href", "xlink:href"):
                assert (value or "").startswith("#"), f"<{found.tag} {name}={value!r}>"
                assert value[1:] in ids, f"{value} leads nowhere"
            elif name in ("src", "srcset", "poster", "data", "action", "background"):
                assert (value or "").startswith("data:image/"), f"<{found.tag} {name}={(value or '')[:40]!r}>"
            elif value and "url(" in value:
                assert re.fullmatch(r"url\(#[\w-]+\)", re.search(r"url\([^)]*\)", value)[0]), value
    for style in page.all("style"):
        assert "@import" not in style.text
        assert "url(" not in style.text


def _everything_has_words(page: Parsed) -> None:
    for image in page.all("img"):
        assert image.attributes.get("alt")
        assert image.attributes.get("width")
        assert image.attributes.get("height")
    for picture in page.all("svg"):
        assert picture.attributes.get("role") == "img"
        assert picture.attributes.get("aria-label")
    for figure in page.all("figure"):
        assert figure.text.strip(), "a figure without a caption"
