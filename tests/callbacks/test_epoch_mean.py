from __future__ import annotations

import shutil

import lightning.pytorch as pl
import pytest
import torch

from stablelit.callbacks import AccumulationCheckpoint, EpochMeanCheckpoint, HistoryWriter, RandomStateCheckpoint
from stablelit.callbacks.history_writer import read_history
from tests.contract.modules import BATCHES, make_trainer, module_classes, save_at_class, train_loader, val_loader

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


class Rarely(TinyVAE):
    """Logs at two batches of six, and at the second alone; by the step too."""

    def training_step(self, batch, batch_idx):
        number = float(10 * self.current_epoch + batch_idx)
        if batch_idx in (1, 4):
            self.log("how/sum", number, on_step=False, on_epoch=True, reduce_fx="sum")
        if batch_idx == 1:
            self.log("how/once", number, on_step=True, on_epoch=True, reduce_fx="max")
            self.log("how/step", number, on_step=True, on_epoch=False)
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("again", [None, pytest.param(4, marks=pytest.mark.slow)])
def test_what_is_logged_now_and_then_is_logged_as_by_the_run_that_nobody_interrupted(again, tmp_path):
    def fit(step=None, ckpt_path=None):
        saver = [save_at_class("lightning.pytorch")(BATCHES + step, tmp_path / f"{step}.ckpt")] if step else []
        callbacks = [EpochMeanCheckpoint(), RandomStateCheckpoint(), *saver]
        trainer = make_trainer(tmp_path, callbacks, enable_checkpointing=bool(saver), max_epochs=2, log_every_n_steps=1)
        trainer.fit(Rarely(), train_loader(), ckpt_path=ckpt_path)
        return trainer

    torch.manual_seed(0)
    fit(2)
    if again:  # interrupted once more, before what is waiting was logged again
        fit(again, str(tmp_path / "2.ckpt"))
    trainer = fit(None, str(tmp_path / f"{again or 2}.ckpt"))
    values = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("how/")}
    once = dict.fromkeys(("how/once", "how/once_step", "how/once_epoch", "how/step"), 11.0)
    assert values == {"how/sum": 11.0 + 14.0, **once}
    # Lightning hands a step's value to the loggers until it is another
    rest = range(BATCHES + (again or 2), 2 * BATCHES)
    shown = {step: line["how/step"] for step, line in trainer.logger.lines if "how/step" in line}
    assert shown == dict.fromkeys(rest, 11.0)


def test_a_checkpoint_from_the_end_of_an_epoch_adds_nothing_to_the_next(tmp_path):
    values = epoch_values(tmp_path, [EpochMeanCheckpoint()], step=BATCHES)
    assert values["how/sum"] == sum(range(BATCHES))


def save_everywhere(folder, seen=()):
    """Saves in every hook in which Lightning's ModelCheckpoint does: b<step>, v<step> and e<step>.ckpt.

    `marks` has how much had been seen by then.
    """

    class SaveEverywhere(pl.callbacks.Checkpoint):
        def __init__(self):
            self.marks = {}

        def save(self, trainer, hook):
            place = f"{hook}{trainer.global_step}"
            trainer.save_checkpoint(folder / f"{place}.ckpt")
            self.marks[place] = len(seen)

        def on_train_batch_end(self, trainer, *args):
            self.save(trainer, "b")

        def on_validation_end(self, trainer, pl_module):
            self.save(trainer, "v")

        def on_train_epoch_end(self, trainer, pl_module):
            self.save(trainer, "e")

    return SaveEverywhere()


class Plateau(TinyVAE):
    """Its learning rate is halved at every epoch's end."""

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), 1e-2)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, threshold=10.0)
        watched = {"scheduler": schedule, "monitor": "train/loss", "interval": "epoch"}
        return {"optimizer": optimizer, "lr_scheduler": watched}


class PlateauBySteps(Plateau):
    """Its learning rate is halved at every second step."""

    def configure_optimizers(self):
        config = super().configure_optimizers()
        config["lr_scheduler"] |= {"interval": "step", "frequency": 2}
        return config


class Witness(pl.Callback):
    """What happens, in which epoch and after which step."""

    def __init__(self):
        self.seen = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.seen.append(("begins", trainer.current_epoch, trainer.global_step))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append((batch_idx, trainer.current_epoch, batch[0].sum().item()))

    def on_validation_end(self, trainer, pl_module):
        self.seen.append(("validated", trainer.current_epoch, trainer.global_step))

    def on_train_epoch_end(self, trainer, pl_module):
        self.seen.append(("ends", trainer.current_epoch, trainer.global_step))


def run(folder, module=TinyVAE, ckpt_path=None, **kwargs):
    torch.manual_seed(0 if ckpt_path is None else 99)
    witness = Witness()
    savers = [save_everywhere(folder, witness.seen)] if ckpt_path is None else []
    exact = [RandomStateCheckpoint(), EpochMeanCheckpoint(), AccumulationCheckpoint()]
    callbacks = [HistoryWriter(str(folder)), *exact, witness, *savers]
    options = {"enable_checkpointing": bool(savers), "num_sanity_val_steps": 0, **kwargs}
    trainer = make_trainer(folder, callbacks, **options)
    trainer.fit(module(), train_loader(), val_loader(), ckpt_path=ckpt_path)
    history = [{k: v for k, v in line.items() if k != "seconds"} for line in read_history(folder)]
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    marks = savers[0].marks if savers else {}
    return witness.seen, marks, [history, rates, {k: v.tolist() for k, v in trainer.model.state_dict().items()}]


E2, LAST = 2 * BATCHES, f"b{BATCHES}"
PLACES = {
    "plain": ({"max_epochs": 2}, TinyVAE, ["b2", LAST, f"v{BATCHES}", f"e{BATCHES}", f"b{E2}"]),
    "validated-twice-an-epoch": ({"max_epochs": 2, "val_check_interval": 3}, TinyVAE, ["b3", "v3", LAST]),
    # inside a step of two batches, before a validation, behind it, and where there is none
    "accumulating": (
        {"max_epochs": 2, "val_check_interval": 3, "accumulate_grad_batches": 2},
        TinyVAE,
        ["b1", "v1", "b4"],
    ),
    "validated-in-a-step": ({"max_epochs": 2, "val_check_interval": 2, "accumulate_grad_batches": 3}, TinyVAE, ["v1"]),
    "validated-in-every-second": ({"max_epochs": 4, "check_val_every_n_epoch": 2}, TinyVAE, [LAST, f"b{E2}", f"v{E2}"]),
    # Lightning goes through the end of an epoch once more, and gives the next one the order of the one behind it
    "max_steps": ({"max_epochs": -1, "max_steps": E2 + 2}, TinyVAE, [LAST, f"e{BATCHES}", f"e{E2}"]),
    "plateau": ({"max_epochs": 3}, Plateau, ["b2", LAST, f"v{BATCHES}", f"e{BATCHES}"]),
    "plateau-by-steps": ({"max_epochs": 2}, PlateauBySteps, ["b1", "b2", LAST, f"v{BATCHES}", f"e{BATCHES}"]),
    "plateau-by-steps-validated": ({"max_epochs": 2, "val_check_interval": 2}, PlateauBySteps, ["b2", "v2", "b4"]),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("options", "module", "places"), PLACES.values(), ids=PLACES)
def test_a_run_goes_on_from_wherever_a_checkpoint_was_written(options, module, places, tmp_path):
    whole, marks, left = run(tmp_path / "whole", module, **options)
    for place in places:
        folder = tmp_path / place
        folder.mkdir()
        shutil.copy(tmp_path / "whole/history.jsonl", folder)
        seen, _, again = run(folder, module, str(tmp_path / f"whole/{place}.ckpt"), **options)
        assert seen == whole[marks[place] :], place
        assert again == left, place


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_metric_that_is_logged_now_and_then_stands_after_a_resume(tmp_path):
    class Rarely(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 0:
                pl_module.log("rarely", 5.0)

    def standing(ckpt_path=None):
        trainer = make_trainer(
            tmp_path, [EpochMeanCheckpoint(), Rarely(), save_everywhere(tmp_path)], enable_checkpointing=True
        )
        trainer.fit(TinyVAE(), train_loader(), ckpt_path=ckpt_path)
        return float(trainer.callback_metrics.get("rarely", -1))

    assert standing() == 5.0
    assert standing(str(tmp_path / f"e{E2}.ckpt")) == 5.0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_tensorboard_shows_each_point_once_though_the_run_went_on_from_before_it(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def fit(ckpt_path=None, max_epochs=2):
        callbacks = [RandomStateCheckpoint(), EpochMeanCheckpoint(), save_everywhere(tmp_path)]
        logger = pl.loggers.TensorBoardLogger(tmp_path, name="", version="")
        make_trainer(
            tmp_path, callbacks, enable_checkpointing=True, max_epochs=max_epochs, logger=logger, num_sanity_val_steps=0
        ).fit(TinyVAE(), train_loader(), val_loader(), ckpt_path=ckpt_path)
        logger.experiment.close()

    def points():
        shown = EventAccumulator(str(tmp_path)).Reload()
        return {tag: {(e.step, e.value) for e in shown.Scalars(tag)} for tag in shown.Tags()["scalars"]}, [
            e.step for e in shown.Scalars("train/loss_step")
        ]

    torch.manual_seed(0)
    fit()
    whole, steps = points()
    assert steps == list(range(E2))
    torch.manual_seed(1)
    fit(str(tmp_path / f"e{BATCHES}.ckpt"))
    again, steps = points()
    assert again == whole
    assert steps == list(range(E2)), "those of the second epoch are in both files"
