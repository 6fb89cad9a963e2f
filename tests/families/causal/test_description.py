from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stablelit.families.causal.description import sortabilities, told_of_panel, told_of_splits
from stablelit.families.causal.panel import SensorPanel
from stablelit.families.causal.splits import Splitting, split_rows


def panel(**others) -> SensorPanel:
    values = np.random.default_rng(0).standard_normal((50, 3))
    values[:30, 2] = np.nan
    return SensorPanel.from_values(values, names=["raf", "mek", "erk"], **others)


def test_what_is_there_is_counted():
    assert told_of_panel(panel(), "a.csv", {}) == [
        "a.csv: 50 rows, 3 columns, 20.0 % missing",
        "mostly missing: erk (60.0 %)",
    ]


def test_sortability_needs_a_truth_with_edges():
    assert sortabilities(panel()) == {}
    assert sortabilities(panel(truth=np.zeros((3, 3), dtype=bool))) == {}
    truth = np.eye(3, k=1, dtype=bool)
    found = sortabilities(panel(truth=truth))
    assert set(found) == {"varsortability", "r2_sortability"}
    told = told_of_panel(panel(truth=truth), "a.csv", found)
    assert told[0].endswith("20.0 % missing, 2 true edges")
    assert told[1].startswith(f"varsortability {found['varsortability']:.2f}")


@pytest.mark.parametrize(("named", "told"), [(False, True), (True, False)])
def test_a_column_that_looks_like_a_clock_is_told_unless_there_is_one(named, told):
    values = np.random.default_rng(0).standard_normal((20, 2))
    values[:, 0] = 5.0 + 0.1 * np.arange(20)
    made = SensorPanel.from_values(values, names=["t", "raf"], time=np.arange(20.0) if named else None)
    assert any(note.startswith("t rises by the same step") for note in told_of_panel(made, "a", {})) is told
    # a trend with noise is no clock
    values[7, 0] += 0.01
    noisy = SensorPanel.from_values(values)
    assert len(told_of_panel(noisy, "a", {})) == 1


def test_nothing_unusual_is_one_line():
    made = panel().columns(["raf", "mek"])
    how = Splitting({"train": 0.7, "val": 0.15, "test": 0.15})
    told = told_of_splits(made, split_rows(made, how), how)
    assert told == ["split=block: 35 training, 8 validation, 7 test rows in 2 periods"]


def test_coarse_columns_are_those_of_large_offsets_alone():
    made = panel().columns(["raf", "mek"])
    how = Splitting({"train": 1.0, "val": 0.0, "test": 0.0})
    offset = replace(made, values=made.values + np.array([0.0, 1e6]))
    told = told_of_splits(offset, split_rows(offset, how), how)
    # 2^-4 between the numbers of float32 near a million: about 16 levels
    assert told[-1].startswith("levels that float32 keeps in a standard deviation are few: mek (1")
    small = replace(made, values=made.values * 1e-6)
    assert len(told_of_splits(small, split_rows(small, how), how)) == 1
