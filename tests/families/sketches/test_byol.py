"""BYOL: its average, when it moves, and what collapse looks like."""

from __future__ import annotations

import math
import re

import lightning.pytorch as pl
import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.sketches import BYOL

from .small import Noise, byol, data, trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*val_dataloader", "ignore:Checkpoint directory", "ignore:.*num_workers"
)


def weights(part):
    return torch.cat([p.detach().flatten() for p in part.parameters()])


def test_the_average_begins_at_the_network_and_is_not_trained():
    module = byol()
    assert torch.equal(weights(module.target["encoder"]), weights(module.encoder))
    assert not any(p.requires_grad for p in module.target.parameters())
    trained = {id(p) for p in module.parameters() if p.requires_grad}
    assert trained == {
        id(p) for part in (module.encoder, module.projector, module.predictor) for p in part.parameters()
    }


def test_an_update_is_the_weighted_mean_and_copies_batch_statistics():
    module = byol()
    before = weights(module.target)
    with torch.no_grad():
        for p in module.encoder.parameters():
            p.add_(1.0)
        for p in module.projector.parameters():
            p.mul_(2.0)
    for buffer in module.encoder.buffers():
        buffer.fill_(7)
    now = torch.cat([weights(module.encoder), weights(module.projector)])
    module.update_target(0.9)
    assert torch.allclose(weights(module.target), 0.9 * before + 0.1 * now, atol=1e-6)
    assert all((buffer == 7).all() for buffer in module.target["encoder"].buffers())


def test_tau_rises_along_a_cosine_from_its_base_to_its_end():
    module = byol(tau_base=0.96)
    module._steps = 100
    assert module.tau(0) == pytest.approx(0.96)
    assert module.tau(50) == pytest.approx(0.98)
    assert module.tau(100) == module.tau(300) == 1.0
    assert module.tau(25) == pytest.approx(1 - 0.04 * (math.cos(math.pi / 4) + 1) / 2)


@pytest.mark.parametrize(("steps", "base"), [(20_000, 0.996), (5_000, 0.99), (500, 0.98), (30, 0.9)])
def test_tau_auto_looks_back_on_a_part_of_the_run(steps, base):
    module = byol()
    module._steps = steps
    assert module.tau(0) == pytest.approx(base)


@pytest.mark.parametrize("accumulated", [1, 3])
def test_the_average_moves_once_an_optimizer_step(accumulated):
    moves, steps = [], []

    class Counted(BYOL):
        def update_target(self, tau):
            moves.append(tau)
            steps.append(self.trainer.global_step)
            super().update_target(tau)

    torch.manual_seed(0)
    module = Counted(**{**dict(byol().hparams), "augment": Noise()})
    fit = trainer(max_epochs=2, limit_val_batches=0, accumulate_grad_batches=accumulated)
    fit.fit(module, data())
    assert steps == list(range(1, fit.global_step + 1))
    assert moves == [module.tau(step) for step in steps]


def test_the_loss_is_that_of_both_directions():
    torch.manual_seed(0)
    module = byol(projection_norm="none", encoder={"width": 8, "n_blocks": 3, "norm": "none"})
    views = torch.rand(8, 1, 16, 16)
    loss, p, z, _ = module._predicted(views)
    unit = torch.nn.functional.normalize
    # at first the average is the network itself
    cosine = (unit(p, dim=1) * unit(z.roll(4, 0), dim=1)).sum(1)
    assert float(loss.detach()) == pytest.approx(float((2 - 2 * cosine).view(2, 4).mean(1).sum().detach()), rel=1e-5)


def test_one_vector_for_everything_has_the_best_loss_there_is():
    module = byol()
    with torch.no_grad():
        for part in (module.projector, module.predictor, module.target["projector"]):
            part[-1].weight.zero_()
            part[-1].bias.fill_(1.0)
    assert float(module._predicted(torch.rand(8, 1, 16, 16))[0].detach()) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.slow
def test_a_fit_logs_tau_and_a_test_judges_the_online_encoder():
    module, fit = byol(augment=Noise()), trainer(max_epochs=2)
    fit.fit(module, data())
    assert 0.9 <= float(fit.callback_metrics["train/tau"]) <= 1.0
    (scores,) = fit.test(module, data(), verbose=False)
    assert 0 <= scores["test/few_shot_3w1s"] <= 1
    image = torch.rand(3, 1, 16, 16)
    assert torch.equal(module.eval()(image), module.encoder(image).flatten(1))
    assert not torch.equal(weights(module.encoder), weights(module.target["encoder"]))


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_the_average(tmp_path):
    def fit(epochs, **more):
        pl.seed_everything(1, verbose=False)
        module = byol(tau_base=0.9)
        fitted = trainer(max_epochs=epochs, limit_val_batches=0)
        fitted.fit(module, data(), **more)
        return module, fitted

    _, first = fit(2)
    first.save_checkpoint(tmp_path / "a.ckpt")
    saved = weights(first.lightning_module.target)
    resumed = byol(tau_base=0.9)
    fitted = trainer(max_epochs=2, limit_val_batches=0)
    fitted.fit(resumed, data(), ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert torch.equal(weights(resumed.target), saved)


@pytest.mark.slow
def test_the_average_moves_though_the_checkpoint_was_written_before_it_did(tmp_path):
    class Before(pl.Callback):
        """What the average is when a batch begins."""

        def __init__(self):
            self.seen = {}

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.seen[trainer.global_step] = weights(pl_module.target).clone()

    def fit(ckpt_path=None):
        # a callback's end of a batch comes before the module's, where the average moves
        saving = pl.callbacks.ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
        before = Before()
        options = {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 0, "enable_checkpointing": True}
        trainer(callbacks=[before, saving], **options).fit(byol(tau_base=0.5), data(), ckpt_path=ckpt_path)
        return before.seen

    whole = fit()
    resumed = fit(tmp_path / "step=1.ckpt")
    assert list(resumed) == [1]
    assert torch.equal(resumed[1], whole[1])
    assert not torch.equal(whole[0], whole[1])


def test_a_run_without_an_end_is_refused():
    with pytest.raises(ConfigurationError, match="max_epochs"):
        trainer(max_epochs=-1).fit(byol(), data())


def test_an_average_in_half_precision_is_refused():
    with pytest.raises(ConfigurationError, match=r"precision.*bf16-mixed"):
        trainer(precision="bf16-true").fit(byol(), data())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"tau_base": 1.0}, "tau_base=1.0"),
        ({"tau_base": "auto2"}, "tau_base='auto2'"),
        ({"tau_final": 1.5}, "tau_final=1.5"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        byol(**arguments)
