from __future__ import annotations

import json
import math

import numpy as np
import pytest

from stablelit.functional.gradient_record import GradientRecord


def norms(n, seed=0):
    return np.random.default_rng(seed).lognormal(size=n).tolist()


def test_an_epoch_is_summed_up_as_by_hand():
    record, values = GradientRecord(), norms(101)
    for norm in values:
        record.add(norm, min(1.0, 0.7 / norm), norm > 0.7)
    summary = record.summary((0.25, 0.5, 0.95))
    assert summary["norm_p25"] == np.percentile(values, 25)
    assert summary["norm_p50"] == np.percentile(values, 50)
    assert summary["norm_p95"] == np.percentile(values, 95)
    assert summary["norm_max"] == max(values)
    assert summary["clip_ratio"] == sum(v > 0.7 for v in values) / 101
    assert summary["mean_clip_coef"] == pytest.approx(sum(min(1.0, 0.7 / v) for v in values) / 101)


def test_steps_that_are_not_finite_are_counted_apart_and_nowhere_else():
    record = GradientRecord()
    for norm in (1.0, math.nan, 3.0, math.inf):
        record.add(norm, 0.5, norm > 2.0)
    assert (record.steps, record.finite, record.non_finite) == (4, 2, 2)
    assert record.summary() == {
        "norm_p50": 2.0,
        "norm_p95": pytest.approx(2.9),
        "norm_max": 3.0,
        "clip_ratio": 0.5,
        "mean_clip_coef": 0.5,
    }


def test_where_nothing_clips_there_is_no_ratio():
    record = GradientRecord()
    record.add(1.0)
    assert record.clip_ratio is None
    assert set(record.summary()) == {"norm_p50", "norm_p95", "norm_max"}
    assert GradientRecord().summary() == {}


def test_a_long_epoch_keeps_a_bounded_even_selection():
    record, values = GradientRecord(capacity=100), norms(5000)
    for norm in values:
        record.add(norm)
        assert len(record.kept) <= 100
    assert record.kept == values[:: record.stride]
    assert record.largest == max(values)
    # a quantile of k even draws lies within a few standard errors sqrt(q(1-q)/k) of the share asked for
    share_below = np.mean(np.array(values) <= record.quantile(0.5))
    assert abs(share_below - 0.5) < 4 * math.sqrt(0.25 / len(record.kept))


def test_books_that_were_put_down_in_the_middle_go_on_equal():
    whole, first = GradientRecord(capacity=16), GradientRecord(capacity=16)
    values = [*norms(40), math.nan, 0.0]
    for norm in values:
        whole.add(norm, 0.5, True, 0.25, norm > 1)
    for norm in values[:23]:
        first.add(norm, 0.5, True, 0.25, norm > 1)
    second = GradientRecord(capacity=16)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for norm in values[23:]:
        second.add(norm, 0.5, True, 0.25, norm > 1)
    assert second.state_dict() == whole.state_dict()
    assert whole.zero == 1
    whole.begin()
    assert whole.state_dict() == GradientRecord().state_dict()


def test_norms_that_were_clipped_before_are_pinned():
    record = GradientRecord()
    for norm in norms(100):
        record.add(min(norm, 0.8))
    assert record.pinned_share() == sum(v >= 0.8 for v in norms(100)) / 100
    fresh = GradientRecord()
    for norm in norms(100):
        fresh.add(norm)
    assert fresh.pinned_share() == 0.01
    assert GradientRecord().pinned_share() == 0.0
