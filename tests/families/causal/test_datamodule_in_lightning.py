"""The datamodule in Lightning's own Trainer: epochs of whole batches, resumes, and the callbacks that look at data."""

from __future__ import annotations

from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch

from stablelit.callbacks import InputPipelineMonitor, ShuffleCallback
from stablelit.errors import ConfigurationError
from stablelit.families.causal.datamodule import SensorDataModule

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(does not have many workers|LeafSpec|overfit but enabled|predict returned None|across ranks is zero).*"
)
STEPS, EPOCHS = 5, 3


class Regression(pl.LightningModule):
    """Every column on all others; writes down what it is given."""

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.zeros(4, 4))
        self.batches, self.validated, self.predicted = [], [], []

    def loss(self, batch):
        rows = batch["values"][:, 0]
        off = self.weights * (1 - torch.eye(4))
        return (((rows - rows @ off) ** 2) * batch["scored"]).sum() / batch["scored"].sum()

    def training_step(self, batch, batch_idx):
        self.batches.append(batch)
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch)
        self.log("val/loss", self.loss(batch))

    def predict_step(self, batch, batch_idx):
        self.predicted.append(batch)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.05)


def data(**arguments) -> SensorDataModule:
    sem = {"nodes": 4, "rows": 120, "edges": 4, "corruption": {"mcar": 0.1}}
    return SensorDataModule(sem=sem, **{"lags": 1, "steps_per_epoch": STEPS, **arguments})


def trainer(directory, callbacks=(), **arguments) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=EPOCHS,
        callbacks=list(callbacks),
        default_root_dir=directory,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=any(isinstance(c, pl.callbacks.Checkpoint) for c in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )


class SaveEveryStep(pl.callbacks.Checkpoint):
    def __init__(self, directory):
        self.directory = directory

    def on_train_batch_end(self, trainer, *args):
        trainer.save_checkpoint(self.directory / f"{trainer.global_step}.ckpt")


def test_an_epoch_is_so_many_steps_on_one_object_that_nobody_copies(tmp_path):
    module = Regression()
    trainer(tmp_path).fit(module, data())
    assert len(module.batches) == STEPS * EPOCHS
    assert all(batch is module.batches[0] for batch in module.batches)
    assert all(batch is module.validated[0] for batch in module.validated)
    assert len(module.validated) >= EPOCHS


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [None, 16])
@pytest.mark.parametrize("with_callback", [False, True])
def test_a_run_resumed_at_any_step_ends_where_the_uninterrupted_one_does(tmp_path, batch_size, with_callback):
    def callbacks():
        return [ShuffleCallback(action="raise")] if with_callback else []

    whole = Regression()
    trainer(tmp_path, [SaveEveryStep(tmp_path), *callbacks()]).fit(whole, data(batch_size=batch_size))
    for step in (1, STEPS - 1, STEPS, STEPS + 2):
        rest = Regression()
        trainer(tmp_path, callbacks()).fit(rest, data(batch_size=batch_size), ckpt_path=tmp_path / f"{step}.ckpt")
        assert len(rest.batches) == len(whole.batches) - step
        for one, other in zip(whole.batches[step:], rest.batches, strict=True):
            assert torch.equal(one["id"], other["id"])
        assert torch.equal(rest.weights, whole.weights)


@pytest.mark.parametrize("batch_size", [None, 16])
def test_callbacks_that_look_at_the_data_find_nothing_wrong(tmp_path, batch_size):
    # a verdict on times would be one on this machine: the monitor only listens and counts
    monitor = InputPipelineMonitor(warmup_steps=2, min_steps=1000)
    made = trainer(tmp_path, [ShuffleCallback(action="raise"), monitor])
    made.fit(Regression(), data(batch_size=batch_size, steps_per_epoch=20))
    assert made.callback_metrics["perf/samples_per_s"] > 0
    assert made.callback_metrics["shuffle/epoch"] == EPOCHS - 1


def test_overfitting_and_prediction_and_a_quick_try_work(tmp_path):
    module = Regression()
    trainer(tmp_path, overfit_batches=2).fit(module, data())
    assert len(module.batches) == 2 * EPOCHS
    trainer(tmp_path, fast_dev_run=True).fit(Regression(), data())
    trainer(tmp_path).predict(module, data(), return_predictions=False)
    assert module.predicted[0]["id"].tolist() == list(range(1, 120))


def test_without_a_validation_split_there_is_no_validation(tmp_path):
    module = Regression()
    trainer(tmp_path).fit(module, data(train=1.0, val=0.0, test=0.0))
    assert not module.validated
    assert len(module.batches[0]["id"]) == 119


def test_ranks_share_the_rows_of_the_whole_batch_and_take_every_step():
    whole = next(iter(data().train_dataloader()))["id"].tolist()
    seen = []
    for rank in (0, 1):
        made = data()
        progress = SimpleNamespace(current=SimpleNamespace(processed=0))
        fit_loop = SimpleNamespace(epoch_progress=progress)
        made.trainer = SimpleNamespace(global_rank=rank, world_size=2, fit_loop=fit_loop)
        loader = made.train_dataloader()
        assert len(loader) == STEPS
        seen.append(next(iter(loader))["id"].tolist())
    assert sorted(seen[0] + seen[1]) == whole
    assert abs(len(seen[0]) - len(seen[1])) <= 1
    made = data()
    made.trainer = SimpleNamespace(global_rank=0, world_size=1000, fit_loop=fit_loop)
    with pytest.raises(ConfigurationError, match="training rows for 1000 ranks"):
        made.train_dataloader()
