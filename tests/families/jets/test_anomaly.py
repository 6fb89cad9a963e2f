from __future__ import annotations

import pytest
import torch

from stablelit.errors import DataError
from stablelit.families.jets.anomaly import anomaly_auc, roc_auc
from stablelit.families.jets.metrics import jet_mass


def test_auc_is_the_share_of_pairs_in_the_right_order():
    draws = torch.Generator().manual_seed(0)
    score = torch.randint(0, 6, (40,), generator=draws).float()
    anomalous = torch.rand(40, generator=draws) < 0.4
    pairs = score[anomalous][:, None] - score[~anomalous][None]
    expected = ((pairs > 0).double() + 0.5 * (pairs == 0).double()).mean()
    assert roc_auc(score, anomalous) == pytest.approx(float(expected), abs=1e-12)


def test_a_constant_score_is_chance_and_a_perfect_one_is_one():
    anomalous = torch.tensor([True, False, True, False])
    assert roc_auc(torch.ones(4), anomalous) == 0.5
    assert roc_auc(torch.tensor([2.0, 0.0, 3.0, 1.0]), anomalous) == 1.0
    assert roc_auc(-torch.tensor([2.0, 0.0, 3.0, 1.0]), anomalous) == 0.0


def test_scores_stand_beside_mass_and_multiplicity(batch):
    anomalous = torch.arange(12) % 3 == 0
    found = anomaly_auc({"random": torch.rand(12)}, batch["particles"], batch["mask"], anomalous)
    assert list(found) == ["random", "jet mass", "number of particles", "chance"]
    assert found["jet mass"] == roc_auc(jet_mass(batch["particles"], batch["mask"]), anomalous)


@pytest.mark.parametrize(
    ("score", "anomalous"),
    [([1.0, float("nan")], [True, False]), ([1.0, 2.0], [True, True]), ([1.0, 2.0], [False, False])],
)
def test_what_has_no_auc_is_refused(score, anomalous):
    with pytest.raises(DataError, match="roc_auc"):
        roc_auc(torch.tensor(score), torch.tensor(anomalous))
