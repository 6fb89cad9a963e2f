from __future__ import annotations

import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.causal.scaler import ColumnScaler

VALUES = np.array([[1.0, 10.0], [3.0, 0.0], [5.0, 40.0], [7.0, 60.0]])
MASK = np.array([[True, True], [True, False], [True, True], [True, True]])
NAMES = ("raf", "mek")


def test_statistics_are_of_observed_cells_and_not_of_the_zeros_in_holes():
    scaler = ColumnScaler.fit(VALUES, MASK, NAMES)
    seen = np.array([10.0, 40.0, 60.0])
    assert scaler.mean.tolist() == pytest.approx([4.0, seen.mean()])
    assert scaler.scale.tolist() == pytest.approx([VALUES[:, 0].std(), seen.std()])
    other = VALUES.copy()
    other[1, 1] = 1e6
    again = ColumnScaler.fit(other, MASK, NAMES)
    assert torch.equal(again.mean, scaler.mean)
    assert torch.equal(again.scale, scaler.scale)


def test_robust_scale_is_that_of_a_gaussian_and_is_not_moved_by_spikes():
    values = 5.0 + 3.0 * np.random.default_rng(0).standard_normal((20_000, 2))
    everywhere = np.ones(values.shape, dtype=bool)
    plain = ColumnScaler.fit(values, everywhere, NAMES, "robust")
    assert plain.mean.tolist() == pytest.approx([5.0, 5.0], abs=0.1)
    assert plain.scale.tolist() == pytest.approx([3.0, 3.0], rel=0.03)
    values[::100] = 1e6
    assert ColumnScaler.fit(values, everywhere, NAMES, "robust").scale.tolist() == pytest.approx([3.0, 3.0], rel=0.06)


def test_none_leaves_the_values_alone():
    scaler = ColumnScaler.fit(VALUES, MASK, NAMES, "none")
    values = torch.from_numpy(VALUES).float()
    assert torch.equal(scaler.scaled(values, torch.ones_like(values, dtype=torch.bool)), values)


def test_scaling_is_undone_and_holes_are_at_the_centre():
    scaler = ColumnScaler.fit(VALUES, MASK, NAMES)
    values, mask = torch.from_numpy(VALUES).float(), torch.from_numpy(MASK)
    scaled = scaler.scaled(values, mask)
    assert scaled[1, 1] == 0.0
    assert scaled[:, 0].mean() == pytest.approx(0.0, abs=1e-6)
    assert scaled[:, 0].std(correction=0) == pytest.approx(1.0)
    assert torch.allclose(scaler.restored(scaled)[mask], values[mask])
    assert scaler.restored(scaled)[1, 1] == pytest.approx(float(scaler.mean[1]))
    assert scaler.scaled(values.double(), mask).dtype == torch.float64


def test_what_cannot_be_scaled_is_named():
    with pytest.raises(DataError, match=r"mek \(always 10\): the same value in all 2 training rows"):
        ColumnScaler.fit(VALUES[:2], MASK[:2], NAMES)
    with pytest.raises(DataError, match="mek: no cell was observed in the 1 training rows"):
        ColumnScaler.fit(VALUES[1:2], MASK[1:2], NAMES)
    half_equal = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [0.0, 5.0], [9.0, 4.0]])
    with pytest.raises(DataError, match="raf: half of its training values are one and the same.*scale=standard"):
        ColumnScaler.fit(half_equal, np.ones((5, 2), dtype=bool), NAMES, "robust")
    with pytest.raises(ConfigurationError, match="scale='minmax'"):
        ColumnScaler.fit(VALUES, MASK, NAMES, "minmax")
