from __future__ import annotations

import numpy as np
import pytest
import torch

from stablelit.families.causal.dataset import SensorDataset, TrainingRows, WholeBatches, already_a_batch
from stablelit.families.causal.panel import SensorPanel


def panel(**others) -> SensorPanel:
    values = np.arange(24.0).reshape(8, 3)
    values[5, 1] = np.nan
    return SensorPanel.from_values(values, **others)


def test_the_newest_row_comes_first_and_lags_follow():
    batch = SensorDataset(panel(), np.array([2, 5, 7]), lags=2).__getitems__([1, 0])
    assert batch["id"].tolist() == [5, 2]
    assert batch["values"].shape == (2, 3, 3)
    assert batch["values"].dtype == torch.float32
    assert batch["values"][0, :, 0].tolist() == [15.0, 12.0, 9.0]
    assert batch["values"][1, :, 2].tolist() == [8.0, 5.0, 2.0]
    assert batch["values"][0, 0, 1] == 0.0
    assert batch["mask"][0].tolist() == [[True, False, True], [True] * 3, [True] * 3]
    assert batch["scored"][0].tolist() == [True, False, True]
    assert batch["environment"].tolist() == [0, 0]


def test_a_cell_that_was_set_from_outside_is_seen_and_not_scored():
    intervened = np.zeros((8, 3), dtype=bool)
    intervened[4, 2] = True
    made = panel(intervened=intervened, environment=np.arange(8) // 4, environment_names=("a", "b"))
    one = SensorDataset(made, np.array([3, 4]))[1]
    assert one["mask"].tolist() == [[True, True, True]]
    assert one["scored"].tolist() == [True, True, False]
    assert int(one["environment"]) == 1
    assert len(SensorDataset(made, np.array([3, 4]))) == 2


def test_a_whole_batch_is_the_same_object_every_time():
    batch = {"values": torch.zeros(2)}
    whole = WholeBatches(batch, times=3)
    assert len(whole) == 3
    assert all(whole[i] is batch for i in range(3))
    assert already_a_batch(whole.__getitems__([2])) is batch
    with pytest.raises(IndexError, match="3 of 3 batches"):
        whole[3]


def test_training_rows_are_exact_and_in_order():
    made = panel(environment=np.arange(8) // 4, environment_names=("a", "b"))
    rows = TrainingRows.of(made, np.array([1, 4, 6]), lags=1)
    assert rows.values.dtype == np.float64
    assert (rows.values[:, 0] == made.values[[1, 4, 6]]).all()
    assert (rows.values[:, 1] == made.values[[0, 3, 5]]).all()
    assert (rows.mask[:, 1] == made.mask[[0, 3, 5]]).all()
    assert rows.scored.shape == (3, 3)
    assert rows.environment.tolist() == [0, 1, 1]
    assert TrainingRows.of(panel(), np.array([1]), 0).environment.tolist() == [0]
