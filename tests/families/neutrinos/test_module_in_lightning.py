"""The module under a Trainer: what it logs, resumes, shows and writes."""

from __future__ import annotations

import csv
import math
import warnings
from functools import partial

import lightning.pytorch as pl
import pytest
import torch

from stablelit.callbacks import RandomStateCheckpoint, ScalarSchedule
from stablelit.families.neutrinos import NeutrinoDataModule, NeutrinoDirection
from stablelit.families.neutrinos.angles import angle_between, unit_vector
from stablelit.families.neutrinos.event_batch import EVENT_LINE_FIT
from stablelit.families.neutrinos.losses import von_mises_fisher_nll
from stablelit.findings import FindingWarning

from .kaggle_files import KaggleFiles

TINY = {"name": "hierarchical", "d_model": 16, "sensor_layers": 1, "event_layers": 2, "heads": 2, "feedforward": 2.0}
PICTURES = {"angular_error_by_pulse_count", "cumulative_angular_error", "kappa_calibration", "zenith"}

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:", "ignore:.*val_dataloader", "ignore:Checkpoint directory")


def trainer(**arguments):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return pl.Trainer(
        **{**quiet, "max_epochs": 1, "num_sanity_val_steps": 0, "enable_checkpointing": False, **arguments}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return KaggleFiles(tmp_path_factory.mktemp("files"), sizes=(20, 20, 20, 10, 10)).write()


@pytest.fixture
def data(folder):
    return lambda **more: NeutrinoDataModule(str(folder), **{"batch_size": 12, **more})


@pytest.mark.slow
def test_a_schedule_moves_the_weight_of_the_angle_and_validation_is_at_the_constructors(data):
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen.append(float(pl_module.angle_weight))

    module = NeutrinoDirection(network=TINY)
    schedule = ScalarSchedule("angle_weight", start=0.0, end=3.0, duration="3st", allow_unfinished=True)
    fit = trainer(callbacks=[schedule, Watch()])
    fit.fit(module, data())
    assert seen[0] == 0.0
    assert seen == sorted(seen)
    assert seen[-1] == 3.0
    logged = fit.callback_metrics
    torch.testing.assert_close(logged["val/loss"], logged["val/vmf_nll"])
    assert float(logged["train/loss"]) > float(logged["train/vmf_nll"])


def test_predictions_are_written_as_a_submission(data, tmp_path):
    module, events = NeutrinoDirection(network=TINY), data()
    predictions = trainer().predict(module, events)
    told = module.write_predictions(predictions, tmp_path / "submission.csv")
    with (tmp_path / "submission.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["event_id", "azimuth", "zenith"]
    assert told["events"] == len(rows) == 10
    for name, kind in (("event_id", int), ("azimuth", float), ("zenith", float)):
        written = [kind(row[name]) for row in rows]
        assert written == torch.cat([p[name] for p in predictions]).tolist()
    # half of the probability of a von Mises-Fisher distribution lies within that angle
    kappa, angle = float(torch.cat([p["kappa"] for p in predictions]).median()), told["typical_error_rad"]
    within = (1 - math.exp(-kappa * (1 - math.cos(angle)))) / (1 - math.exp(-2 * kappa))
    assert within == pytest.approx(0.5, rel=1e-5)


def test_the_scores_of_a_validation_are_those_computed_by_hand(data):
    module, events = NeutrinoDirection(network=TINY), data()
    logged = trainer().validate(module, events, verbose=False)[0]
    module.eval()
    with torch.no_grad():
        parts = [(module(b), b) for b in events.val_dataloader()]
    f, truth = (torch.cat(p).double() for p in ([f for f, _ in parts], [b["direction"] for _, b in parts]))
    error = torch.acos((unit_vector(f) * truth).sum(1).clamp(-1, 1))
    assert logged["val/angular_error_mean_rad"] == pytest.approx(float(error.mean()), rel=1e-5)
    assert logged["val/loss"] == logged["val/vmf_nll"]
    assert logged["val/loss"] == pytest.approx(float(von_mises_fisher_nll(f, truth).mean()), rel=1e-5)
    fit = torch.cat([b["events"][:, EVENT_LINE_FIT] for _, b in parts])
    assert logged["val/angular_error_mean_rad_baseline"] == pytest.approx(
        float(angle_between(fit, truth.float()).mean()), rel=1e-5
    )
    constant = events.constant_direction.double()
    assert logged["val/constant_error_mean_rad"] == pytest.approx(float(torch.acos(truth @ constant).mean()), rel=1e-4)


@pytest.mark.slow
def test_a_test_logs_what_a_validation_does_and_pictures_are_those_of_the_last(data):
    module, events = NeutrinoDirection(network=TINY), data()
    assert module.figures() == {}
    validated = trainer().validate(module, events, verbose=False)[0]
    shown = module.figures()
    assert set(shown) == PICTURES
    assert all(hasattr(figure, "savefig") for figure in shown.values())
    tested = trainer().test(module, events, verbose=False)[0]
    assert {name.partition("/")[2] for name in tested} == {name.partition("/")[2] for name in validated}


def test_the_sanity_check_of_a_trainer_scores_nothing(data):
    module = NeutrinoDirection(network=TINY)
    fit = trainer(num_sanity_val_steps=1, check_val_every_n_epoch=2)
    fit.fit(module, data())
    assert not any(name.startswith("val/angular") for name in fit.callback_metrics)
    assert module.figures() == {}


def test_a_model_that_breaks_is_reported_once(data):
    module, events = NeutrinoDirection(network=TINY), data()
    with torch.no_grad():
        module.head.layers[-1].weight.fill_(torch.nan)
    with pytest.warns(FindingWarning, match="directions-not-finite"):
        trainer().validate(module, events, verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FindingWarning)
        trainer().validate(module, events, verbose=False)


@pytest.mark.slow
def test_a_checkpoint_is_plain_and_predicts_the_same(data, tmp_path):
    module = NeutrinoDirection(network=TINY, energy_weight=1.0, augment=("rotate", "reflect"))
    fit = trainer(limit_val_batches=0, max_steps=0)
    fit.fit(module, data())
    fit.save_checkpoint(tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["hyper_parameters"]["augment"] == ["rotate", "reflect"]
    loaded = NeutrinoDirection.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert dict(loaded.hparams["network"]) == TINY
    events = data()
    events.setup()
    batch = next(iter(events.predict_dataloader()))
    assert torch.equal(loaded.eval()(batch), module.eval()(batch))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
def test_a_run_resumed_inside_an_epoch_ends_where_an_unbroken_one_does(data, tmp_path):
    def run(steps, ckpt_path=None):
        pl.seed_everything(1, verbose=False)
        module = NeutrinoDirection(network=TINY, augment=("rotate", "reflect"), learning_rate=1e-2)
        keep = pl.callbacks.ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=3, save_top_k=-1)
        callbacks = [RandomStateCheckpoint(), *([] if ckpt_path else [keep])]
        arguments = {"max_epochs": -1, "max_steps": steps, "limit_val_batches": 0, "enable_checkpointing": True}
        # five batches an epoch: the third step is in the middle of the first
        trainer(**arguments, callbacks=callbacks).fit(module, data(), ckpt_path=ckpt_path, weights_only=True)
        return torch.cat([p.detach().flatten() for p in module.parameters()])

    whole = run(5)
    resumed = run(5, tmp_path / "step=3.ckpt")
    assert torch.equal(whole, resumed)
    assert not torch.equal(whole, run(3))


def test_optimizer_and_schedule_are_taken_from_the_constructor(data):
    module = NeutrinoDirection(
        network=TINY,
        optimizer=partial(torch.optim.SGD, momentum=0.1),
        lr_schedule=lambda optimizer, total_steps: torch.optim.lr_scheduler.StepLR(optimizer, total_steps),
    )
    assert "optimizer" not in module.hparams
    fit = trainer(max_steps=1, limit_val_batches=0)
    fit.fit(module, data())
    assert isinstance(fit.optimizers[0], torch.optim.SGD)
    assert fit.lr_scheduler_configs[0].scheduler.step_size == 1
