from __future__ import annotations

import math

import pytest

from stablelit.functional.step_clock import StepTotals
from stablelit.functional.throughput import (
    EpochsTogether,
    RankEpoch,
    Shares,
    model_flops_utilisation,
    padding_fraction,
    seconds_waited,
    summarise,
    time_shares,
    verdict,
)


def test_shares_of_a_host_that_computes():
    shares = time_shares(StepTotals(steps=2, wall=10.0, wait=2.0, step=7.0))
    assert shares == Shares(0.2, 0.2, None, pytest.approx(0.1))


def test_a_wait_that_the_device_spends_working_is_no_loss():
    shares = time_shares(StepTotals(steps=2, wall=10.0, wait=4.0, hidden=3.0, step=5.0, busy=8.0))
    assert shares == pytest.approx((0.4, 0.1, 0.8, 0.1))
    assert verdict(shares).limit == "compute-bound"


def test_without_steps_there_are_no_shares():
    assert time_shares(StepTotals()) is None


@pytest.mark.parametrize(
    ("shares", "padding", "limit"),
    [
        (Shares(0.3, 0.3, None, 0.0), None, "input-bound"),
        (Shares(0.1, 0.1, None, 0.5), None, "host-bound"),
        (Shares(0.05, 0.05, None, 0.1), 0.5, "padding"),
        (Shares(0.05, 0.05, None, 0.1), 0.2, "compute-bound"),
        (Shares(0.05, 0.05, None, 0.1), None, "compute-bound"),
        (Shares(0.5, 0.0, 0.95, 0.05), None, "compute-bound"),
        (Shares(0.19, 0.19, 0.65, 0.16), None, "input-bound"),
        (Shares(0.1, 0.1, 0.4, 0.5), 0.9, "host-bound"),
    ],
)
def test_verdicts(shares, padding, limit):
    found = verdict(shares, padding)
    assert found.limit == limit
    assert f"{shares.data_wait:.0%}" in found.sentence
    assert ("padding" in found.sentence) == (padding is not None)


def test_the_threshold_of_the_wait_is_the_callers():
    assert verdict(Shares(0.15, 0.15, None, 0.0)).limit == "compute-bound"
    assert verdict(Shares(0.15, 0.15, None, 0.0), too_much_wait=0.1).limit == "input-bound"


def rank(wait, samples=8, real=0.0, places=0.0, flops=0.0, p95=1.0, steps=2):
    totals = StepTotals(steps, wall=10.0, wait=wait, step=10.0 - wait)
    return RankEpoch(totals, samples, real, places, flops, [0.5, p95], [0.1, p95 / 10])


def test_an_epoch_of_two_ranks_sums_rates_and_takes_the_slowest_wait():
    ranks = [rank(1.0, 8, 30.0, 40.0, 2e9, 1.0), rank(3.0, 6, 20.0, 40.0, 4e9, 2.0)]
    shares, values = summarise(ranks, peak_flops_per_s=1e9)
    assert shares.data_wait == pytest.approx(0.3)
    assert values == pytest.approx(
        {
            "data_wait_frac": 0.3,
            "host_gap_frac": 0.0,
            "samples_per_s": 14 / 10,
            "items_per_s": 50 / 10,
            "padding_frac": 30 / 80,
            "flops_per_s": 6e9 / 10,
            "mfu": 6e9 / (10 * 1e9 * 2),
            "step_s_p50": 0.5,
            "step_s_p95": 2.0,
            "wait_s_p50": 0.1,
            "wait_s_p95": 0.2,
        }
    )


def test_epochs_are_added_until_every_rank_has_counted_enough():
    together, epochs = EpochsTogether(min_steps=7), []
    for steps in ((2, 9), (4, 1), (1, 1), (9, 9), (3, 3)):
        ranks = [rank(float(n), samples=n, real=n, places=2 * n, flops=n, p95=n, steps=n) for n in steps]
        epochs.append((steps, together.add(ranks), together.epochs, together.steps))
        assert [r.totals.steps for r in ranks] == list(steps), "what was given is not changed"
    assert [(bool(sums), n, left) for _, sums, n, left in epochs] == [
        (False, 1, 2),
        (False, 2, 6),
        (True, 3, 0),
        (True, 1, 0),
        (False, 1, 3),
    ]
    for i, counted in enumerate((2 + 4 + 1, 9 + 1 + 1)):
        sums = epochs[2][1][i]
        assert (sums.totals.steps, sums.totals.wait, sums.totals.wall) == (counted, counted, 30.0)
        assert (sums.samples, sums.real_items, sums.places, sums.flops) == (counted, counted, 2 * counted, counted)
        assert sums.step_quantiles == [0.5, 1], "the window of the last epoch"


def test_the_wait_for_a_batch_is_that_of_the_rank_that_waits_longest():
    nothing = RankEpoch(StepTotals(), 0, 0.0, 0.0, 0.0, [], [])
    assert seconds_waited([rank(2.0, steps=4), rank(1.0, steps=1), nothing]) == 1.0
    assert seconds_waited([nothing]) == 0.0


def test_what_nobody_counted_is_not_in_the_summary():
    _, values = summarise([rank(1.0)], None)
    assert not {"items_per_s", "padding_frac", "flops_per_s", "mfu", "device_busy_frac"} & set(values)
    assert "mfu" not in summarise([rank(1.0, flops=1.0)], None)[1]
    assert summarise([RankEpoch(StepTotals(), 0, 0.0, 0.0, 0.0, [math.nan] * 2, [math.nan] * 2)], None) is None


def test_padding():
    lengths = [3, 5, 1]
    places = len(lengths) * max(lengths)
    assert padding_fraction(sum(lengths), places) == pytest.approx(sum(max(lengths) - n for n in lengths) / places)
    for real, padded in ((2, 1), (-1, 3), (0, 0)):
        with pytest.raises(ValueError, match="allowed: 0 to padded_items"):
            padding_fraction(real, padded)


def test_model_flops_utilisation_of_two_devices_of_which_one_stands_still():
    assert model_flops_utilisation(flops=6e12, seconds=3.0, peak_flops_per_s=2e12, devices=1) == 1.0
    assert model_flops_utilisation(flops=6e12, seconds=3.0, peak_flops_per_s=2e12, devices=2) == 0.5
