from __future__ import annotations

import json
import math

import numpy as np
import pytest

from stablelit.errors import ConfigurationError
from stablelit.functional.spikes import SpikeRule, SpikeState


def run(rule, losses, state=None):
    state = SpikeState() if state is None else state
    verdicts = []
    for loss in losses:
        state, verdict = rule.step(state, float(loss))
        verdicts.append(verdict)
    return state, verdicts


def noise(n, seed=0):
    return 2.0 + 0.1 * np.random.Generator(np.random.PCG64(seed)).standard_normal(n)


def test_limit_is_median_plus_k_robust_deviations():
    rule = SpikeRule(threshold=5.0, window=32)
    losses = noise(100)
    state, _ = run(rule, losses)
    kept = losses[-32:]
    deviation = 1.4826 * np.median(np.abs(kept - np.median(kept)))
    begin, end = rule.limits(state)
    assert begin == pytest.approx(np.median(kept) + 5 * deviation)
    assert end == pytest.approx(np.median(kept) + 2.5 * deviation)


def test_one_outlier_is_counted_and_is_no_alarm():
    state, verdicts = run(SpikeRule(patience=3), [*noise(64), 1e6, *noise(10, 1)])
    assert verdicts.count("spike") == 1
    assert set(verdicts) == {"normal", "spike"}
    assert max(state.window) < 3


def test_a_rise_that_lasts_longer_than_the_patience_does_not_recover():
    _, verdicts = run(SpikeRule(patience=3), [*noise(64), *[9.0] * 5])
    assert verdicts[-5:] == ["spike", "above", "above", "unrecovered", "unrecovered"]


def test_a_rise_that_comes_back_in_time_is_over():
    state, verdicts = run(SpikeRule(patience=3), [*noise(64), 9.0, 9.0, 9.0, 2.0, 9.0, 9.0, 9.0])
    assert "unrecovered" not in verdicts
    assert state.above == 3


def test_half_the_way_back_is_not_back():
    rule = SpikeRule(patience=2)
    state, _ = run(rule, noise(64))
    begin, end = rule.limits(state)
    between = (begin + end) / 2
    assert run(rule, [between], state)[1] == ["normal"]
    assert run(rule, [9.0, between, between], state)[1] == ["spike", "above", "unrecovered"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_noise_with_heavy_tails_raises_no_alarm(seed):
    generator = np.random.Generator(np.random.PCG64(seed))
    for losses in (generator.laplace(3.0, 1.0, 5000), 1 + generator.exponential(1.0, 5000), np.exp(-noise(5000, seed))):
        assert "unrecovered" not in run(SpikeRule(patience=2), losses)[1]


def test_a_loss_that_falls_or_drifts_raises_no_alarm():
    steps = np.arange(3000)
    for losses in (8 * np.exp(-steps / 100) + 1, 1 + steps / 1000, np.full(200, 3.0) + 1e-9 * steps[:200]):
        assert set(run(SpikeRule(patience=2), losses)[1]) == {"normal"}


def test_nothing_is_judged_while_the_window_fills():
    rule = SpikeRule(window=64)
    assert run(rule, [1.0] * 15)[0].window
    assert run(rule, [*[1.0] * 15, 1e9])[1][-1] == "normal"
    assert run(rule, [*[1.0] * 16, 1e9])[1][-1] == "spike"


def test_negative_losses_and_zeros_are_judged_alike():
    for offset in (-50.0, -2.0):
        assert run(SpikeRule(patience=1), [*(noise(64) + offset), 90.0, 90.0])[1][-1] == "unrecovered"


def test_state_survives_json():
    state, _ = run(SpikeRule(), [*noise(70), 50.0])
    again = SpikeState.of(json.loads(json.dumps(state.plain())))
    assert again == state
    assert run(SpikeRule(), [50.0, 2.0], again) == run(SpikeRule(), [50.0, 2.0], state)


@pytest.mark.parametrize("arguments", [{"threshold": 0}, {"threshold": math.nan}, {"window": 7}, {"patience": -1}])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ConfigurationError, match="is not allowed"):
        SpikeRule(**arguments)


def test_a_loss_that_is_not_finite_is_refused():
    with pytest.raises(ConfigurationError, match="a loss of nan"):
        SpikeRule().step(SpikeState(), math.nan)
