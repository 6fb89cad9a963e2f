from __future__ import annotations

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.jets import JetVAE, read_jets
from stablelit.families.jets.losses import one_gaussian_nll
from stablelit.families.jets.scaler import JetScaler

TINY = {
    "latent_dim": 4,
    "particle_hidden": 16,
    "edge_hidden": 8,
    "hyperedge_hidden": 8,
    "decoder": {"name": "mixture", "n_components": 3, "hidden": 16},
}


def made(batch, **arguments):
    torch.manual_seed(0)
    module = JetVAE(**{**TINY, **arguments})
    module.network.set_scaler(JetScaler.fit(batch["particles"], batch["mask"], batch["jet"]))
    return module


@pytest.fixture
def conditional(batch):
    return made(batch, conditional=["label", "pt"], classes=["q", "g", "t"])


def test_samples_depend_on_the_seed_alone_and_are_jets(batch):
    module = made(batch)
    module.train()
    first = module.sample(200, seed=1)
    torch.rand(5)
    again, other = module.sample(200, seed=1), module.sample(200, seed=2)
    assert module.network.training
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not torch.equal(first["particles"], other["particles"])
    ptrel, mask = first["particles"][..., 2], first["mask"]
    assert (ptrel[mask] > 0).all()
    assert not first["particles"][~mask].any()
    assert (ptrel.diff(dim=1) <= 0).all()
    assert torch.equal(mask.sum(1).float(), first["jet"][:, 3])
    assert first["mask"].any(dim=1).all()


def test_calibration_is_what_heads_are_there_for(batch):
    module = made(batch)
    default, raw = module.sample(50), module.sample(50, calibrate=False)
    assert torch.equal(default["particles"], module.sample(50, calibrate=True)["particles"])
    assert not torch.equal(default["particles"], raw["particles"])
    without = made(batch, jet_level=False)
    assert torch.equal(without.sample(5)["particles"], without.sample(5, calibrate=False)["particles"])
    with pytest.raises(ConfigurationError, match="jet_level=False"):
        without.sample(5, calibrate=True)


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_generated_files_are_read_back(batch, tmp_path, suffix):
    module = made(batch)
    path = tmp_path / f"fake{suffix}"
    report = module.generate_to_file(str(path), 50, seed=4)
    back = read_jets(path)
    assert len(back) == report["n_jets"] == 50
    assert np.allclose(back.particles, module.sample(50, seed=4)["particles"].numpy(), atol=1e-6)
    assert report["mean_n_particles"] == pytest.approx(back.mask.sum(1).mean())
    with pytest.raises(DataError, match="suffix"):
        module.generate_to_file(str(tmp_path / "fake.root"), 5)


def test_labels_and_pts_that_were_asked_for_are_written(conditional, tmp_path):
    path = tmp_path / "tops.h5"
    conditional.generate_to_file(str(path), 20, label="t", jet_pt=float(conditional.network.jet_pt_gev))
    back = read_jets(path)
    assert back.classes == ("q", "g", "t")
    assert (back.label == 2).all()
    assert np.allclose(back.jet[:, 0], float(conditional.network.jet_pt_gev))
    conditional.generate_to_file(str(path), 200)
    mixed = read_jets(path)
    assert set(mixed.label) == {0, 1, 2}
    assert len(set(mixed.jet[:, 0])) > 100


def test_a_class_changes_what_is_drawn(conditional):
    assert not torch.equal(conditional.sample(9, label="q")["particles"], conditional.sample(9, label="t")["particles"])


def test_a_model_is_not_asked_for_what_it_does_not_know(batch, conditional):
    with pytest.raises(ConfigurationError, match="Allowed: q, g, t"):
        conditional.sample(3, label="w")
    with pytest.raises(ConfigurationError, match="all classes together"):
        made(batch).sample(3, label="q")
    with pytest.raises(ConfigurationError, match="does not know the pT"):
        made(batch).sample(3, jet_pt=500.0)


@pytest.mark.parametrize("arguments", [{"n": 0}, {"n": 3, "temperature": 0.0}])
def test_sampling_arguments_are_checked(batch, arguments):
    with pytest.raises(ConfigurationError, match="sample"):
        made(batch).sample(**arguments)


def test_encoding_and_reconstructing_keep_the_batch(batch, conditional):
    mean, logvar = conditional.encode(batch)
    assert mean.shape == logvar.shape == (12, 4)
    drawn = conditional.reconstruct(batch)
    assert drawn["particles"].shape == batch["particles"].shape
    assert torch.equal(drawn["label"], batch["label"])
    assert torch.equal(drawn["jet"][:, 0], batch["jet"][:, 0])


@pytest.mark.slow
def test_a_score_is_the_bound_of_each_jet(batch):
    module = made(batch)
    found = module.score(batch, n_draws=400)
    torch.testing.assert_close(found["neg_elbo"], found["recon"] + found["kl"])
    x = module.network.standardise(batch["particles"], batch["mask"])
    simple = one_gaussian_nll(x, batch["mask"], module.network.log_count_prob)
    torch.testing.assert_close(found["neg_log_ratio"], found["neg_elbo"] - simple)
    mean, logvar = module.encode(batch)
    torch.testing.assert_close(found["kl"], 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(-1), atol=1e-5, rtol=1e-4)
    again = module.score(batch, n_draws=400, seed=1)
    torch.testing.assert_close(found["recon"], again["recon"], atol=0.3, rtol=0.01)
    assert torch.equal(module.score(batch)["recon"], module.score(batch)["recon"])


def test_prediction_numbers_jets_unless_the_batch_does(batch):
    module = made(batch)
    parts = [{name: values[rows] for name, values in batch.items()} for rows in (slice(0, 5), slice(5, 12))]
    loader = torch.utils.data.DataLoader(parts, batch_size=None)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    found = trainer.predict(module, loader)
    assert torch.cat([part["id"] for part in found]).tolist() == list(range(12))
    assert all(part["neg_elbo"].shape == part["id"].shape for part in found)
    named = module.predict_step({**batch, "id": torch.arange(100, 112)}, 0)
    assert named["id"].tolist() == list(range(100, 112))
