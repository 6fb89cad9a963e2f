from __future__ import annotations

from functools import partial

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError, ContractError
from stablelit.families.jets import JetDataModule, JetVAE
from stablelit.families.jets.jet_level import JetLevelHeads
from stablelit.families.jets.scaler import JetScaler
from stablelit.findings import FindingWarning

TINY = {
    "latent_dim": 4,
    "particle_hidden": 16,
    "edge_hidden": 8,
    "hyperedge_hidden": 8,
    "decoder": {"name": "mixture", "n_components": 3, "hidden": 16},
}


def trainer(**arguments):
    settings = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 1,
        **arguments,
    }
    return pl.Trainer(**settings)


def data(**arguments):
    return JetDataModule(**{"n_jets": 120, "train": 64, "val": 32, "test": 16, "batch_size": 32, **arguments})


pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:", "ignore:.*val_dataloader")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    pl.seed_everything(0)
    directory = tmp_path_factory.mktemp("fitted")
    module, runner = JetVAE(**TINY), trainer(default_root_dir=directory)
    runner.fit(module, data())
    path = directory / "last.ckpt"
    runner.save_checkpoint(path)
    return module, runner, path


@pytest.fixture
def module(batch):
    made = JetVAE(**TINY)
    made.network.set_scaler(JetScaler.fit(batch["particles"], batch["mask"], batch["jet"]))
    return made


def step(module, batch):
    module.log_dict = lambda *args, **kwargs: None
    return module.training_step(batch, 0)


def test_a_step_returns_nats_per_jet_that_are_live(module, batch):
    out = step(module, batch)
    assert {name: tuple(v.shape) for name, v in out.items()} == {
        "loss": (),
        "recon": (12,),
        "count": (12,),
        "particles": (12,),
        "jet_level": (12,),
        "kl": (12,),
        "kl_per_dim": (12, 4),
    }
    assert all(v.requires_grad for v in out.values())
    assert torch.allclose(out["kl"], out["kl_per_dim"].sum(-1))
    assert torch.allclose(out["loss"], (out["recon"] + out["kl"] + out["jet_level"]).mean())
    assert torch.allclose(out["recon"], out["count"] + out["particles"])


def test_the_weight_of_the_kl_is_filled_in_place_and_enters_once(module, batch):
    module.kl_weight.fill_(0.25)
    out = step(module, batch)
    assert torch.allclose(out["loss"], (out["recon"] + 0.25 * out["kl"] + out["jet_level"]).mean())
    assert module.kl_weight.dtype == torch.float32
    assert module.kl_weight.shape == ()
    assert "kl_weight" not in module.state_dict()


def test_training_lowers_the_loss(batch, module):
    module.log_dict = lambda *args, **kwargs: None
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = module.training_step(batch, 0)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < sum(losses[:5]) - 25


def test_recon_does_not_know_an_order_or_a_padding(module, batch):
    order = torch.randperm(30)
    noisy = batch["particles"].clone()
    noisy[~batch["mask"]] = 9.0
    changed = {"particles": noisy[:, order], "mask": batch["mask"][:, order], "jet": batch["jet"]}
    results = []
    for inputs in (batch, changed):
        draws = torch.Generator().manual_seed(4)
        terms, kl_per_dim = module.terms(inputs, draws)
        results.append((terms["recon"], kl_per_dim))
    for first, second in zip(*results, strict=True):
        assert torch.allclose(first, second, rtol=1e-5, atol=1e-4)


def test_training_sees_augmented_jets(module, batch):
    straight = module.terms(batch)[1]
    module.augment = ()
    assert torch.equal(step(module, batch)["kl_per_dim"], straight)
    module.augment = ("smear",)
    assert not torch.equal(step(module, batch)["kl_per_dim"], straight)


@pytest.mark.slow
def test_validation_ignores_the_kl_weight_and_the_global_random_state(fitted):
    module, runner, _ = fitted
    before = torch.get_rng_state()
    first = runner.validate(module, datamodule=data(), verbose=False)[0]
    assert torch.equal(before, torch.get_rng_state())
    module.kl_weight.fill_(0.01)
    torch.rand(3)
    second = runner.validate(module, datamodule=data(), verbose=False)[0]
    module.kl_weight.fill_(1.0)
    assert first == second
    assert first["val/neg_elbo"] == first["val/loss"] == pytest.approx(first["val/recon"] + first["val/kl"], rel=1e-5)
    assert {"val/mass_w1", "val/mass_w1_floor"} <= set(first)


W1_QUANTITIES = ("mass", "pt", "multiplicity", "etarel", "phirel", "ptrel", "delta_r", "efp")


@pytest.mark.slow
def test_validation_and_test_log_the_same_quantities_and_a_test_their_errors_too(fitted):
    module, runner, _ = fitted
    quantities = {"neg_elbo", "neg_elbo_baseline", "loss", "recon", "kl", "mass_w1_raw", "active_units"}
    quantities |= {f"{name}_w1{end}" for name in W1_QUANTITIES for end in ("", "_floor")}
    validated = runner.validate(module, datamodule=data(), verbose=False)[0]
    assert set(validated) == {f"val/{quantity}" for quantity in quantities}
    with pytest.warns(FindingWarning, match="too-few-jets-for-fpd: 16 real and 16 generated"):
        tested = runner.test(module, datamodule=data(), verbose=False)[0]
    quantities |= {f"{name}_w1_std" for name in W1_QUANTITIES} | {"massless_jets"}
    ends = ("median", "iqr", "iqr_baseline")
    quantities |= {f"{name}_residual_{end}" for name in ("mass", "pt", "multiplicity") for end in ends}
    assert set(tested) == {f"test/{quantity}" for quantity in quantities}


@pytest.mark.slow
def test_a_model_that_draws_nan_is_reported_and_scores_nan(fitted, tmp_path):
    _, _, path = fitted
    module, runner = JetVAE.load_from_checkpoint(path, weights_only=True), trainer(default_root_dir=tmp_path)
    sample = module.sample

    def broken(n, **arguments):
        drawn = sample(n, **arguments)
        return {**drawn, "particles": drawn["particles"] * torch.nan}

    module.sample = broken
    with pytest.warns(FindingWarning, match="jets-cannot-be-scored: generated jets"):
        scores = runner.validate(module, datamodule=data(), verbose=False)[0]
    assert np.isnan(scores["val/mass_w1"])
    assert np.isfinite(scores["val/neg_elbo"])
    assert module.figures() == {}


@pytest.mark.slow
def test_a_test_measures_what_it_is_told_to(fitted):
    _, runner, path = fitted
    module = JetVAE.load_from_checkpoint(path, weights_only=True, test_metrics=["kpd"])
    assert module.hparams["test_metrics"] == ["kpd"]
    scores = runner.test(module, datamodule=data(train=32, test=24, batch_size=16), verbose=False)[0]
    assert {"test/kpd", "test/kpd_std", "test/mass_w1"} <= set(scores)
    assert not any("fpd" in name or "coverage" in name for name in scores)


def test_training_logs_what_a_person_watches(fitted):
    _, runner, _ = fitted
    module = JetVAE(**TINY)
    runner = trainer(max_epochs=1)
    runner.fit(module, data())
    assert {"train/loss", "train/recon", "train/kl", "val/neg_elbo"} <= set(runner.callback_metrics)


def test_a_checkpoint_is_plain_and_loads_alone(fitted):
    module, _, path = fitted
    assert torch.load(path, weights_only=True)["hyper_parameters"]["augment"] == ["rotate", "reflect"]
    loaded = JetVAE.load_from_checkpoint(path, weights_only=True)
    assert loaded.network.scaler_is_fitted
    assert torch.equal(loaded.network.particle_std, module.network.particle_std)
    for name, values in module.sample(20, seed=3).items():
        assert torch.equal(values, loaded.sample(20, seed=3)[name])


def test_a_loaded_module_keeps_its_coordinates_on_other_data(fitted):
    _, _, path = fitted
    loaded = JetVAE.load_from_checkpoint(path, weights_only=True)
    before = loaded.network.particle_std.clone()
    trainer(max_steps=1, limit_val_batches=0).fit(loaded, data(classes=("t",), seed=5))
    assert torch.equal(loaded.network.particle_std, before)


# sixteen jets are too few for one of its scores, and that is said
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::stablelit.findings.FindingWarning")
def test_figures_show_the_last_evaluation(fitted):
    module, runner, _ = fitted
    assert JetVAE(**TINY).figures() == {}
    runner.validate(module, datamodule=data(), verbose=False)
    figures = module.figures()
    assert set(figures) == {"mass_spectrum", "spectra", "kl_per_dimension", "jets", "latent"}
    assert all(hasattr(figure, "savefig") for figure in figures.values())
    assert [text.get_text()[:2] for text in figures["latent"].axes[0].get_legend().get_texts()] == ["q ", "g ", "t "]
    runner.test(module, datamodule=data(), verbose=False)
    assert set(module.figures()) == {*figures, "residuals"}
    # a row of real jets, one of their reconstructions, one of prior samples
    rows = [axes.get_ylabel().split("\n")[0] for axes in module.figures()["jets"].axes[::5]]
    assert rows == ["real", "reconstructed", "prior sample"]


def test_validation_gives_the_posteriors_of_its_jets(module, batch):
    module.log_dict = lambda *args, **kwargs: None
    module.evaluation.begin("val")
    with torch.no_grad():
        out = module.validation_step(batch, 0)
    mean, logvar = module.encode(batch)
    torch.testing.assert_close(out["mean"], mean)
    torch.testing.assert_close(out["logvar"], logvar)
    torch.testing.assert_close(out["kl"], out["kl_per_dim"].sum(-1))


def test_the_sanity_check_of_a_trainer_scores_nothing():
    module, runner = JetVAE(**TINY), trainer(max_epochs=1, check_val_every_n_epoch=2)
    runner.fit(module, data())
    assert "val/mass_w1" not in runner.callback_metrics
    assert module.figures() == {}
    assert not module.evaluation.jet_metrics["val"].real


@pytest.mark.slow
def test_one_seed_trains_one_model():
    results = []
    for _ in range(2):
        pl.seed_everything(3)
        module = JetVAE(**TINY)
        trainer(max_epochs=1).fit(module, data())
        results.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(*results)


def test_optimizer_and_schedule_are_taken_from_the_constructor():
    module = JetVAE(
        **TINY,
        learning_rate=0.5,
        optimizer=partial(torch.optim.SGD, momentum=0.1),
        lr_schedule=lambda optimizer, total_steps: torch.optim.lr_scheduler.StepLR(optimizer, total_steps),
    )
    assert "optimizer" not in module.hparams
    runner = trainer(max_steps=1, limit_val_batches=0)
    runner.fit(module, data())
    assert isinstance(runner.optimizers[0], torch.optim.SGD)
    assert runner.lr_scheduler_configs[0].interval == "step"
    assert runner.lr_scheduler_configs[0].scheduler.step_size == 1


@pytest.mark.slow
def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path):
    def run(epochs, ckpt_path=None):
        pl.seed_everything(1)
        module, runner = JetVAE(**TINY, augment=()), trainer(max_epochs=epochs)
        # latent noise is a global draw, which a checkpoint does not carry: make it a function of the step
        module.on_train_batch_start = lambda batch, batch_idx: torch.manual_seed(module.trainer.global_step) and None
        runner.fit(module, data(), ckpt_path=ckpt_path)
        return module, runner

    whole, _ = run(3)
    _, half = run(1)
    half.save_checkpoint(tmp_path / "half.ckpt")
    resumed, _ = run(3, tmp_path / "half.ckpt")
    for first, second in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_resumed_within_an_epoch_sees_the_batches_that_were_left(tmp_path, workers):
    def run(steps, ckpt_path=None, callbacks=()):
        seen = []
        module = JetVAE(**TINY)
        module.on_train_batch_start = lambda batch, batch_idx: seen.append(float(batch["particles"].sum()))
        runner = trainer(
            max_epochs=-1, max_steps=steps, limit_val_batches=0, enable_checkpointing=True, callbacks=list(callbacks)
        )
        runner.fit(module, data(batch_size=16, num_workers=workers), ckpt_path=ckpt_path, weights_only=True)
        return seen

    # four batches an epoch: the sixth step is in the middle of the second
    saving = pl.callbacks.ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=6, save_top_k=-1)
    whole = run(11, callbacks=[saving])
    assert run(11, tmp_path / "step=6.ckpt") == whole[6:]
    assert len(set(whole)) == 11


def test_a_datamodule_of_another_width_is_refused():
    with pytest.raises(ConfigurationError, match=r"n_particles=30.*n_particles=20"):
        trainer().fit(JetVAE(**TINY), data(n_particles=20))


def test_loaders_without_a_scaler_are_refused_with_the_remedy():
    loader = data().val_dataloader()
    with pytest.raises(ContractError, match="set_scaler"):
        trainer().fit(JetVAE(**TINY), loader)


def test_an_untrained_module_is_not_evaluated():
    with pytest.raises(ContractError, match="no coordinates"):
        trainer().validate(JetVAE(**TINY), datamodule=data(), verbose=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latent_dim": 0}, "latent_dim=0"),
        ({"decoder": {"name": "mixture", "n_components": 2.5}}, "n_components"),
        ({"decoder": "mixtur"}, "Did you mean 'mixture'"),
        ({"decoder": {"name": "mixture", "hiden": 3}}, "Did you mean 'hidden'"),
        ({"encoder_dropout": 1.0}, "encoder_dropout"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"augment": ["rotat"]}, "Did you mean 'rotate'"),
        ({"test_metrics": ["fp"]}, "Did you mean 'fpd'"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"conditional": ["label"]}, "names of the classes"),
        ({"conditional": "pT", "classes": ["q"]}, "conditional"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        JetVAE(**arguments)


def test_the_heads_leave_the_bound_and_its_gradients_alone(batch):
    gradients = []
    for jet_level in (True, False):
        torch.manual_seed(0)
        module = JetVAE(**TINY, jet_level=False, augment=())
        if jet_level:
            module.network.jet_level = JetLevelHeads(4, 30)
        module.network.set_scaler(JetScaler.fit(batch["particles"], batch["mask"], batch["jet"]))
        torch.manual_seed(1)
        step(module, batch)["loss"].backward()
        gradients.append([p.grad for n, p in module.network.named_parameters() if not n.startswith("jet_level")])
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))


def test_shares_of_classes_are_those_of_the_training_jets():
    module = JetVAE(**TINY, conditional=["label"], classes=["q", "g", "t"])
    jets = data()
    trainer(max_steps=1, limit_val_batches=0).fit(module, jets)
    labels = torch.from_numpy(jets.jets.label[jets.split_indices["train"]])
    torch.testing.assert_close(module.network.conditions.label_prob, torch.bincount(labels).float() / 64)


def test_classes_in_another_order_are_refused():
    module = JetVAE(**TINY, conditional=["label"], classes=["g", "q", "t"])
    jets = data()
    jets.setup()
    with pytest.raises(ConfigurationError, match=r"g, q, t.*gives q, g, t"):
        trainer().fit(module, jets)
