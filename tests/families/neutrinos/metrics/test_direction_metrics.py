from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.utilities.data import dim_zero_sum

from stablelit.errors import DataError
from stablelit.families.neutrinos.metrics import (
    AngularErrorByPulseCount,
    AngularResolution,
    DirectionBias,
    KappaCalibration,
    MeanAngularError,
)

BIN = math.pi / 2**16


def isotropic(n, seed=0):
    vectors = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    return vectors / vectors.norm(dim=-1, keepdim=True)


@pytest.fixture
def directions():
    """Predictions that are near the truth for some events and far for others, truths, pulse counts."""
    generator = torch.Generator().manual_seed(3)
    t = isotropic(700)
    spread = 10 ** (3 * torch.rand(700, 1, generator=generator) - 2.5)
    f = (t + spread * torch.randn(700, 3, generator=generator)) * 10 ** (4 * torch.rand(700, 1, generator=generator))
    return f, t, torch.randint(1, 3000, (700,), generator=generator)


def errors(f, t):
    """By the arc cosine in float64."""
    f, t = f.double().numpy(), t.double().numpy()
    f, t = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (f, t))
    return np.arccos(np.clip((f * t).sum(axis=1), -1, 1))


def in_parts(metric, *columns):
    for part in zip(*[column.split(97) for column in columns], strict=True):
        metric.update(*part)
    return metric


def test_mean_median_and_containment_are_those_of_the_errors(directions):
    f, t, _ = directions
    expected = errors(f, t)
    assert float(in_parts(MeanAngularError(), f, t).compute()) == pytest.approx(expected.mean(), abs=1e-7)
    found = in_parts(AngularResolution(), f, t).compute()
    for name, share in (("median", 0.5), ("68", 0.68), ("90", 0.9)):
        exact = np.quantile(expected, share, method="inverted_cdf")
        assert float(found[f"angular_error_{name}_rad"]) == pytest.approx(exact, abs=BIN)


def test_a_random_guess_scores_a_right_angle_and_so_does_no_guess():
    t = isotropic(20_000)
    found = in_parts(MeanAngularError(), isotropic(20_000, 1), t).compute()
    # the angle's standard deviation is sqrt(pi^2 / 4 - 2) = 0.684
    assert float(found) == pytest.approx(math.pi / 2, abs=4 * 0.684 / math.sqrt(20_000))
    assert float(in_parts(MeanAngularError(), torch.zeros_like(t), t).compute()) == pytest.approx(math.pi / 2)


def test_perfect_and_opposite_predictions_are_in_the_first_and_the_last_bin():
    t = isotropic(50)
    for sign, low, high in ((1.0, 0.0, BIN), (-1.0, math.pi - BIN, math.pi)):
        found = in_parts(AngularResolution(), sign * t, t).compute()
        assert all(low <= float(value) <= high for value in found.values())


def test_classes_of_pulse_counts_are_powers_of_two(directions):
    f, t, n = directions
    n[:5] = torch.tensor([1, 2, 3, 4, 178_000])
    found = in_parts(AngularErrorByPulseCount(), f, t, n).compute()
    expected, which = errors(f, t), np.minimum(np.log2(n.numpy() + 0.5).astype(int), 17)
    assert found["least_pulses"].tolist() == [2**k for k in range(18)]
    assert found["count"].tolist() == np.bincount(which, minlength=18).tolist()
    for k in range(18):
        mine = expected[which == k]
        if not len(mine):
            assert found["mean_rad"][k].isnan()
            assert found["median_rad"][k].isnan()
            continue
        assert float(found["mean_rad"][k]) == pytest.approx(mine.mean(), abs=1e-7)
        median = np.quantile(mine, 0.5, method="inverted_cdf")
        assert float(found["median_rad"][k]) == pytest.approx(median, abs=math.pi / 4096)


def test_bias_is_the_difference_of_the_mean_directions(directions):
    f, t, _ = directions
    n = (f / f.norm(dim=-1, keepdim=True)).double()
    found = in_parts(DirectionBias(), f, t).compute()
    assert float(found["z_bias"]) == pytest.approx(float(n[:, 2].mean() - t.double()[:, 2].mean()), abs=1e-7)
    assert float(found["resultant_length"]) == pytest.approx(float(n.mean(dim=0).norm()), abs=1e-7)
    assert float(found["resultant_length_true"]) == pytest.approx(float(t.double().mean(dim=0).norm()), abs=1e-7)
    up = in_parts(DirectionBias(), torch.tensor([[0.0, 0.0, 5.0]]).expand(700, 3), t).compute()
    assert float(up["resultant_length"]) == pytest.approx(1.0)
    assert float(up["z_bias"]) > 0.9
    assert int(up["events"]) == 700


@pytest.mark.parametrize(
    "make", [MeanAngularError, AngularResolution, AngularErrorByPulseCount, KappaCalibration, DirectionBias]
)
def test_ranks_add_up_to_what_one_process_sees_and_a_reset_forgets(make, directions):
    columns = directions if make is AngularErrorByPulseCount else directions[:2]
    whole = in_parts(make(), *columns)
    halves = [in_parts(make(), *[column[part] for column in columns]) for part in (slice(0, 300), slice(300, None))]
    assert set(whole._reductions.values()) == {dim_zero_sum}
    joined = make()
    for name in joined._defaults:
        setattr(joined, name, sum(getattr(half, name) for half in halves))
    joined._update_count = 1
    torch.testing.assert_close(joined.compute(), whole.compute(), rtol=1e-12, atol=1e-12, equal_nan=True)
    halves[0].reset()
    again = in_parts(halves[0], *columns)
    torch.testing.assert_close(again.compute(), whole.compute(), rtol=1e-12, atol=1e-12, equal_nan=True)
    whole.to(torch.bfloat16).half()
    whole.update(*columns)
    whole.reset()
    assert {getattr(whole, name).dtype for name in whole._defaults} <= {torch.float64, torch.int64}


def test_forward_gives_the_batch_and_keeps_the_sum(directions):
    f, t, _ = directions
    for make in (MeanAngularError, AngularResolution):
        metric, first = make(), make()
        values = [metric(f[part], t[part]) for part in (slice(0, 300), slice(300, None))]
        first.update(f[:300], t[:300])
        torch.testing.assert_close(values[0], first.compute())
        torch.testing.assert_close(metric.compute(), in_parts(make(), f, t).compute())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_prediction_that_is_not_finite_shows_in_every_number(bad, directions):
    f, t, n = directions
    f[13, 1] = bad
    assert in_parts(MeanAngularError(), f, t).compute().isnan()
    for metric in (AngularResolution(), KappaCalibration()):
        assert all(value.isnan() for value in in_parts(metric, f, t).compute().values())
    bias = in_parts(DirectionBias(), f, t).compute()
    assert bias["z_bias"].isnan()
    assert bias["resultant_length"].isnan()
    found = in_parts(AngularErrorByPulseCount(), f, t, n).compute()
    place = int(np.log2(int(n[13])))
    assert found["mean_rad"][place].isnan()
    assert found["median_rad"][place].isnan()
    assert int((found["count"] > 0).sum()) - 1 == int(found["mean_rad"].isfinite().sum())


@pytest.mark.parametrize("make", [MeanAngularError, AngularResolution, KappaCalibration, DirectionBias])
def test_no_events_have_no_value(make):
    metric = make()
    metric.update(torch.zeros(0, 3), torch.zeros(0, 3))
    found = metric.compute()
    numbers = [found] if isinstance(found, torch.Tensor) else [v for k, v in found.items() if k != "events"]
    assert all(value.isnan() for value in numbers)


@pytest.mark.parametrize("make", [MeanAngularError, AngularResolution, KappaCalibration, DirectionBias])
def test_shapes_that_do_not_fit_are_refused_by_the_metric_s_name(make):
    with pytest.raises(DataError, match=rf"{make.__name__}: predictions \(4, 3\) and truths \(4, 2\)"):
        make().update(torch.zeros(4, 3), torch.zeros(4, 2))
    with pytest.raises(DataError, match=r"pulse_count \(3,\) for 4 events"):
        AngularErrorByPulseCount().update(torch.zeros(4, 3), isotropic(4), torch.ones(3))
