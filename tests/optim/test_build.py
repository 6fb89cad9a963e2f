from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch

from stablelit.optim import build_optimizers, warmup_schedule
from tests.contract.modules import make_trainer, module_classes, save_at_class, train_loader

TinyVAE = module_classes("lightning.pytorch")["automatic"]


class Scheduled(TinyVAE):
    """Its schedule asks for the length of the run while the optimizers are made."""

    def configure_optimizers(self):
        return build_optimizers(self, None, warmup_schedule, 1e-2)


class Naive(TinyVAE):
    """The same, asked of Lightning directly."""

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), 1e-2)
        return [optimizer], [warmup_schedule(optimizer, self.trainer.estimated_stepping_batches)]


class Watch(pl.Callback):
    def __init__(self):
        self.batches = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches.append(float(batch[0].sum()))


def resumed_in_the_middle(directory, module_class):
    whole, rest = Watch(), Watch()
    saver = save_at_class("lightning.pytorch")(8, directory / "a.ckpt")
    make_trainer(directory, [whole, saver], enable_checkpointing=True).fit(module_class(), train_loader())
    make_trainer(directory, [rest]).fit(module_class(), train_loader(), ckpt_path=str(directory / "a.ckpt"))
    return whole.batches[8:], rest.batches


@pytest.mark.slow
def test_a_schedule_that_asks_for_the_runs_length_does_not_cost_the_loader_its_place(tmp_path):
    expected, got = resumed_in_the_middle(tmp_path, Scheduled)
    assert got == expected


@pytest.mark.slow
def test_asking_lightning_directly_does(tmp_path):
    """Where this fails one day, Lightning has mended it and `planned_steps` may go."""
    expected, got = resumed_in_the_middle(tmp_path, Naive)
    assert got != expected


def test_frozen_parameters_are_left_out_and_the_rate_is_the_modules():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    module[0].requires_grad_(False)
    built = build_optimizers(module, None, None, 0.5)
    (group,) = built["optimizer"].param_groups
    assert group["lr"] == 0.5
    assert [id(p) for p in group["params"]] == [id(p) for p in module[1].parameters()]
    assert "lr_scheduler" not in built
