"""Against numpy's own, of every small length, with ties, and where a value is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.functional.medians import median_of, medians_of_rows, quantile_of


@pytest.mark.parametrize("n", range(1, 10))
def test_they_are_numpys(n: int) -> None:
    table = np.round(np.random.default_rng(n).normal(size=(7, n)), 1)
    assert medians_of_rows(table).tolist() == np.median(table, axis=1).tolist()
    for row in table:
        assert median_of(row) == np.median(row)
        for share in (0.0, 0.25, 0.9, 1.0):
            assert quantile_of(row, share) == pytest.approx(np.quantile(row, share), abs=1e-12)


def test_of_no_value_and_beside_one_that_is_none_the_median_is_none() -> None:
    assert math.isnan(median_of(np.empty(0)))
    assert math.isnan(median_of(np.array([1.0, math.nan, 3.0])))
    rows = medians_of_rows(np.array([[1.0, math.nan, 3.0], [1.0, 2.0, 3.0]]))
    assert math.isnan(rows[0])
    assert rows[1] == 2.0
