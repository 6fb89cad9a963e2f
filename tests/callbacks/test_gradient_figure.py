from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.callbacks._gradient_figure import draw_gradients
from stablelit.callbacks._gradient_history import GradientHistory


def history(norms, bounds=None, steps=None, **kwargs):
    filled = GradientHistory(**kwargs)
    for place, norm in enumerate(norms):
        bound = bounds[place] if isinstance(bounds, list) else bounds
        filled.add(place if steps is None else steps[place], norm, None if bound is None else norm > bound, bound)
    return filled


def drawn(*args, window=50, **kwargs):
    return draw_gradients({0: history(*args, **kwargs)}, window)


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_the_norm_is_on_a_log_scale_beside_the_clip_and_non_finite_steps_are_marked():
    above, below = drawn([4.0, 2.0, math.nan, 0.5, math.inf, 0.25], 1.0, window=2).axes
    assert above.get_yscale() == "log"
    found = lines(above)
    assert found["norm"].get_ydata() == pytest.approx([4, 2, 0.5, 0.25])
    assert found["norm"].get_xdata().tolist() == [0, 1, 3, 5]
    assert set(found["clip at 1"].get_ydata()) == {1.0}
    assert found["not finite (2)"].get_xdata().tolist() == [2, 4]
    ratio, whole = below.get_lines()
    # of the last two steps, without those that are not finite: clipped, clipped, clipped, not, not, not
    assert ratio.get_ydata().tolist() == [1, 1, 1, 0, 0, 0]
    assert whole.get_label() == "of all finite steps: 50 %"


def test_a_window_without_any_finite_step_has_no_ratio():
    ratio = drawn([math.nan, math.nan, 1.0], 0.5, window=1).axes[1].get_lines()[0].get_ydata()
    assert np.isnan(ratio).tolist() == [True, True, False]


def test_a_threshold_that_moves_is_compared_step_by_step():
    above, below = drawn([1.0, 1.0, 1.0], [2.0, 1.0, 0.5], steps=[10, 20, 30], window=1).axes
    ratio = below.get_lines()[0]
    assert ratio.get_ydata().tolist() == [0, 0, 1]
    assert ratio.get_xdata().tolist() == [10, 20, 30]
    assert lines(above)["clip"].get_ydata().tolist() == [2.0, 1.0, 0.5]


def test_where_the_threshold_is_not_known_there_is_no_line():
    above = drawn([1.0, 1.0, 1.0, 1.0], [math.inf, 2.0, 2.0, math.inf]).axes[0]
    assert np.isnan(lines(above)["clip at 2"].get_ydata()).tolist() == [True, False, False, True]


def test_without_a_clip_there_is_one_panel():
    (axes,) = drawn([1.0, 2.0]).axes
    assert axes.get_ylabel() == "gradient norm"


def test_of_many_steps_the_largest_norm_stays_in_the_picture():
    norms = np.ones(50_000)
    norms[12_345] = 1e6
    axes = drawn(norms).axes[0]
    (band,) = axes.collections
    assert band.get_paths()[0].vertices[:, 1].max() == 1e6
    mean = lines(axes)["geometric mean of 32 steps"].get_ydata()
    assert len(mean) <= 2048
    # one norm of 1e6 among 32, the others 1
    assert mean.max() == pytest.approx(1e6 ** (1 / 32))


@pytest.mark.slow
def test_the_ratio_of_a_long_run_is_that_of_a_hundredth_of_it():
    norms = np.tile([1.0, 3.0, 1.0, 1.0], 25_000)
    below = drawn(norms, 2.0).axes[1]
    assert below.get_ylabel() == "clipped, of\n1024 steps"
    assert set(below.get_lines()[0].get_ydata()) == {0.25}


def test_zeros_are_marked_and_so_are_the_scalers_skips():
    filled = history([1.0, 0.0, 0.0, 2.0], 1.5)
    filled.add(4, math.inf, scaled=True)
    found = lines(draw_gradients({0: filled}).axes[0])
    assert found["exactly zero (2)"].get_xdata().tolist() == [1, 2]
    assert found["skipped by the scaler (1)"].get_xdata().tolist() == [4]
    assert not any(label.startswith("not finite") for label in found)


def test_every_optimizer_has_panels_of_its_own():
    figure = draw_gradients({0: history([1.0, 2.0]), 1: history([3.0, 4.0], 3.5), 3: history([5.0], 3.5)})
    labels = [axes.get_ylabel() for axes in figure.axes]
    ratio = "clipped, of\n50 steps"
    clipped = "norm before the clip"
    assert labels == ["optimizer 0\nnorm", f"optimizer 1\n{clipped}", ratio, f"optimizer 3\n{clipped}", ratio]


@pytest.mark.slow
@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("norms", [[0.0, 0.0], [math.nan], [1.0], [1e-30, 1e30], [1.0, 1.5, 2.0], [0.5, 20.0]], ids=str)
def test_what_is_odd_is_drawn_too(norms, clip, tmp_path):
    drawn(norms, clip).savefig(tmp_path / "a.png", dpi=40)


@pytest.mark.parametrize("high", [1.5, 8.0, 50.0, 1e6])
def test_an_axis_of_any_length_has_numbers(high):
    figure = drawn(np.linspace(1.0, high, 30))
    figure.canvas.draw()
    axes = figure.axes[0]
    low, top = axes.get_ylim()
    assert sum(low <= tick <= top for tick in axes.get_yticks()) >= 2
