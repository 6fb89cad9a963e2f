from __future__ import annotations

import numpy as np
import pytest

from stablelit.doctor.evidence.curve import Curve
from stablelit.report.panel import Line, Mark, Panel
from stablelit.report.panel_drawing import draw_panel, spread, thinned
from stablelit.report.themed_svg import sparkline
from tests.report.page_checks import Parsed


def svg_of(panel):
    page = Parsed()
    page.feed(draw_panel(panel, "a"))
    page.close()
    assert not page.open
    return page


@pytest.mark.parametrize("n", [4, 260, 261, 1000, 5003])
def test_a_long_curve_keeps_its_ends_and_every_extreme(n):
    values = np.random.default_rng(n).normal(size=n)
    values[n // 3], values[n // 2] = 50.0, -50.0
    places, middle, low, high = thinned(Curve(range(n), values))
    assert len(places) == len(middle) == len(low) == len(high) == min(n, 260)
    assert (places[0], places[-1]) == (0, n - 1)
    assert (np.diff(places) > 0).all()
    assert (low.min(), high.max()) == (-50.0, 50.0)
    assert (low <= middle).all()
    assert (middle <= high).all()


def test_names_are_moved_apart_as_little_as_need_be():
    rng = np.random.default_rng(0)
    for _ in range(50):
        wanted = sorted(rng.uniform(0, 10, rng.integers(1, 8)).tolist())
        moved = spread(wanted, 1.0, 10.0)
        assert min(np.diff(moved), default=1.0) >= 1 - 1e-9
        assert min(moved) >= 0
        assert max(moved) <= 10 + 1e-9
        if min(np.diff(wanted), default=1.0) >= 1:
            assert moved == pytest.approx(wanted)


def test_a_first_wild_value_does_not_flatten_a_curve_and_is_told():
    tame = 2 + 0.1 * np.sin(np.arange(100))
    wild = tame.copy()
    wild[0] = 1e4
    line = Line("loss", Curve(range(100), wild - 3))
    assert Panel("a", [line]).limits()[1] < 3
    assert Panel("a", [line]).is_cut
    assert not Panel("a", [Line("loss", Curve(range(100), tame))]).is_cut
    # a level is what a score is held against: always in the picture
    level = Line("baseline", Curve([0], [20.0]), level=True)
    assert Panel("a", [line, level]).limits()[1] == 20.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 100.0], True), ([1.0, 30.0], False), ([0.0, 100.0], False), ([-1.0, 100.0], False)],
    ids=["wide", "narrow", "zero", "negative"],
)
def test_an_axis_is_logarithmic_where_all_is_positive_and_wide(values, expected):
    assert Panel("a", [Line("b", Curve([0, 1], values))]).is_logarithmic is expected


def test_a_picture_is_in_the_pages_colours_and_its_texts_are_texts():
    panel = Panel(
        "loss", [Line("train $x_1$", Curve(range(5), [5, 4, 3, 2, 1])), Line("chance", Curve([0], [4.5]), level=True)],
        lower=[Line("", Curve(range(5), [1, 1, 1, 0, 0]))], lower_title="rate", marks=[Mark(2, 7, "critical")],
    )  # fmt: skip
    page = svg_of(panel)
    texts = [found.text for found in page.all("text")]
    assert {"train $x_1$", "chance", "epoch", "7"} <= set(texts)
    styles = " ".join(found.attributes.get("style") or "" for found in page.elements)
    assert {"var(--series-1)", "var(--muted)", "var(--rule)", "var(--bad)"} <= set(
        part.rstrip(";") for part in styles.split()
    )
    assert "#0" not in styles
    assert "DejaVu" not in styles


def test_a_flat_line_has_its_own_value_at_the_axis():
    page = svg_of(Panel("a", [Line("x", Curve(range(3), [0.00104] * 3))]))
    assert next(found.text for found in page.all("text") if "x" not in found.text) == "0.00104"


def test_words_say_what_the_curve_does():
    panel = Panel("a", [Line("x", Curve([0, 1, 2, 3], [3.0, float("nan"), 1.0, 2.0]))])
    assert panel.in_words() == (
        "a over the epoch: x falls from 3 to 2, least 1 at epoch 2, most 3; not finite at 1 of 4 points."
    )
    assert "x is never finite" in Panel("a", [Line("x", Curve([0], [float("inf")]))]).in_words()


def test_the_table_of_a_picture_has_its_ends_and_at_most_twelve_rows():
    panel = Panel("a", [Line("x", Curve(range(1000), range(1000)))], lower=[Line("", Curve([0], [7]))], lower_title="y")
    head, rows = panel.numbers()
    assert head == ["epoch", "x", "y"]
    assert len(rows) == 12
    assert rows[0] == ["0", "0", "7"]
    assert rows[-1] == ["999", "999", "7"]


def test_nothing_finite_is_drawn_as_nothing():
    svg_of(Panel("a", [Line("x", Curve([0, 1], [float("nan"), float("inf")]))]))
    assert "not finite" in sparkline([float("nan")], "a")


@pytest.mark.parametrize("values", [[5.0], [1.0, 1.0], [-1e308, 1e308], [1e-320, 2e-320]], ids=str)
def test_a_sparkline_stays_in_its_box(values):
    page = Parsed()
    page.feed(sparkline(values, "a<b"))
    points = [pair.split(",") for pair in page.all("polyline")[0].attributes["points"].split()]
    assert all(0 <= float(x) <= 96 and 0 <= float(y) <= 20 for x, y in points)
    assert page.all("svg")[0].attributes["aria-label"] == "a<b"
