from __future__ import annotations

import pytest

from stablelit.callbacks import EpochMeanCheckpoint
from tests.contract.modules import BATCHES, make_trainer, module_classes, save_at_class, train_loader

TinyVAE = module_classes("lightning.pytorch")["automatic"]


class Logs(TinyVAE):
    """Logs the number of the batch, reduced in every way that Lightning has for numbers."""

    def training_step(self, batch, batch_idx):
        for how in ("mean", "sum", "max", "min"):
            self.log(f"how/{how}", float(batch_idx), on_step=False, on_epoch=True, reduce_fx=how)
        return super().training_step(batch, batch_idx)


def epoch_values(directory, callbacks, step=BATCHES + 3):
    path = directory / "a.ckpt"
    saver = save_at_class("lightning.pytorch")(step, path)
    make_trainer(directory, [*callbacks, saver], enable_checkpointing=True, max_epochs=2).fit(Logs(), train_loader())
    trainer = make_trainer(directory, [type(c)() for c in callbacks], max_epochs=2)
    trainer.fit(Logs(), train_loader(), ckpt_path=str(path))
    return {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("how/")}


def test_the_interrupted_epoch_is_logged_whole(tmp_path):
    numbers = range(BATCHES)
    expected = {"how/mean": sum(numbers) / BATCHES, "how/sum": sum(numbers), "how/max": BATCHES - 1, "how/min": 0}
    assert epoch_values(tmp_path, [EpochMeanCheckpoint()]) == pytest.approx(expected)


def test_without_it_lightning_logs_the_second_part_alone(tmp_path):
    assert epoch_values(tmp_path, [])["how/sum"] == sum(range(3, BATCHES))


def test_a_checkpoint_from_the_end_of_an_epoch_adds_nothing_to_the_next(tmp_path):
    values = epoch_values(tmp_path, [EpochMeanCheckpoint()], step=BATCHES)
    assert values["how/sum"] == sum(range(BATCHES))
