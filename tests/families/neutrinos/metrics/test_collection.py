from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.neutrinos.line_fit import constant_direction
from stablelit.families.neutrinos.metrics import DirectionMetrics, MeanAngularError, direction_findings

UP = torch.tensor([0.0, 0.0, 1.0])


def isotropic(n, seed=0):
    vectors = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    return vectors / vectors.norm(dim=-1, keepdim=True)


def names_of(findings):
    return [finding.name for finding in findings]


def scored(f, t, constant=UP):
    metrics = DirectionMetrics(constant)
    metrics.update(f, t)
    return metrics.compute()


def test_one_collection_has_every_number_beside_what_needs_no_network():
    t, f, fit = isotropic(400), 3 * isotropic(400, 1), isotropic(400, 2)
    metrics = DirectionMetrics(constant_direction(t.numpy()))
    for part in (slice(0, 150), slice(150, 400)):
        metrics.update(f[part], t[part], torch.arange(1, 401)[part], fit[part])
    found = metrics.compute()
    assert set(found) == {
        *(f"angular_error_{name}_rad" for name in ("mean", "median", "68", "90")),
        *("coverage_50", "coverage_68", "coverage_90", "kappa_ks", "pull_width"),
        *("log10_kappa_median", "log10_kappa_99", "z_bias", "resultant_length", "resultant_length_true", "events"),
        *("line_fit_error_mean_rad", "constant_error_mean_rad"),
    }
    assert all(value.shape == () and value.dtype == torch.float64 and value.isfinite() for value in found.values())
    for name, guess in (
        ("angular_error_mean_rad", f),
        ("line_fit_error_mean_rad", fit),
        ("constant_error_mean_rad", torch.from_numpy(constant_direction(t.numpy())).float().expand(400, 3)),
    ):
        alone = MeanAngularError()
        alone.update(guess, t)
        torch.testing.assert_close(found[name], alone.compute(), rtol=1e-6, atol=0)
    assert int(metrics.by_pulse_count()["count"].sum()) == 400
    metrics.reset()
    metrics.update(t, t)
    again = metrics.compute()
    assert float(again["angular_error_mean_rad"]) < 1e-6
    assert float(again["events"]) == 400


@pytest.mark.slow
def test_what_is_not_given_is_left_out_without_a_warning():
    t = isotropic(200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = DirectionMetrics()
        metrics.update(2 * t, t)
        found = metrics.compute()
        assert int(metrics.by_pulse_count()["count"].sum()) == 0
    assert "line_fit_error_mean_rad" not in found
    assert "constant_error_mean_rad" not in found
    assert direction_findings(found) == []


def test_no_update_looks_at_a_value_on_the_host():
    # a meta tensor has no values: whatever would wait for one raises
    metrics = DirectionMetrics(UP).to("meta")
    t = torch.zeros(4, 3, device="meta")
    metrics.update(t, t, torch.ones(4, dtype=torch.long, device="meta"), t)
    metrics.update(t, t)
    assert metrics.angular_error.total.device.type == "meta"


def test_nothing_of_it_is_in_a_checkpoint_and_a_cast_keeps_the_sums_exact():
    module = torch.nn.ModuleDict({"metrics": DirectionMetrics(UP)})
    assert dict(module.state_dict()) == {}
    module.to(torch.bfloat16)
    assert module["metrics"].angular_error.total.dtype == torch.float64


def test_predictions_that_are_all_one_direction_are_reported():
    t = isotropic(500)
    f = UP + 0.1 * isotropic(500, 1)
    found = direction_findings(scored(f, t))
    assert names_of(found) == ["directions-collapsed", "no-better-than-constant"]
    assert found[0].severity == "critical"
    assert found[0].evidence["resultant_length"] == pytest.approx(0.99, abs=0.01)
    assert "for every event, scores 1.4998 rad" in found[1].message
    # truths that are one direction too are no collapse
    beam = UP + 0.1 * isotropic(500, 2)
    assert "directions-collapsed" not in names_of(direction_findings(scored(f, beam / beam.norm(dim=-1)[:, None])))


def test_a_model_that_beats_the_constant_is_not_reported_and_one_that_does_not_is():
    t = isotropic(2000)
    noise = isotropic(2000, 1)
    assert direction_findings(scored(t + noise, t)) == []
    assert names_of(direction_findings(scored(noise, t))) == ["no-better-than-constant"]


def test_few_events_and_no_constant_make_no_finding():
    t = isotropic(99)
    assert direction_findings(scored(UP.expand(99, 3), t)) == []
    assert names_of(direction_findings(scored(isotropic(500, 1), isotropic(500), constant=None))) == []


def test_predictions_that_are_not_finite_are_reported_even_of_few_events():
    t = isotropic(5)
    f = t.clone()
    f[2] = math.nan
    assert names_of(direction_findings(scored(f, t))) == ["directions-not-finite"]


def test_a_constant_that_is_no_direction_is_refused():
    for wrong in (np.zeros(3), np.ones(3), np.zeros((2, 3)), [0.0, 0.0, math.nan]):
        with pytest.raises(ConfigurationError, match=r"(?s)constant_direction=.*a unit vector \(3,\)"):
            DirectionMetrics(wrong)
