"""SimCLR: its loss beside chance, its views, what it logs, and that a run resumes."""

from __future__ import annotations

import math
import re

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from stablelit.callbacks import RandomStateCheckpoint
from stablelit.errors import ConfigurationError, ContractError, DataError
from stablelit.families.sketches import SimCLR, SketchAugment
from stablelit.functional.contrastive_levels import chance_nt_xent, floor_nt_xent

from .small import ENCODER, Noise, data, simclr, trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*val_dataloader", "ignore:Checkpoint directory", "ignore:.*num_workers"
)


def a_batch(n=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(n, 1, 16, 16, generator=generator)
    return {"image": image, "label": torch.arange(n), "id": torch.arange(n)}


class WithoutTrainer(SimCLR):
    """Logs nowhere."""

    trainer = type("T", (), {"world_size": 1})()

    def log_dict(self, *args, **kwargs):
        self.logged = args[0]


def alone(**more):
    torch.manual_seed(0)
    return WithoutTrainer(
        **{"encoder": ENCODER, "image_size": 16, "projection_hidden": 16, "projection_dim": 8, **more}
    )


def test_the_loss_is_the_brute_force_sum_over_rows():
    module = alone(augment=Noise(), temperature=0.3).double()
    batch = a_batch(5)
    out = module.training_step({**batch, "image": batch["image"].double()}, 1)
    rows = [z.detach() / z.detach().norm() for z in torch.cat([out["z0"], out["z1"]])]
    total = 0.0
    for i, z in enumerate(rows):
        others = [math.exp(float(z @ rows[j]) / 0.3) for j in range(10) if j != i]
        total -= math.log(math.exp(float(z @ rows[(i + 5) % 10]) / 0.3) / sum(others))
    assert float(out["loss"].detach()) == pytest.approx(total / 10, rel=1e-9)


def test_constant_pictures_are_at_chance_whatever_the_temperature():
    for temperature in (0.07, 0.5):
        module = alone(projection_norm="none", temperature=temperature)
        out = module.training_step({**a_batch(32), "image": torch.ones(32, 1, 16, 16)}, 1)
        assert float(out["loss"].detach()) == pytest.approx(math.log(63), abs=1e-5)
        assert module.logged["train/excess"] == pytest.approx(1.0, abs=1e-4)
        assert module.logged["train/chance"] == pytest.approx(math.log(63))


def test_views_are_two_of_each_sketch_and_not_alike():
    module = alone(augment=Noise())
    batch = a_batch(4)
    v0, v1 = module.two_views(batch).chunk(2)
    for view in (v0, v1):
        assert ((view - batch["image"]) >= 0).all()
        assert ((view - batch["image"]) <= 0.3).all()
    assert not torch.equal(v0, v1)


def test_views_that_the_data_drew_are_the_ones_that_are_used():
    views = torch.rand(2, 4, 1, 16, 16)
    assert torch.equal(alone().two_views({**a_batch(4), "views": views}), views.flatten(0, 1))


def test_the_step_returns_both_embeddings_live():
    out = alone(augment=Noise()).training_step(a_batch(6), 1)
    assert out["z0"].shape == out["z1"].shape == (6, 8)
    assert out["h"].shape == (12, 8)
    assert out["z0"].requires_grad
    assert out["h"].requires_grad
    assert out["label"].tolist() == list(range(6))


def test_a_large_batch_in_chunks_has_the_gradient_of_the_whole():
    def gradient(chunk):
        module = alone(encoder={**ENCODER, "norm": "group"}, grad_cache_chunk=chunk).double()
        module.augment = None
        batch = a_batch(8)
        module.training_step({**batch, "image": batch["image"].double()}, 1)["loss"].backward()
        return torch.cat([p.grad.flatten() for p in module.encoder.parameters()])

    whole = gradient(None)
    assert whole.norm() > 0
    assert torch.allclose(gradient(3), whole, rtol=1e-10, atol=1e-14)


def test_accumulated_halves_are_another_loss_than_the_whole():
    module = alone()
    batch = a_batch(8)
    whole = module.training_step(batch, 1)["loss"]
    halves = [
        module.training_step({k: v[part] for k, v in batch.items()}, 1)["loss"] for part in (slice(4), slice(4, 8))
    ]
    # fewer negatives: a lower chance level
    assert sum(halves) / 2 < whole - 0.3


def test_one_sketch_is_no_batch():
    with pytest.raises(DataError, match="at least 2"):
        alone().training_step(a_batch(1), 1)


def test_a_fit_logs_the_loss_beside_chance_and_floor_and_a_test_beside_the_untrained():
    module, fit = simclr(augment=Noise()), trainer(max_epochs=2)
    fit.fit(module, data())
    logged = fit.callback_metrics
    assert logged["train/chance"] == pytest.approx(chance_nt_xent(18))
    assert logged["train/floor"] == pytest.approx(floor_nt_xent(18, 0.2))
    excess = (logged["train/loss"] - logged["train/floor"]) / (logged["train/chance"] - logged["train/floor"])
    assert logged["train/excess"] == pytest.approx(float(excess), abs=1e-4)
    (scores,) = fit.test(module, data(), verbose=False)
    for name in ("few_shot_3w1s", "knn_top1", "linear_top1"):
        for suffix in ("", "_baseline", "_pixels", "_chance"):
            assert 0 <= scores[f"test/{name}{suffix}"] <= 1, name + suffix
    assert scores["test/few_shot_3w1s_chance"] == pytest.approx(1 / 3)
    assert scores["test/few_shot_3w1s_interval"] > 0
    assert set(module.figures()) == {"view_pairs", "embedding_map"}


@pytest.mark.slow
def test_validation_sees_the_same_views_every_time_and_moves_no_random_state():
    module, fit = simclr(augment=Noise()), trainer()
    fit.fit(module, data())
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    losses = [fit.validate(module, data(), verbose=False)[0]["val/loss"] for _ in range(2)]
    assert losses[0] == losses[1]
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path):
    def fit(epochs, callbacks=(), **more):
        pl.seed_everything(1, verbose=False)
        module = simclr(augment=SketchAugment())
        fitted = trainer(max_epochs=epochs, callbacks=[RandomStateCheckpoint(), *callbacks])
        fitted.fit(module, data(), **more)
        return module, fitted

    whole, _ = fit(3)
    _, first = fit(2)
    first.save_checkpoint(tmp_path / "a.ckpt")
    resumed, _ = fit(3, ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    for (name, one), (_, other) in zip(whole.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.slow
def test_a_checkpoint_of_the_default_encoder_loads_by_itself(tmp_path):
    module, fit = simclr(), trainer()
    fit.fit(module, data())
    fit.save_checkpoint(tmp_path / "a.ckpt")
    back = SimCLR.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    image = torch.rand(3, 1, 16, 16)
    assert torch.equal(back.eval()(image), module.eval()(image))


def test_any_module_is_an_encoder_if_its_output_is_a_row_a_picture():
    own = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    module = simclr(encoder=own)
    assert module.feature_dim == 6
    assert module(torch.rand(3, 1, 16, 16)).shape == (3, 6)


def test_an_encoder_whose_output_fits_no_projector_is_refused():
    with pytest.raises(ConfigurationError, match="Conv2d"):
        simclr(encoder=nn.Conv2d(1, 6, 3))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": -0.1}, "temperature=-0.1"),
        ({"projection_dim": 1}, "out_dim=1"),
        ({"projection_norm": "instance"}, "norm='instance'"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"lr_scaling": "square"}, "lr_scaling='square' is not allowed. Allowed: none, linear, sqrt"),
        ({"grad_cache_chunk": 0}, "grad_cache_chunk=0"),
        ({"loss_chunk": 0}, "loss_chunk=0"),
        ({"augment": "flip"}, "augment='flip'"),
        ({"few_shot": [[1, 1]]}, "few_shot"),
        ({"few_shot": [[5, 1, 2]]}, "few_shot"),
        ({"optimizer": torch.optim.Adam([torch.zeros(1)])}, "optimizer"),
        ({"gather": "yes"}, "gather='yes'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        simclr(**arguments)


def test_pictures_of_other_channels_are_refused_with_the_argument_to_change():
    with pytest.raises(ContractError, match="in_channels=3"):
        simclr(in_channels=3)(torch.zeros(2, 1, 16, 16))


@pytest.mark.slow
def test_a_module_in_half_precision_is_tested_beside_the_untrained():
    run = trainer(precision="bf16-true", max_steps=1)
    run.fit(model := simclr(augment=Noise()), sketches := data())
    (scores,) = run.test(model, sketches, verbose=False)
    assert next(model.parameters()).dtype == torch.bfloat16
    assert {"test/knn_top1", "test/knn_top1_baseline", "test/knn_top1_pixels"} <= set(scores)


def test_a_table_of_embeddings_names_the_sketch_and_its_class(tmp_path):
    run, model, sketches = trainer(), simclr(), data(predict_on="all")
    model.write_predictions(run.predict(model, sketches), tmp_path / "all.csv")
    rows = [line.split(",")[:4] for line in (tmp_path / "all.csv").read_text().splitlines()]
    assert rows[0] == ["id", "label", "class", "source"]
    # generated: six of a class, and a place says which of which
    assert rows[7 + 1] == ["7", "1", sketches.classes[1], f"toy:{sketches.classes[1]}:1"]
    assert len(rows) == 90 + 1


def test_the_rate_grows_with_the_batch_as_asked():
    rates = {}
    for rule in ("none", "linear", "sqrt"):
        module, fit = simclr(lr_scaling=rule, learning_rate=0.01), trainer(max_steps=1, limit_val_batches=0)
        fit.fit(module, data())
        rates[rule] = fit.optimizers[0].param_groups[0]["lr"]
    assert rates == pytest.approx({"none": 0.01, "linear": 0.01 * 18 / 256, "sqrt": 0.01 * 18**0.5})


@pytest.mark.slow
def test_generated_classes_are_told_apart_better_than_by_an_untrained_encoder():
    pl.seed_everything(0, verbose=False)
    module = SimCLR(encoder={"width": 24}, augment=SketchAugment(), learning_rate=2e-3, few_shot=[[5, 1]])
    fit = trainer(max_epochs=12, limit_val_batches=0)
    fit.fit(module, data(n_classes=60, per_class=12, size=32, batch_size=48))
    (scores,) = fit.test(module, verbose=False, datamodule=fit.datamodule)
    gained = scores["test/few_shot_5w1s"] - scores["test/few_shot_5w1s_baseline"]
    assert gained > 3 * scores["test/few_shot_5w1s_interval"]
