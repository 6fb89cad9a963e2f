"""What a module logs, against the numbers that it was told to log."""

from __future__ import annotations

import math

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from stablelit.doctor import TrainingDoctor
from stablelit.doctor.logged import validation_loss_name
from tests.doctor.carrying import Little, Rows, alone, curve, fit


@pytest.fixture(autouse=True)
def _bare(monkeypatch):
    alone(monkeypatch)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["val_loss", "val_kl_loss", "train_loss"], "val_loss"),
        (["val/loss", "val/loss_recon"], "val/loss"),
        (["loss/valid"], "loss/valid"),
        (["Validation Loss"], "Validation Loss"),
        (["eval.nll"], "eval.nll"),
        (["val_loss/dataloader_idx_1", "val_loss/dataloader_idx_0"], "val_loss/dataloader_idx_0"),
        (["val_neg_elbo"], "val_neg_elbo"),
        # nobody knows whether these are to rise
        (["val_elbo", "val_acc", "val_objective"], None),
        (["train_loss", "loss", "glossary_val", "invalid_loss", "interval_loss"], None),
        ([], None),
    ],
    ids=lambda value: "+".join(value) or "nothing" if isinstance(value, list) else str(value),
)
def test_the_name_of_a_validation_loss(names, expected):
    assert validation_loss_name(names) == expected


class Logs(Little):
    """Logs in validation what it is told; `returns` is what its validation_step gives back."""

    def __init__(self, logs, returns=None, trains=None):
        super().__init__()
        self.logs, self.returns, self.trains = logs, returns, trains or {}

    def training_step(self, batch, batch_idx):
        for name, value in self.trains.items():
            self.log(name, value(self, batch_idx), on_step=True, on_epoch=True)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        for name, value in self.logs.items():
            self.log(name, value(self, batch_idx))
        return None if self.returns is None else self.returns(self, batch_idx)


def run(module, **kwargs):
    doctor = TrainingDoctor()
    options = {"batches": 4, "validation": DataLoader(Rows(4), 2), "max_epochs": 3, **kwargs}
    fit(doctor, module, **options)
    return doctor


def epoch(module, batch_idx):
    return 1.0 + module.current_epoch


def mean_of_batches(module, batch_idx):
    return float(batch_idx) + module.current_epoch


def test_a_validation_loss_is_kept_at_the_step_of_its_validation():
    doctor = run(Logs({"val_loss": mean_of_batches, "val_acc": epoch}))
    assert curve(doctor, "val_loss") == [(4, 0.5), (8, 1.5), (12, 2.5)]
    assert curve(doctor, "logged/val_loss") == curve(doctor, "val_loss")
    assert curve(doctor, "logged/val_acc") == [(4, 1.0), (8, 2.0), (12, 3.0)]


def test_the_sanity_check_leaves_no_point():
    doctor = run(Logs({"val_loss": epoch}), num_sanity_val_steps=2)
    assert [step for step, _ in curve(doctor, "val_loss")] == [4, 8, 12]


def as_tensor(value):
    return lambda module, batch_idx: torch.tensor(value(module, batch_idx))


RETURNS = {
    "number": (as_tensor(mean_of_batches), {}, True),
    "one-element": (lambda m, i: torch.tensor([mean_of_batches(m, i)]), {}, True),
    "dict": (lambda m, i: {"loss": torch.tensor(mean_of_batches(m, i)), "x": 1}, {"val_acc": epoch}, True),
    # it may be the accuracy
    "number-beside-metrics": (as_tensor(mean_of_batches), {"val_acc": epoch}, False),
    "predictions": (lambda m, i: torch.zeros(2, 3), {}, False),
    "dict-without-loss": (lambda m, i: {"scores": torch.zeros(2)}, {}, False),
    "nothing": (None, {}, False),
}


@pytest.mark.parametrize(("returns", "logs", "known"), RETURNS.values(), ids=RETURNS)
def test_where_no_name_says_it_what_is_returned_counts_if_it_is_sure(returns, logs, known):
    doctor = run(Logs(logs, returns))
    assert curve(doctor, "val_loss") == ([(4, 0.5), (8, 1.5), (12, 2.5)] if known else [])


def test_what_is_logged_counts_before_what_is_returned():
    assert curve(run(Logs({"val_loss": epoch}, as_tensor(mean_of_batches))), "val_loss")[0] == (4, 1.0)


def test_an_epochs_means_are_taken_when_they_are_there():
    doctor = run(Logs({"val_loss": epoch}, trains={"train_loss": mean_of_batches}))
    assert curve(doctor, "logged/train_loss_epoch") == [(4, 1.5), (8, 2.5), (12, 3.5)]
    # forked names: the last step's value stands under the other
    assert curve(doctor, "logged/train_loss_step") == [(4, 3.0), (8, 4.0), (12, 5.0)]


def test_a_name_that_training_logs_is_not_one_of_validation():
    doctor = run(Logs({"loss": epoch}, trains={"loss": mean_of_batches}))
    assert "val_loss" not in doctor.evidence.curves


def test_a_validation_in_the_middle_counts_once():
    module = Logs({"val_loss": lambda m, i: float(m.trainer.global_step)}, trains={"t": epoch})
    doctor = run(module, batches=6, max_epochs=2, val_check_interval=4)
    assert curve(doctor, "logged/val_loss") == curve(doctor, "val_loss") == [(4, 4.0), (10, 10.0)]
    assert [step for step, _ in curve(doctor, "logged/t_epoch")] == [6, 12]


def test_what_callbacks_log_is_there_and_ours_are_not():
    class Other(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            for name in ("other", "posterior/kl", "ssl/rank"):
                pl_module.log(name, 1.0 + trainer.current_epoch)

    doctor = TrainingDoctor()
    fit([doctor, Other()], Logs({}), batches=4, max_epochs=2)
    assert curve(doctor, "logged/other") == [(4, 1.0), (8, 2.0)]
    assert [name for name in doctor.evidence.curves if name.startswith("logged/")] == ["logged/other"]


@pytest.mark.parametrize("way", ["log", "metrics"])
def test_what_an_epoch_has_logged_is_not_taken_again_for_the_next_validations(way):
    class Other(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            value = 1.0 + trainer.current_epoch
            if way == "log":
                pl_module.log("other", value)
            else:
                trainer.callback_metrics["other"] = torch.tensor(value)

    doctor = TrainingDoctor()
    options = {"batches": 4, "validation": DataLoader(Rows(4), 2), "max_epochs": 3, "val_check_interval": 2}
    fit([doctor, Other()], Logs({"val_loss": epoch}), **options)
    assert curve(doctor, "logged/other") == [(4, 1.0), (8, 2.0), (12, 3.0)]


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["nan", "inf"])
def test_values_that_are_not_finite_are_kept(value):
    doctor = run(Logs({"val_loss": lambda m, i: value}))
    assert [str(v) for _, v in curve(doctor, "val_loss")] == [str(value)] * 3


def test_integers_and_double_precision_are_numbers():
    doctor = run(Logs({"val_n": lambda m, i: torch.tensor(3), "val_x": lambda m, i: torch.tensor(0.5).double()}))
    assert curve(doctor, "logged/val_n")[0] == (4, 3.0)
    assert curve(doctor, "logged/val_x")[0] == (4, 0.5)


def test_after_an_exception_no_trainer_is_held():
    class Breaks(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            raise ValueError("broken on purpose")

    doctor = TrainingDoctor()
    with pytest.raises(ValueError, match="broken on purpose"):
        fit([doctor, Breaks()], Little())
    assert doctor._examination._logged._epoch is None
