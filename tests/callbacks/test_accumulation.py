"""A checkpoint inside an accumulated step: where such runs go on exactly is in test_epoch_mean's places, too."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from stablelit.callbacks import AccumulationCheckpoint, RandomStateCheckpoint
from tests.contract.modules import framework, make_module, make_trainer, train_loader

KEY = "stablelit_accumulation"


def save_after(batches, path):
    class SaveAfter(pl.callbacks.Checkpoint):
        def on_train_batch_end(self, trainer, *args):
            if trainer.fit_loop.total_batch_idx + 1 == batches:
                trainer.save_checkpoint(path)

    return SaveAfter()


def fit(folder, module, callbacks, ckpt_path=None, **kwargs):
    trainer = make_trainer(folder, callbacks, enable_checkpointing=True, max_epochs=2, **kwargs)
    trainer.fit(module, train_loader(), ckpt_path=ckpt_path)
    return {name: value.clone() for name, value in module.state_dict().items()}


class Plain(pl.LightningModule):
    """Its gradient after some batches is theirs by hand."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 1)

    def loss(self, batch):
        return self.layer(batch[0]).square().mean()

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class OwnSteps(Plain):
    """Steps every third batch, by itself."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        self.manual_backward(self.loss(batch) / 3)
        if batch_idx % 3 == 2:
            optimizer = self.optimizers()
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize(("kind", "kwargs"), [(Plain, {"accumulate_grad_batches": 3}), (OwnSteps, {})])
def test_what_is_kept_is_the_gradient_of_the_batches_so_far_and_the_run_goes_on_as_if_nothing_was(
    kind, kwargs, tmp_path
):
    path = tmp_path / "a.ckpt"
    torch.manual_seed(0)
    module = kind()
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    whole = fit(tmp_path, module, [AccumulationCheckpoint(), save_after(2, path)], **kwargs)

    by_hand = Plain()
    by_hand.load_state_dict(weights)
    loader = train_loader()
    for _, batch in zip(range(2), loader, strict=False):
        (by_hand.loss(batch) / 3).backward()
    kept = torch.load(path, weights_only=True)[KEY]
    assert kept.keys() == {"layer.weight", "layer.bias"}
    assert all(torch.allclose(kept[name], p.grad) for name, p in by_hand.named_parameters())

    again = fit(tmp_path, kind(), [AccumulationCheckpoint()], str(path), **kwargs)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    without = fit(tmp_path, kind(), [RandomStateCheckpoint()], str(path), **kwargs)
    assert not all(torch.equal(whole[name], without[name]) for name in whole), "this is what Lightning does"


@pytest.mark.parametrize("batches", [3, 6])
def test_a_checkpoint_of_a_whole_step_is_no_larger(batches, tmp_path):
    path = tmp_path / "a.ckpt"
    fit(tmp_path, Plain(), [AccumulationCheckpoint(), save_after(batches, path)], accumulate_grad_batches=3)
    assert KEY not in torch.load(path, weights_only=True)


def test_a_module_with_two_optimizers_that_steps_both_keeps_none(tmp_path):
    path = tmp_path / "a.ckpt"
    fit(tmp_path, make_module(kind="manual"), [AccumulationCheckpoint(), save_after(2, path)])
    assert KEY not in torch.load(path, weights_only=True)


def test_a_checkpoint_that_an_error_leaves_inside_a_batch_keeps_none(tmp_path):
    path = tmp_path / "a.ckpt"

    class Breaks(framework("lightning.pytorch").Callback):
        def on_after_backward(self, trainer, pl_module):
            if trainer.fit_loop.total_batch_idx == 1:
                trainer.save_checkpoint(path)

    fit(tmp_path, Plain(), [AccumulationCheckpoint(), Breaks()], accumulate_grad_batches=3)
    assert KEY not in torch.load(path, weights_only=True)


def test_gradients_of_parameters_that_are_gone_are_told(tmp_path):
    path = tmp_path / "a.ckpt"
    fit(tmp_path, Plain(), [AccumulationCheckpoint(), save_after(2, path)], accumulate_grad_batches=3)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint[KEY]["head.weight"] = torch.zeros(3)
    torch.save(checkpoint, path)
    with pytest.warns(UserWarning, match=r"1 parameters that Plain does not have, such as head\.weight"):
        fit(tmp_path, Plain(), [AccumulationCheckpoint()], str(path), accumulate_grad_batches=3)
