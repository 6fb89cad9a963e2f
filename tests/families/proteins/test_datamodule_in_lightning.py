"""The data module under a Trainer: every sequence once an epoch, resumed exactly, and paced by a curriculum."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from stablelit.callbacks import CurriculumCallback
from stablelit.data import batch_indices
from stablelit.errors import StablelitError
from stablelit.families.proteins import ProteinDataModule


class Recorder(LightningModule):
    """Learns nothing to speak of, and writes down what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Embedding(22, 1)
        self.seen: dict[str, list[dict[str, torch.Tensor]]] = {"train": [], "val": [], "test": [], "predict": []}

    def _loss(self, batch, split):
        self.seen[split].append({name: value.clone() for name, value in batch.items()})
        return self.layer(batch["tokens"]).square().mean()

    def training_step(self, batch, index):
        return self._loss(batch, "train")

    def validation_step(self, batch, index):
        self._loss(batch, "val")

    def test_step(self, batch, index):
        self._loss(batch, "test")

    def predict_step(self, batch, index):
        self._loss(batch, "predict")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def trainer(**arguments):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Trainer(**{**quiet, "num_sanity_val_steps": 0, "enable_checkpointing": False, **arguments})


def data(**settings):
    """Windows of sequences of different lengths, in batches of a budget."""
    defaults = {"corpus": "iid", "n_sequences": 300, "length": {"median": 20, "longest": 60}, "max_length": 16}
    return ProteinDataModule(**{**defaults, "max_tokens": 400, **settings})


def ids(batches):
    return torch.cat([batch["id"] for batch in batches]).tolist()


def same(one, other):
    return len(one) == len(other) and all(torch.equal(a[k], b[k]) for a, b in zip(one, other, strict=True) for k in a)


def test_every_sequence_is_seen_once_an_epoch_through_another_window_each_time():
    module, made = Recorder(), data()
    fit = trainer(max_epochs=2)
    fit.fit(module, made)
    fit.test(module, made, verbose=False)
    n = len(module.seen["train"]) // 2
    epochs = module.seen["train"][:n], module.seen["train"][n:]
    windows = []
    for epoch in epochs:
        assert sorted(ids(epoch)) == made.split_indices["train"]
        windows.append({int(i): t.tolist() for b in epoch for i, t in zip(b["id"], b["tokens"], strict=True)})
    long = [row for row, window in windows[0].items() if len(window) == 16 and 21 not in window]
    assert sum(windows[0][row] != windows[1][row] for row in long) > 0.7 * len(long)
    fit.predict(module, made)
    assert ids(module.seen["predict"]) == sorted(ids(module.seen["predict"]), key=lambda i: (i % 300, i))
    assert sorted(ids(module.seen["predict"])) == sorted(ids(module.seen["test"]))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_resumed_inside_an_epoch_sees_what_is_left_of_it_through_the_same_windows(tmp_path, workers):
    whole = Recorder()
    keep = ModelCheckpoint(tmp_path / "kept", save_top_k=-1, every_n_train_steps=1)
    trainer(max_epochs=3, callbacks=[keep], enable_checkpointing=True).fit(whole, data(num_workers=workers))
    per_epoch = len(whole.seen["train"]) // 3
    (middle,) = Path(tmp_path / "kept").glob(f"*step={per_epoch + 3}.ckpt")
    resumed = Recorder()
    trainer(max_epochs=3).fit(resumed, data(num_workers=workers), ckpt_path=str(middle), weights_only=True)
    assert same(resumed.seen["train"], whole.seen["train"][per_epoch + 3 :])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_curriculum_paces_the_length_of_windows_and_leaves_evaluation_alone(workers):
    module = Recorder()
    pace = CurriculumCallback("linear", start=0.25, duration="1.0dur", targets="datamodule")
    made = data(length=16, length_curriculum=True, num_workers=workers)
    trainer(max_epochs=4, callbacks=[pace], val_check_interval=2).fit(module, made)
    longest = [int(batch["length"].max()) for batch in module.seen["train"]]
    assert longest == sorted(longest)
    assert longest[0] == 4
    assert longest[-1] >= 14
    assert {int(batch["length"].max()) for batch in module.seen["val"]} == {16}


def test_a_curriculum_that_no_data_listen_to_is_refused():
    with pytest.raises(StablelitError, match="set_difficulty"):
        trainer(max_epochs=1, callbacks=[CurriculumCallback(duration="1.0dur", targets="datamodule")]).fit(
            Recorder(), data()
        )


@pytest.mark.parametrize("left_out", [None, [0, 7, 8]])
def test_the_suite_can_name_the_samples_of_a_batch_without_reading_it(left_out):
    made = data(leave_out=left_out)
    loader = made.train_dataloader()
    loader.sampler.set_epoch(2)
    rows = made.split_indices["train"]
    for number, batch in enumerate(loader):
        assert [rows[place] for place in batch_indices(loader, number)] == batch["id"].tolist()
