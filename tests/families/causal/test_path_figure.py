from __future__ import annotations

import pytest

from stablelit.errors import DataError
from stablelit.families.causal.path_figure import path_panel


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_the_path_shows_h_the_weights_and_the_stages():
    h = [1.0, 1e-3, 1e-20, 1e-5, 0.0, -1e-18]
    figure = path_panel(range(6), h, {"mu": [1, 1, 0.1, 0.1, 0.01, 0.01]}, [0, 0, 1, 1, 2, 2], "path")
    above, below = figure.axes
    drawn = lines(above)
    assert "below 1e-16 from step 4" in drawn
    assert min(next(iter(drawn.values())).get_ydata()) == 1e-16
    assert lines(below)["mu"].get_ydata().tolist() == [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert [line.get_xdata()[0] for line in above.get_lines() if line.get_linestyle() == ":"] == [2, 4]
    assert [text.get_text() for text in above.texts] == ["0", "1", "2", "stage"]


def test_a_graph_that_ends_with_a_cycle_is_not_said_to_be_without():
    assert not any("below" in label for label in lines(path_panel([1, 2], [0.0, 1.0], {}).axes[0]))
    assert "below 1e-16 from step 1" in lines(path_panel([1, 2], [0.0, 0.0], {}).axes[0])


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: path_panel([], [], {}), r"h has shape \(0,\); allowed: \(S,\) with at least one number"),
        (lambda: path_panel([1], [1.0, 2.0], {}), r"steps has shape \(1,\); allowed: \(2,\)"),
        (lambda: path_panel([1], [1.0], {"mu": [1.0, 2.0]}), "path_panel: mu has shape"),
        (lambda: path_panel([1], [1.0], {}, [1, 2]), "stage has shape"),
        (lambda: path_panel([1], [[1.0]], {}), "h has shape"),
    ],
)
def test_bad_input_is_refused(draw, message):
    with pytest.raises(DataError, match=message):
        draw()
