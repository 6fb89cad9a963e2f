"""The size of rows in the precision that they have: a probe that cannot take it is left out of the run."""

from __future__ import annotations

import pytest
import torch

from stablelit.doctor.probes.parameters_symmetry import _is_born_equal

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_of_any_precision_are_compared(dtype):
    row = torch.tensor([0.25, -1.5, 3.0], dtype=dtype)
    assert _is_born_equal(row.repeat(4, 1))
    assert not _is_born_equal(torch.stack([row, 2 * row, row, row]))
