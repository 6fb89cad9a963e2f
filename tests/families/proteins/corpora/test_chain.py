from __future__ import annotations

import numpy as np
import pytest

from stablelit.families.proteins.corpora.chain import RowSampler, entropy_of


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2**-53])
def test_the_ends_of_the_unit_interval_draw_what_can_occur(uniform):
    # rounding moves row + uniform up to the next row, and sums of tenths miss 1
    table = np.array([[0.0, *([0.1] * 10), 0.0], [*([1 / 12] * 12)]] * 200)
    rows = np.arange(400)
    drawn = RowSampler(table).draw(rows, np.full(400, uniform))
    assert (table[rows, drawn] > 0).all()
    assert set(drawn[::2]) == {1 if uniform == 0.0 else 10}


def test_draws_are_the_inverse_of_the_distribution_function():
    table = np.array([[0.25, 0.0, 0.75], [0.5, 0.5, 0.0]])
    sampler = RowSampler(table)
    assert sampler.draw(np.array([0, 0, 0, 1, 1]), np.array([0.2, 0.25, 0.9, 0.49, 0.5])).tolist() == [0, 2, 2, 0, 1]


def test_the_entropy_of_a_certainty_is_zero():
    assert entropy_of(np.array([[1.0, 0.0], [0.5, 0.5]])) == pytest.approx([0.0, np.log(2)])
