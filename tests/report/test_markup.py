from __future__ import annotations

import pytest

from stablelit.report.markup import Markup, element, escape, join, table
from tests.report.page_checks import Parsed


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", '" onload="x', "' onload='x", "&lt;", "</style><b>", "]]>", "<!--"],
    ids=["script", "double-quote", "single-quote", "entity", "closes", "cdata", "comment"],
)
def test_text_comes_out_of_a_parser_as_it_went_in(text):
    page = Parsed()
    page.feed(element("p", text, title=text))
    page.close()
    (found,) = page.elements
    assert found.tag == "p"
    assert found.attributes == {"title": text}
    assert found.text == text


def test_characters_that_no_page_may_hold_are_replaced_and_can_be_written_as_utf_8():
    held = escape("a\x00b\x1bc\ud800d\te\n")
    assert held == "a\ufffdb\ufffdc\ufffdd\te\n"
    held.encode("utf-8")


def test_markup_is_not_escaped_again_and_none_is_left_out():
    assert join(["a<", None, Markup("<b>")], ", ") == "a&lt;, <b>"
    assert element("p", None, element("b", 1)) == "<p><b>1</b></p>"


def test_attributes_that_are_none_or_false_are_left_out():
    assert element("p", class_="a", aria_label="b", title=None, hidden=False) == '<p class="a" aria-label="b"></p>'
    assert element("p", hidden=True) == "<p hidden></p>"


@pytest.mark.parametrize("name", ["p onload", "P", "", "p>"], ids=["space", "capital", "empty", "closes"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="no name of an element"):
        element(name)
    with pytest.raises(ValueError, match="no name of an attribute"):
        element("p", **{name: "x"})


def test_a_table_sets_numbers_to_the_right():
    held = table(["name", "value"], [["a<b", "1"]])
    assert '<td>a&lt;b</td><td class="number">1</td>' in held
    assert '<th>name</th><th class="number">value</th>' in held
