"""What a browser makes of the pages. Needs Chromium; where it is missing these tests fail and say how to get it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stablelit.report.writing import write_report
from tests.report.browser import Browser
from tests.report.made_runs import finding, make_picture, make_run

pytestmark = pytest.mark.slow

LIGHT, DARK = (255, 255, 255), (20, 23, 26)
# of the first series in page.css
BLUE = {False: (0, 114, 178), True: (86, 180, 233)}
WIDER_THAN_THE_PAGE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# tables scroll in themselves, and the bar of contents does
STICKS_OUT = """
[...document.querySelectorAll('main *, header *')]
  .filter(e => !e.closest('.scroll') && !e.closest('svg') && e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.tagName + ' ' + e.className)
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    held = Browser(tmp_path_factory.mktemp("profile"))
    yield held
    held.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """A page of every kind."""
    root = tmp_path_factory.mktemp("pages")
    long_name = f"val/{'a_name_that_nobody_breaks_' * 6}"
    one = make_run(
        root / "one", 30,
        findings=[finding(), finding("second", "critical", 200, message="word" * 90, remedy="key=" + "x" * 300)],
        change=lambda made: {**made, long_name: 1.0, f"{long_name}_floor": 0.5},
    )  # fmt: skip
    make_picture(one / "figures" / "test" / "jets.png")
    more = [
        make_run(root / f"more{seed}", 30, kl_target=5 + seed // 2, seed=seed, scale=1 + seed / 50) for seed in range(4)
    ]
    other = make_run(root / "other", 5, family="causal", name="causal")
    asked = {"one": [one], "several": more, "families": [one, other]}
    return {name: write_report(places, root / f"{name}.html").path for name, places in asked.items()}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
@pytest.mark.parametrize("name", ["one", "several", "families"])
def test_a_page_is_shown_without_a_complaint_and_asks_for_nothing(browser, pages, tmp_path, name, width, dark):
    browser.open(pages[name], width, 900, dark)
    pixels = np.asarray(Image.open(browser.picture(tmp_path / "seen.png")).convert("RGB"))
    assert browser.complaints == []
    assert [url for url in browser.requests if url != pages[name].resolve().as_uri()] == []
    assert tuple(pixels[-1, 0]) == (DARK if dark else LIGHT)
    # titles, tables and pictures are there, in ink that is far from the paper
    assert (np.abs(pixels.astype(int) - pixels[-1, 0]).sum(-1) > 300).mean() > 0.004
    if name != "families":
        assert (np.abs(pixels.astype(int) - BLUE[dark]).sum(-1) < 12).sum() > 200
    assert browser.ask_page(WIDER_THAN_THE_PAGE) == 0
    assert browser.ask_page(STICKS_OUT) == []


def test_texts_in_pictures_can_be_read_on_a_phone(browser, pages):
    browser.open(pages["one"], 390, 844)
    sizes = browser.ask_page(
        "[...document.querySelectorAll('figure svg text')].map(t => t.getBoundingClientRect().height)"
    )
    assert len(sizes) > 40
    assert min(sizes) > 8
    # names of lines and numbers of axes stay in their picture
    out = browser.ask_page(
        "[...document.querySelectorAll('figure svg')].flatMap(s => [...s.querySelectorAll('text')]"
        ".filter(t => t.getBoundingClientRect().right > s.getBoundingClientRect().right + 2"
        " || t.getBoundingClientRect().left < s.getBoundingClientRect().left - 2).map(t => t.textContent))"
    )
    assert out == []


def test_everything_has_a_name_for_those_who_do_not_see_it(browser, pages):
    browser.open(pages["one"])
    assert browser.ask_page("[...document.querySelectorAll('svg')].every(s => s.getAttribute('aria-label'))")
    assert browser.ask_page("[...document.images].every(i => i.alt && i.naturalWidth > 0)")
    assert browser.ask_page("document.images.length") == 1
    assert browser.ask_page("document.documentElement.lang") == "en"


def test_the_policy_of_the_page_forbids_scripts_and_addresses(browser, pages, tmp_path):
    html = pages["one"].read_text(encoding="utf-8")
    spoilt = tmp_path / "spoilt.html"
    spoilt.write_text(html.replace("</main>", "<script>document.title='ran'</script><img src='x.png'></main>"))
    browser.open(spoilt)
    assert browser.ask_page("document.title") != "ran"
    assert len([one for one in browser.complaints if "Content Security Policy" in one]) == 2


def test_a_browser_that_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get install -y chromium"):
        Browser(tmp_path)
