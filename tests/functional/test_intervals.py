from __future__ import annotations

import math
import statistics

import pytest
import torch

from stablelit.functional.intervals import interval_of_sums, mean_and_interval

VALUES = torch.rand(60, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_it_is_the_mean_and_1_96_standard_errors():
    mean, half = mean_and_interval(VALUES)
    assert float(mean) == pytest.approx(statistics.fmean(VALUES.tolist()), rel=1e-12)
    assert float(half) == pytest.approx(1.96 * statistics.stdev(VALUES.tolist()) / math.sqrt(60), rel=1e-12)


def test_sums_give_the_same():
    sums = interval_of_sums(VALUES.sum(), VALUES.square().sum(), torch.tensor(60))
    torch.testing.assert_close(torch.stack(sums), torch.stack(mean_and_interval(VALUES)), rtol=1e-10, atol=0)


@pytest.mark.slow
def test_about_95_of_100_intervals_hold_the_truth():
    drawn = torch.rand(2000, 100, generator=torch.Generator().manual_seed(2))
    holds = [abs(float(mean) - 0.5) <= float(half) for mean, half in map(mean_and_interval, drawn)]
    # the standard error of a share of .95 in 2000 is .005; s of 100 values makes the normal interval .0035 short
    assert abs(statistics.fmean(holds) - 0.9465) < 3 * 0.005


def test_alike_values_have_an_interval_of_nothing_and_not_of_nan():
    alike = torch.full((7,), 0.1)
    assert mean_and_interval(alike)[1] == 0
    # the mean of 600 times 0.2 is not 0.2 to the last bit
    assert mean_and_interval(torch.full((600,), 0.2, dtype=torch.float64))[1] == 0
    assert interval_of_sums(alike.double().sum(), alike.double().square().sum(), torch.tensor(7))[1] < 1e-8


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_values_have_none(n):
    assert mean_and_interval(torch.ones(n))[1].isnan()
    assert interval_of_sums(torch.tensor(float(n)), torch.tensor(float(n)), torch.tensor(n))[1].isnan()
