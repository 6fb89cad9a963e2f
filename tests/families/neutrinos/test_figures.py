from __future__ import annotations

import ast
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from stablelit.families.neutrinos import figures
from stablelit.families.neutrinos.angles import angle_between, unit_vector
from stablelit.families.neutrinos.figures import (
    angular_error_by_pulse_count,
    cumulative_angular_error,
    kappa_calibration,
    predicted_against_true_zenith,
)


@pytest.fixture
def events():
    """Predictions, truths, pulse counts and errors of 400 events; more pulses, smaller errors."""
    generator = torch.Generator().manual_seed(0)
    t = unit_vector(torch.randn(400, 3, generator=generator))
    pulses = torch.randint(4, 256, (400,), generator=generator)
    kappa = pulses[:, None] / 4.0
    f = kappa * unit_vector(t + torch.randn(400, 3, generator=generator) / kappa.sqrt())
    return f, t, pulses, angle_between(unit_vector(f), t)


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def line(axes, label):
    (found,) = [x for x in axes.get_lines() if x.get_label() == label]
    return found.get_xydata()


@pytest.mark.slow
def test_medians_and_bands_are_those_of_the_events_of_a_class(events, tmp_path):
    _, _, pulses, error = events
    fit = torch.full_like(error, 1.0)
    figure = angular_error_by_pulse_count(error, pulses, fit, title="epoch 3")
    figure.savefig(tmp_path / "a.png", dpi=40)
    above, below = figure.axes
    found = line(above, "model: median")
    groups = [(pulses >= 2**k) & (pulses < 2 ** (k + 1)) for k in range(2, 8)]
    groups = [group for group in groups if group.sum() >= 5]
    assert len(found) == len(groups) >= 4
    for (x, y), group in zip(found, groups, strict=True):
        assert x == pytest.approx(float(np.median(pulses[group])))
        assert y == pytest.approx(math.degrees(float(np.median(error[group]))), rel=1e-5)
    assert line(above, "line fit: median")[:, 1] == pytest.approx([math.degrees(1.0)] * len(groups))
    assert figure.get_suptitle() == "epoch 3"
    # an error may be anywhere between 0 and 180 degrees
    assert above.get_legend().get_window_extent().y0 >= above.get_window_extent().y1
    counts = below.patches[0].get_data()
    assert counts.values.tolist() == [int(((pulses >= a) & (pulses < 2 * a)).sum()) for a in (4, 8, 16, 32, 64, 128)]
    assert not [text for text in labels(angular_error_by_pulse_count(error, pulses).axes[0]) if "line fit" in text]


@pytest.mark.slow
def test_the_share_of_smaller_errors_is_counted_beside_that_of_a_guess(events, tmp_path):
    *_, error = events
    figure = cumulative_angular_error(error, error * 2)
    figure.savefig(tmp_path / "a.png", dpi=40)
    (axes,) = figure.axes
    steps = axes.get_lines()[0].get_xydata()
    for degrees, share in steps[::50]:
        # within the rounding of radians to degrees
        assert share == pytest.approx(float((error <= math.radians(degrees) * (1 + 1e-6)).double().mean()), abs=0.003)
    guess = line(axes, "random guess: median 90°, mean 90°")
    assert np.interp(90.0, *guess.T) == pytest.approx(0.5, abs=1e-3)
    assert np.interp(60.0, *guess.T) == pytest.approx(0.25, abs=1e-3)
    assert labels(axes)[0].startswith(f"model: median {math.degrees(np.median(error)):.3g}°")
    assert labels(axes)[1].startswith("line fit")


@pytest.mark.parametrize("factor", [30.0, 0.05])
def test_too_large_kappas_lie_below_the_diagonal_and_too_small_ones_above(events, factor, tmp_path):
    f, t, _, _ = events
    figure = kappa_calibration(factor * f, t)
    figure.savefig(tmp_path / "a.png", dpi=40)
    (axes,) = figure.axes
    x, y = line(axes, "model").T
    middle = (x > 0.05) & (x < 0.95)
    assert (y < x)[middle].all() if factor > 1 else (y > x)[middle].all()
    (numbers,) = [text for text in axes.texts if "caps hold" in text.get_text()]
    assert numbers.get_position()[1] > 0.5 if factor > 1 else numbers.get_position()[1] < 0.5


@pytest.mark.slow
def test_columns_of_true_zenith_add_up_and_right_predictions_lie_on_the_diagonal(events, tmp_path):
    f, t, _, _ = events
    figure = predicted_against_true_zenith(f, t)
    figure.savefig(tmp_path / "a.png", dpi=40)
    shares = figure.axes[0].collections[0].get_array().filled(np.nan)
    np.testing.assert_allclose(np.nansum(shares, axis=0), 100.0)
    right = predicted_against_true_zenith(3 * t, t).axes[0].collections[0].get_array().filled(np.nan)
    np.testing.assert_allclose(right[~np.isnan(right)], 100 * np.eye(len(right))[~np.isnan(right)])
    up = predicted_against_true_zenith(torch.tensor([[0.0, 0.0, 1.0]]).expand_as(t), t)
    shares = up.axes[0].collections[0].get_array().filled(0.0)
    assert (shares[:-1] == 0).all()
    bias = 1.0 - float(t[:, 2].mean())
    assert up.axes[0].get_title() == f"predicted less true cosine on average: {bias:+.3f}"


@pytest.mark.slow
def test_predictions_that_are_not_finite_are_left_out_and_counted(events, tmp_path):
    f, t, pulses, _ = events
    f[::4] = math.nan
    error = angle_between(unit_vector(f), t)
    nothing = torch.full_like(f, math.nan)
    for bad, wrong, left_out in ((f, error, 100), (nothing, nothing[:, 0], 400)):
        for figure in (
            angular_error_by_pulse_count(wrong, pulses),
            cumulative_angular_error(wrong),
            kappa_calibration(bad, t),
            predicted_against_true_zenith(bad, t),
        ):
            assert f"{left_out} predictions that are NaN or infinite are left out" in figure.get_suptitle()
            figure.savefig(tmp_path / "a.png", dpi=30)


@pytest.mark.slow
def test_one_event_makes_pictures_too(events, tmp_path):
    f, t, pulses, error = (column[:1] for column in events)
    for figure in (
        angular_error_by_pulse_count(error, pulses, error),
        cumulative_angular_error(error),
        kappa_calibration(f, t),
        predicted_against_true_zenith(f, t),
    ):
        figure.savefig(tmp_path / "a.png", dpi=30)


def test_matplotlib_is_imported_by_the_functions_alone():
    tree = ast.parse(Path(figures.__file__).read_text())
    imported = [ast.dump(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [name for name in imported if "matplotlib" in name]
