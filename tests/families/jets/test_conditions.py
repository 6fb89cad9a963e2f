from __future__ import annotations

import math

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.jets.conditions import Conditions
from stablelit.families.jets.coordinates import JetCoordinates
from stablelit.families.jets.scaler import quantile_levels


def coordinates():
    made = JetCoordinates(5)
    made.ln_pt_quantiles.copy_((800.0 + 400.0 * quantile_levels(32)).log())
    made.jet_pt_gev.fill_(1000.0)
    return made


def draws():
    return torch.Generator().manual_seed(0)


def test_a_condition_is_the_one_hot_class_and_the_scaled_logarithm_of_pt():
    made = Conditions(["label", "pt"], ["q", "g", "t"])
    found = made(torch.tensor([2, 0, 1]), torch.tensor([1000.0, 900.0, 5000.0]), coordinates())
    assert found.shape == (3, made.dim) == (3, 4)
    assert found[:, :3].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert found[0, 3] == pytest.approx(0.0, abs=1e-6)
    # a uniform distribution over 800 ... 1200: levels sin^2(pi / 8) = 0.146 and 0.854
    low, high = (800.0 + 400.0 * math.sin(angle) ** 2 for angle in (math.pi / 8, 3 * math.pi / 8))
    spread = 0.5 * math.log(high / low)
    assert float(found[1, 3]) == pytest.approx(math.log(0.9) / spread, rel=1e-4)
    assert found[2, 3] == 5.0


def test_without_conditions_there_is_nothing_to_see():
    assert Conditions([], []).dim == 0
    assert Conditions([], [])(torch.zeros(4, dtype=torch.long), torch.ones(4), coordinates()).shape == (4, 0)


def test_classes_are_drawn_as_often_as_they_were_in_training():
    made = Conditions(["label"], ["q", "g"])
    made.set_label_counts(torch.tensor([30, 10]))
    labels = made.labels_for(4000, None, draws())
    assert float((labels == 0).float().mean()) == pytest.approx(0.75, abs=0.03)
    assert made.labels_for(3, "g", draws()).tolist() == [1, 1, 1]


def test_pt_is_drawn_from_the_training_jets():
    made = Conditions(["pt"], [])
    found = made.jet_pts_for(4000, None, coordinates(), draws())
    assert found.min() >= 799.9
    assert found.max() <= 1200.1
    assert float(found.mean()) == pytest.approx(1000.0, abs=8.0)
    for share in (0.1, 0.25, 0.75):
        assert float(found.quantile(share)) == pytest.approx(800.0 + 400.0 * share, abs=12.0)
    assert made.jet_pts_for(2, 950.0, coordinates(), draws()).tolist() == [950.0, 950.0]
    assert Conditions([], []).jet_pts_for(2, None, coordinates(), draws()).tolist() == [1000.0, 1000.0]


def test_a_pt_that_no_training_jet_had_is_warned_about():
    with pytest.warns(UserWarning, match="outside the training jets' 800 to 1200 GeV"):
        Conditions(["pt"], []).jet_pts_for(1, 500.0, coordinates(), draws())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conditions(["lable"], ["q"]), "Did you mean 'label'"),
        (lambda: Conditions(["label"], []), "names of the classes"),
        (lambda: Conditions(["label"], ["q", "g"]).labels_for(1, "t", draws()), "label='t'.*q, g"),
        (lambda: Conditions([], ["q"]).labels_for(1, "q", draws()), r"model.conditional=\[label\]"),
        (lambda: Conditions([], []).jet_pts_for(1, 900.0, coordinates(), draws()), r"model.conditional=\[pt\]"),
        (lambda: Conditions(["pt"], []).jet_pts_for(1, -1.0, coordinates(), draws()), "jet_pt"),
    ],
)
def test_what_is_not_known_is_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()
