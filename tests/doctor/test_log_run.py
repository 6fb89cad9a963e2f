"""From files to evidence: settings, the length of a run, whether it is over; and logs as Lightning writes them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from stablelit.doctor.door import main
from stablelit.doctor.evidence import Curve, Settings
from stablelit.doctor.evidence.hyperparameters import number_named
from stablelit.doctor.log_run import open_log_run
from stablelit.doctor.roles import RoleNamer, name_roles
from tests.doctor.log_files import make_old, write_csv, write_events, write_lines


def rows(epochs: int = 5, steps: int = 20, every: int = 1) -> list[dict[str, object]]:
    """Rows as CSVLogger writes them; the last step of an epoch is `steps` times its number less one."""
    made: list[dict[str, object]] = []
    for step in range(epochs * steps):
        if step % every == every - 1:
            made.append({"epoch": step // steps, "step": step, "train_loss": 1.0 / (step + 1)})
        if step % steps == steps - 1:
            made.append({"epoch": step // steps, "step": step, "val_loss": 1.0 / (step + 1)})
    return made


def test_settings_come_from_hyperparameters(tmp_path):
    held = {"lr": 1e-3, "batch_size": 32, "weight_decay": 0.01, "gradient_clip_val": 0.5, "optimizer": "SGD"}
    run = open_log_run(write_csv(tmp_path, rows(), **held, accumulate_grad_batches=4, max_epochs=5))
    settings = run.evidence.settings
    assert (settings.batch_size, settings.accumulated, settings.clip_value, settings.max_epochs) == (32, 4, 0.5, 5)
    assert settings.learning_rate == 1e-3
    assert (settings.optimizers[0].kind, settings.optimizers[0].weight_decay) == ("SGD", 0.01)
    assert settings.override("learning_rate", 1e-4) == "lr=0.0001"


def test_keys_of_our_own_configuration_are_overrides(tmp_path):
    write_events(tmp_path, {"train/loss": [(s, 1.0) for s in range(9)]})
    (tmp_path / "config.yaml").write_text("optimizer: {lr: 0.003}\ndata: {batch_size: 64}\n")
    settings = open_log_run(make_old(tmp_path)).evidence.settings
    assert settings.override("learning_rate", 1e-3) == "optimizer.lr=0.001"
    assert settings.override("clip_value", 1.0) == "trainer.gradient_clip_val=1"
    assert settings.batch_size == 64


def test_without_hyperparameters_the_largest_logged_rate_is_known(tmp_path):
    points = {"loss": [(s, 1.0) for s in range(9)], "lr-Adam": [(0, 1e-4), (4, 2e-3), (8, 1e-5)]}
    write_events(tmp_path, points)
    assert open_log_run(tmp_path).evidence.settings.learning_rate == pytest.approx(2e-3)


@pytest.mark.parametrize("every", [1, 7], ids=["every-step", "every-7th"])
def test_steps_of_an_epoch_are_told_from_its_ends(tmp_path, every):
    run = open_log_run(write_csv(tmp_path, rows(every=every)))
    assert run.evidence.settings.steps_per_epoch == 20
    assert run.epochs == 5
    assert run.logged_every == every


PLANS = {
    "epochs-reached": ({"max_epochs": 5}, True, 100),
    "epochs-not-reached": ({"max_epochs": 50}, False, 1000),
    "steps-not-reached": ({"max_steps": 300}, False, 300),
    "no-limit": ({"max_steps": -1}, True, 99),
    "nothing-said": ({"seed": 1}, True, 99),
    "stale": ({"max_epochs": 2}, True, 99),  # more was done than was planned: these are not its settings
}


@pytest.mark.parametrize("case", PLANS)
def test_the_length_of_a_run_and_whether_it_is_over(tmp_path, case):
    hyperparameters, ended, planned = PLANS[case]
    evidence = open_log_run(write_csv(tmp_path, rows(), **hyperparameters)).evidence
    assert (evidence.ended, evidence.planned_steps) == (ended, planned)
    assert evidence.origin == "logs"


def test_a_summary_says_that_a_run_is_over(tmp_path):
    run = write_csv(tmp_path, rows(), max_epochs=50)
    (run / "summary.json").write_text(json.dumps({"status": "interrupted"}))
    assert open_log_run(run).evidence.ended


def test_a_test_behind_the_end_is_no_epoch(tmp_path):
    made = [*rows(), {"epoch": 5, "step": 100, "test_loss": 0.1}]
    assert open_log_run(write_csv(tmp_path, made, max_epochs=5)).epochs == 5


def test_everything_that_was_logged_is_there_under_its_name(tmp_path):
    evidence = open_log_run(write_csv(tmp_path, rows())).evidence
    assert evidence.curve("loss") is evidence.curve("logged/train_loss")
    assert set(evidence.curves) == {"loss", "val_loss", "logged/train_loss", "logged/val_loss"}


def test_constants_are_curves_of_one_point(tmp_path):
    evidence = open_log_run(write_csv(tmp_path, rows(), latent_dim=128, true_edges=13)).evidence
    assert (evidence.curve("latent_dim").last, evidence.curve("true_edges").last) == (128, 13)


def test_under_a_ramp_the_loss_is_not_judged(tmp_path):
    made = [{"step": s, "loss": 0.01 * s, "difficulty": min(1.0, s / 60)} for s in range(100)]
    run = open_log_run(write_csv(tmp_path, made))
    assert run.evidence.curve("loss").steps[0] == 60
    assert len(run.evidence.curve("logged/loss")) == 100
    assert any("the difficulty rises until step 60" in remark for remark in run.log.remarks)


@pytest.mark.parametrize("held", [1.0, 0.4], ids=["full", "constant"])
def test_a_difficulty_that_stands_hides_nothing(tmp_path, held):
    made = [{"step": s, "loss": 1.0, "difficulty": held} for s in range(100)]
    assert len(open_log_run(write_csv(tmp_path, made)).evidence.curve("loss")) == 100


def test_roles_leave_alone_what_has_a_curve():
    own, logged = Curve([0], [1.0]), Curve([0], [2.0])
    tags, added = name_roles({"kl": own, "logged/train_kl": logged, "logged/KL/weight": logged}, Settings())
    assert tags == {"kl": "train_kl", "kl_weight": "KL/weight"}
    assert added == {"kl_weight": logged}


def test_roles_of_a_run_that_goes_on_follow_new_names_and_measure_nothing_twice():
    curves, namer = {"loss": Curve([0], [1.0]), "logged/train_loss": Curve([0], [1.0])}, RoleNamer()
    namer.add_to(curves, Settings())
    assert set(curves) == {"loss", "logged/train_loss"}
    curves["logged/val_edges"] = Curve([0], [3.0])
    curves["logged/val_loss"] = Curve([0], [3.0])
    namer.add_to(curves, Settings())
    curves["logged/val_edges"].add(5, 4.0)
    assert curves["edges"].values.tolist() == [3.0, 4.0]
    assert "val_loss" not in curves


@pytest.mark.parametrize("value", ["text", True, None], ids=str)
def test_only_a_number_is_one(value):
    assert number_named(Settings(hyperparameters={"model.beta": value}), ["beta"]) is None


def test_settings_without_hyperparameters_know_nothing():
    assert number_named(Settings(), ["lr"]) is None


def test_a_loss_that_is_no_number_is_critical(tmp_path, capsys):
    made = [{"step": s, "train_loss": "nan" if s >= 80 else 1.0 + 0.01 * math.sin(s)} for s in range(200)]
    assert main([str(write_csv(tmp_path, made))]) == 2
    assert "CRITICAL loss-not-finite" in capsys.readouterr().out


@pytest.mark.slow
def test_logs_of_lightning_itself_are_read(tmp_path, capsys):
    """A trainer with both loggers, a rate monitor and an accumulation; both logs say the same."""
    import lightning.pytorch as pl
    import torch
    from lightning.pytorch.callbacks import LearningRateMonitor
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    class Regression(pl.LightningModule):
        def __init__(self, lr: float = 0.05, batch_size: int = 8) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch, batch_idx):
            loss = torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1]))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    data = torch.utils.data.TensorDataset(x, x @ torch.ones(4, 1))
    loader = torch.utils.data.DataLoader(data, batch_size=8)
    trainer = pl.Trainer(
        max_epochs=6,
        logger=[CSVLogger(tmp_path, "csv", "0"), TensorBoardLogger(tmp_path, "tb", "0")],
        callbacks=[LearningRateMonitor("step")],
        log_every_n_steps=2,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(Regression(), loader, loader)
    runs = [open_log_run(make_old(tmp_path / kind / "0")) for kind in ("csv", "tb")]
    expected = {"loss": "train_loss_step", "val_loss": "val_loss", "lr": "lr-SGD"}
    for run in runs:
        assert run.tags == expected
        assert (run.epochs, run.logged_every, run.evidence.settings.steps_per_epoch) == (6, 2, 8)
        assert run.evidence.settings.learning_rate == 0.05
        assert run.evidence.settings.batch_size == 8
    first, second = (run.evidence.curve("loss") for run in runs)
    assert first.steps.tolist() == second.steps.tolist()
    np.testing.assert_allclose(first.values, second.values, rtol=1e-6)
    assert main([str(tmp_path)]) == 0
    assert "2 runs: 0 critical, 0 warning, 2 healthy" in capsys.readouterr().out


def test_a_history_of_ours_is_read(tmp_path):
    lines = [
        {"epoch": e, "step": 10 * (e + 1), "seconds": 1.0, "lr": 1e-3, "train/loss": 1.0 / (e + 1)} for e in range(9)
    ]
    run = open_log_run(write_lines(tmp_path, lines))
    assert run.tags == {"loss": "train/loss", "lr": "lr"}
    assert (run.evidence.step, run.evidence.settings.steps_per_epoch) == (90, 10)
    assert "logged/seconds" not in run.evidence.curves


def test_more_epochs_than_any_number_holds_plan_nothing(tmp_path):
    write_lines(tmp_path, [{"epoch": i, "step": 10 * i, "train/loss": 1.0 / (i + 1)} for i in range(9)])
    (tmp_path / "config.yaml").write_text("trainer: {max_epochs: 1.7e308}\n")
    assert open_log_run(tmp_path).evidence.planned_steps is None
