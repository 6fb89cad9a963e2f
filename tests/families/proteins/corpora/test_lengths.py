from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.proteins.corpora import LogNormalLengths


def normal_below(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def test_lengths_have_the_distribution_that_they_should():
    law = LogNormalLengths(median=270.0, spread=1.2, shortest=11, longest=1000)
    drawn = law.sample(40_000, seed=2)
    for at in (11, 50, 100, 270, 500, 999):
        expected = normal_below(math.log((at + 0.5) / 270) / 1.2)
        assert (drawn <= at).mean() == pytest.approx(expected, abs=5 * math.sqrt(expected / 40_000) + 1e-4)
    assert (drawn.min(), drawn.max()) == (11, 1000)


def test_a_length_depends_on_its_seed_and_place_alone():
    law = LogNormalLengths()
    many = law.sample(2500, seed=4)
    assert np.array_equal(many[:7], law.sample(7, seed=4))
    assert np.array_equal(many[1500:], law.sample(1000, seed=4, first=1500))


def test_without_spread_all_are_alike():
    assert set(LogNormalLengths(median=64, spread=0.0).sample(100)) == {64}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"median": 0.0}, "median=0"),
        ({"spread": -1.0}, "spread=-1"),
        ({"shortest": 0}, "shortest=0"),
        ({"shortest": 20, "longest": 10}, "longest=10"),
    ],
)
def test_an_argument_out_of_range_is_refused_by_name(settings, said):
    with pytest.raises(ConfigurationError, match=said):
        LogNormalLengths(**settings)
