"""Settings as a Trainer and a module say them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from stablelit.doctor import TrainingDoctor, trainer_settings
from stablelit.doctor.trainer_settings import find_keys
from tests.doctor.carrying import Little, Manual, alone, fit


@pytest.fixture(autouse=True)
def _bare(monkeypatch):
    alone(monkeypatch)


class Optimizes(Little):
    def __init__(self, optimizer, **hyperparameters):
        super().__init__()
        self.optimizer = optimizer
        self.hparams.update(hyperparameters)

    def configure_optimizers(self):
        return self.optimizer(self)


def settings_of(module, **kwargs):
    doctor = TrainingDoctor()
    fit(doctor, module, **kwargs)
    return doctor.evidence.settings


def groups(module):
    weight, bias = module.layer.parameters()
    bias.requires_grad_(False)
    fast = {"params": [weight], "lr": 0.5, "weight_decay": 0.25}
    return torch.optim.AdamW([fast, {"params": [bias]}], lr=0.125, weight_decay=0.0)


def test_groups_are_read_one_by_one():
    first, second = settings_of(Optimizes(groups)).optimizers
    assert (first.kind, first.learning_rate, first.weight_decay) == ("AdamW", 0.5, 0.25)
    assert (first.parameters, first.trainable) == (3, 3)
    assert (second.learning_rate, second.weight_decay, second.parameters, second.trainable) == (0.125, 0.0, 1, 0)
    assert not first.maximize


def test_a_group_that_climbs_says_so():
    assert settings_of(Optimizes(lambda m: torch.optim.SGD(m.parameters(), 0.1, maximize=True))).optimizers[0].maximize


def test_the_rate_is_that_before_a_schedule():
    def warm(module):
        optimizer = torch.optim.SGD(module.parameters(), 0.5)
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.125 * epoch)]

    settings = settings_of(Optimizes(warm))
    assert settings.learning_rate == 0.5
    assert settings.schedules == ["LambdaLR/epoch"]


def test_of_several_optimizers_all_are_there():
    settings = settings_of(Manual(lambda i: [1.0, 0, 1], optimizers=2))
    assert [group.learning_rate for group in settings.optimizers] == [0.125, 0.25]
    assert settings.automatic is False


def test_no_optimizer_is_none():
    settings = settings_of(Optimizes(lambda m: None))
    assert settings.optimizers == []
    assert settings.learning_rate is None


def test_the_trainers_switches():
    settings = settings_of(
        Little(), batches=10, accumulate_grad_batches=4, gradient_clip_val=0.5, gradient_clip_algorithm="value"
    )
    assert (settings.accumulated, settings.steps_per_epoch, settings.max_epochs) == (4, 3, 1)
    assert (settings.clip_value, settings.clip_algorithm, settings.precision) == (0.5, "value", "32-true")
    assert (settings.module, settings.ranks, settings.automatic) == ("Little", 1, True)


def test_what_is_not_said_is_unknown():
    settings = settings_of(Little(), max_epochs=-1, max_steps=2)
    assert (settings.clip_value, settings.max_epochs, settings.batch_size) == (None, None, None)
    assert settings.clip_algorithm == "norm"
    assert settings.overfit_batches is False
    assert settings_of(Little(), overfit_batches=2).overfit_batches is True


def test_keys_come_from_hyperparameters():
    settings = settings_of(Optimizes(lambda m: torch.optim.SGD(m.parameters(), 0.1), lr=0.1, beta=1.0))
    assert settings.override("learning_rate", 1e-3) == "model.lr=0.001"
    assert settings.override("kl_weight", 0.5) == "model.beta=0.5"
    assert settings.override("clip_value", 1.0) == "trainer.gradient_clip_val=1"
    # where no key is known, the thing itself is named
    assert settings.override("weight_decay", 1e-2) == "weight_decay=0.01"


def test_the_first_group_and_the_first_name_win():
    keys = find_keys({"model": {"lr": 1, "learning_rate": 2}, "data": {"lr": 3, "batch_size": 4}, "": {"wd": 5}})
    assert keys["learning_rate"] == "model.learning_rate"
    assert keys["batch_size"] == "data.batch_size"
    assert keys["weight_decay"] == "wd"


class Odd(torch.optim.SGD):
    """Its groups hold what nobody expects."""

    def __init__(self, parameters):
        super().__init__(parameters, 0.1)
        self.param_groups[0].update(initial_lr=None, weight_decay=torch.ones(2))


def test_odd_groups_are_unknown_and_no_error():
    (group,) = trainer_settings._groups(Odd(nn.Linear(2, 1).parameters()))
    assert math.isnan(group.learning_rate)
    assert (group.weight_decay, group.parameters) == (0.0, 3)


def test_lazy_layers_have_no_size_yet():
    (group,) = trainer_settings._groups(torch.optim.SGD(nn.LazyLinear(2).parameters(), 0.1))
    assert group.parameters == 0


def test_what_cannot_be_read_is_left_out_and_said(monkeypatch):
    said = []
    monkeypatch.setattr(trainer_settings, "rank_zero_info", said.append)
    monkeypatch.setattr(trainer_settings, "_groups", lambda optimizer: 1 / 0)
    settings = settings_of(Little())
    assert (settings.module, settings.automatic, settings.optimizers) == ("Little", True, [])
    assert "division by zero" in said[0]


def test_accumulation_that_changes_leaves_the_plan_unknown_and_ends_nothing(monkeypatch):
    from lightning.pytorch import Trainer

    def raises(self):
        raise RuntimeError("cannot be computed")

    monkeypatch.setattr(Trainer, "estimated_stepping_batches", property(raises))
    doctor = TrainingDoctor()
    fit(doctor)
    assert doctor.evidence.planned_steps is None


@pytest.mark.parametrize(
    ("optimizers", "epochs", "planned"), [(1, 1, 6), (1, -1, 8), (2, 1, None), (2, -1, None)], ids=str
)
def test_max_steps_of_several_optimizers_are_no_plan(optimizers, epochs, planned):
    doctor = TrainingDoctor()
    plan = [1.0, 0, 2.0, 1] if optimizers == 2 else [1.0, 0]
    fit(doctor, Manual(lambda i: plan, optimizers=optimizers), max_steps=8, max_epochs=epochs)
    assert doctor.evidence.planned_steps == planned
    assert doctor.evidence.step == (4 if optimizers == 2 else planned)
