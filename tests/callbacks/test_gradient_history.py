from __future__ import annotations

import copy
import math

import numpy as np
import pytest

from stablelit.callbacks._gradient_history import GradientHistory

STEPS = 1000


def norms_of_a_run(steps=STEPS):
    """Noise, a spike, zeros, and norms that are not finite."""
    norms = np.exp(np.random.default_rng(0).standard_normal(steps))
    norms[777] = 1e6
    norms[::50] = 0.0
    norms[13::100] = math.nan
    norms[14] = math.inf
    return norms


def filled(norms, bounds=None, capacity=64, first=0, every=1):
    history = GradientHistory(capacity)
    for place, norm in enumerate(norms):
        bound = 1.0 if bounds is None else bounds[place]
        history.add(first + every * place, norm, norm > bound, bound)
    return history


def test_every_bucket_is_what_its_steps_are():
    norms = norms_of_a_run()
    history = filled(norms)
    column = history.columns()
    assert history.stride == 16
    for place, step in enumerate(column["step"]):
        there = norms[step : step + 16]
        finite = there[np.isfinite(there)]
        seen = finite[finite > 0]
        assert step == 16 * place
        assert column["norms"][place] == len(seen)
        assert column["zero"][place] == len(finite) - len(seen)
        assert column["non_finite"][place] == len(there) - len(finite)
        assert (column["low"][place], column["high"][place]) == (seen.min(), seen.max())
        assert column["logs"][place] == pytest.approx(np.log(seen).sum())
        assert column["clip_steps"][place] == len(finite)
        assert column["clipped"][place] == (finite > 1.0).sum()


@pytest.mark.parametrize("steps", [1, 63, 64, 65, 128, 129, STEPS])
def test_there_are_never_more_buckets_than_allowed_and_no_step_is_lost(steps):
    history = filled(norms_of_a_run()[:steps])
    column = history.columns()
    assert min(steps, 33) <= len(history.buckets) <= 64
    assert sum(map(sum, (column[name] for name in ("norms", "zero", "non_finite")))) == steps


def test_it_may_begin_late_and_step_rarely():
    # an optimizer that steps in every fifth batch, in a callback that came to a run of a million steps
    history = filled(np.ones(64), first=1_000_003, every=5)
    assert history.columns()["step"] == [1_000_003 + 5 * place for place in range(64)]
    history.add(1_000_003 + 5 * 64, 1.0)
    assert 32 <= len(history.buckets) <= 64


def test_several_norms_of_one_step_share_its_bucket():
    history = GradientHistory()
    for norm in (3.0, 1.0, 2.0):
        history.add(7, norm)
    (bucket,) = history.buckets
    assert (bucket.step, bucket.norms, bucket.low, bucket.high) == (7, 3, 1.0, 3.0)


def test_of_a_threshold_that_moves_the_last_is_kept_and_an_infinite_one_is_none():
    bounds = [math.inf, *np.linspace(2.0, 1.0, 63), 0.5]
    history = filled(np.ones(65), bounds)
    assert history.stride == 2
    assert history.columns()["bound"] == [*bounds[1::2], 0.5]
    assert filled([1.0], [math.inf]).columns()["bound"] == [0.0]


def test_a_scalers_skips_are_told_from_norms_that_are_not_finite():
    history = GradientHistory()
    history.add(0, math.inf, scaled=True)
    history.add(1, math.inf)
    assert (history.columns()["skipped"], history.columns()["non_finite"]) == ([1, 0], [0, 1])


@pytest.mark.parametrize("step", [0, 1, 40, 64, 65, 500])
def test_a_history_that_goes_on_is_the_history_of_the_whole(step):
    norms = norms_of_a_run()
    first = filled(norms[:step])
    again = GradientHistory(64)
    again.load_state_dict(copy.deepcopy(first.state_dict()))
    for place, norm in enumerate(norms[step:], start=step):
        again.add(place, norm, norm > 1.0, 1.0)
    assert again.state_dict() == filled(norms).state_dict()


def test_a_run_that_was_put_back_without_its_history_begins_anew():
    history = filled(np.ones(10), first=100)
    history.add(50, 2.0)
    assert history.columns()["step"] == [50]
    history.add(51, 2.0)
    assert history.columns()["step"] == [50, 51]
