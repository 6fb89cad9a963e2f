from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.causal.training_figures import gradient_panel, path_panel


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_the_norm_is_on_a_log_scale_beside_the_clip_and_non_finite_steps_are_marked():
    norms = np.array([4.0, 2.0, math.nan, 0.5, math.inf, 0.25])
    above, below = gradient_panel(norms, 1.0, window=2).axes
    assert above.get_yscale() == "log"
    drawn = lines(above)
    assert drawn["norm"].get_ydata().tolist() == [4, 2, 0.5, 0.25]
    assert drawn["norm"].get_xdata().tolist() == [1, 2, 4, 6]
    assert set(drawn["clip at 1"].get_ydata()) == {1.0}
    assert drawn["not finite (2)"].get_xdata().tolist() == [3, 5]
    (ratio,) = below.get_lines()
    # means over the last two finite steps: clipped, clipped, not, not
    assert ratio.get_ydata().tolist() == [1.0, 1.0, 0.5, 0.0]


def test_a_threshold_that_moves_is_compared_step_by_step():
    _, below = gradient_panel([1.0, 1.0, 1.0], [2.0, 1.0, 0.5], steps=[10, 20, 30], window=1).axes
    (ratio,) = below.get_lines()
    assert ratio.get_ydata().tolist() == [0, 0, 1]
    assert ratio.get_xdata().tolist() == [10, 20, 30]


def test_without_a_clip_there_is_one_panel():
    assert len(gradient_panel([1.0, 2.0]).axes) == 1


def test_of_many_steps_the_largest_norm_stays_in_the_picture():
    norms = np.ones(50_000)
    norms[12_345] = 1e6
    axes = gradient_panel(norms).axes[0]
    (band,) = axes.collections
    assert band.get_paths()[0].vertices[:, 1].max() == 1e6
    assert len(lines(axes)["median"].get_ydata()) <= 1500


def test_norms_of_zero_alone_are_drawn(tmp_path):
    gradient_panel([0.0, 0.0], 1.0).savefig(tmp_path / "a.png", dpi=40)
    gradient_panel([math.nan], 1.0).savefig(tmp_path / "b.png", dpi=40)


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
        (lambda: gradient_panel([]), r"gradient_panel: norms has shape \(0,\)"),
        (lambda: gradient_panel([-1.0]), "norms has -1"),
        (lambda: gradient_panel([1.0], 0.0), "max_norm has 0"),
        (lambda: gradient_panel([1.0], math.nan), "max_norm has nan"),
        (lambda: gradient_panel([1.0], [1.0, 2.0]), r"max_norm has shape \(2,\); allowed: \(1,\)"),
        (lambda: gradient_panel([1.0], steps=[1, 2]), "steps has shape"),
        (lambda: gradient_panel([1.0], window=0), "window=0"),
        (lambda: path_panel([1], [1.0, 2.0], {}), r"steps has shape \(1,\); allowed: \(2,\)"),
        (lambda: path_panel([1], [1.0], {"mu": [1.0, 2.0]}), "path_panel: mu has shape"),
        (lambda: path_panel([1], [1.0], {}, [1, 2]), "stage has shape"),
        (lambda: path_panel([1], [[1.0]], {}), "h has shape"),
    ],
)
def test_bad_input_is_refused(draw, message):
    with pytest.raises(DataError, match=message):
        draw()
