from __future__ import annotations

import pytest

from stablelit.errors import ConfigurationError
from stablelit.optim import scaled_learning_rate


def test_linear_is_the_base_at_256_and_goes_with_the_batch():
    assert scaled_learning_rate(0.2, 256, "linear") == 0.2
    assert scaled_learning_rate(0.2, 1024, "linear") == pytest.approx(0.8)


def test_sqrt_is_the_base_at_1_and_goes_with_the_root_of_the_batch():
    assert scaled_learning_rate(0.075, 1, "sqrt") == 0.075
    assert scaled_learning_rate(0.075, 400, "sqrt") == pytest.approx(1.5)


def test_published_rates_agree_where_the_paper_says_so():
    # 0.3 * 4096 / 256 = 0.075 * sqrt(4096)
    assert scaled_learning_rate(0.3, 4096, "linear") == pytest.approx(scaled_learning_rate(0.075, 4096, "sqrt"))


def test_none_is_the_rate_itself():
    assert scaled_learning_rate(1e-3, 4096) == 1e-3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((0.1, 64, "square"), "rule='square'.*none, linear, sqrt"),
        ((0.1, 64, "liner"), "Did you mean 'linear'"),
        ((-0.1, 64), "base=-0.1"),
        ((0.1, 0), "batch_size=0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        scaled_learning_rate(*arguments)
