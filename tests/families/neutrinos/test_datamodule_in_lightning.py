"""The data module under a Trainer: every event once an epoch, and a resumed run goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from stablelit.callbacks import InputPipelineMonitor, ShuffleCallback
from stablelit.families.neutrinos.datamodule import NeutrinoDataModule
from stablelit.families.neutrinos.preparation import prepare

from .kaggle_files import KaggleFiles


class Recorder(LightningModule):
    """Learns nothing to speak of, and writes down what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(9, 3)
        self.seen: dict[str, list[list[int]]] = {"train": [], "val": [], "test": []}

    def _loss(self, batch, split):
        self.seen[split].append(batch["id"].tolist())
        return (self.layer(batch["events"]) - batch["direction"]).square().mean()

    def training_step(self, batch, index):
        return self._loss(batch, "train")

    def validation_step(self, batch, index):
        self._loss(batch, "val")

    def test_step(self, batch, index):
        self._loss(batch, "test")

    def predict_step(self, batch, index):
        return batch["event_id"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def trainer(**arguments):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Trainer(**{**quiet, "num_sanity_val_steps": 0, "enable_checkpointing": False, **arguments})


@pytest.fixture(params=["memory", "files", "memmap"])
def data(request, tmp_path):
    folder = KaggleFiles(tmp_path / "data", sizes=(20, 20, 20, 10, 10)).write()
    if request.param == "memmap":
        prepare(str(folder), str(tmp_path / "packed"))
        folder = tmp_path / "packed"
    return lambda **more: NeutrinoDataModule(str(folder), batch_size=12, cache=request.param, **more)


def flat(batches):
    return [i for batch in batches for i in batch]


def test_every_event_is_seen_once_an_epoch_under_the_suites_callbacks(data):
    module, made = Recorder(), data()
    fit = trainer(max_epochs=2, callbacks=[ShuffleCallback(), InputPipelineMonitor(warmup_steps=0)])
    fit.fit(module, made)
    fit.test(module, made, verbose=False)
    epochs = module.seen["train"][:5], module.seen["train"][5:]
    for epoch in epochs:
        assert sorted(flat(epoch)) == made.split_indices["train"]
    assert epochs[0] != epochs[1]
    assert sorted(flat(module.seen["val"])) == sorted(2 * made.split_indices["val"])
    assert sorted(flat(module.seen["test"])) == made.split_indices["test"]
    predicted = torch.cat(trainer().predict(module, made)).tolist()
    assert predicted == made._events.source.table.event_id[made.split_indices["test"]].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_resumed_inside_an_epoch_sees_what_is_left_of_it(data, tmp_path, workers):
    whole = Recorder()
    keep = ModelCheckpoint(tmp_path / "kept", save_top_k=-1, every_n_train_steps=1)
    trainer(max_epochs=2, callbacks=[keep], enable_checkpointing=True).fit(whole, data(num_workers=workers))
    (middle,) = Path(tmp_path / "kept").glob("*step=3.ckpt")
    resumed = Recorder()
    trainer(max_epochs=2).fit(resumed, data(num_workers=workers), ckpt_path=str(middle), weights_only=True)
    assert resumed.seen["train"] == whole.seen["train"][3:]
