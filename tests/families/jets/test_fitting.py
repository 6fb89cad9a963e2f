from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from stablelit.errors import ConfigurationError, ContractError
from stablelit.families.jets import JetDataModule, JetVAE
from stablelit.families.jets.fitting import check_fit, take_from
from stablelit.families.jets.hyperedges import build_hyperedges

TINY = {"latent_dim": 3, "particle_hidden": 8, "edge_hidden": 8, "hyperedge_hidden": 4, "jet_level": False}


def data(**arguments):
    made = JetDataModule(n_jets=120, train=64, val=32, test=16, **arguments)
    made.setup()
    return made


def test_a_model_takes_the_coordinates_of_the_training_jets():
    jets, model = data(), JetVAE(**TINY, n_neighbours=2)
    take_from(model, jets)
    network = model.network
    assert network.scaler_is_fitted
    assert torch.equal(network.particle_mean, jets.scaler.particle_mean)
    train = jets.split_indices["train"]
    particles, mask = (torch.from_numpy(a[train]) for a in (jets.jets.particles, jets.jets.mask))
    _, features, there = build_hyperedges("knn", particles, mask, 2)
    torch.testing.assert_close(network.hyperedge_mean, features[there].double().mean(0).float())


def test_jets_that_are_left_out_enter_neither_the_coordinates_nor_the_shares_of_the_classes():
    whole, left_out = data(), list(range(0, 64, 3))
    part = data(leave_out=left_out)
    models = [JetVAE(**TINY, conditional=["label"], classes=["q", "g", "t"]) for _ in range(2)]
    for model, jets in zip(models, (whole, part), strict=True):
        take_from(model, jets)
    first, second = (model.network for model in models)
    assert not torch.equal(first.particle_mean, second.particle_mean)
    assert not torch.equal(first.hyperedge_mean, second.hyperedge_mean)
    train = [place for row, place in enumerate(whole.split_indices["train"]) if row not in left_out]
    shares = torch.bincount(torch.from_numpy(whole.jets.label[train]), minlength=3) / len(train)
    torch.testing.assert_close(second.conditions.label_prob, shares)


def test_what_does_not_fit_is_told_by_name():
    with pytest.raises(ConfigurationError, match=r"JetVAE was built for n_particles=30.*n_particles=20"):
        check_fit(JetVAE(**TINY), data(n_particles=20))
    with pytest.raises(ConfigurationError, match=r"classes g, q, t, but JetDataModule gives q, g, t"):
        check_fit(JetVAE(**TINY, conditional=["label"], classes=["g", "q", "t"]), data())
    check_fit(JetVAE(**TINY), SimpleNamespace())
    with pytest.raises(ContractError, match="SimpleNamespace without one"):
        take_from(JetVAE(**TINY), SimpleNamespace())
