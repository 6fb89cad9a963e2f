from __future__ import annotations

import json
import math

import lightning.pytorch as pl
import pytest
import torch

from stablelit.callbacks import HistoryWriter, read_history
from stablelit.errors import DataError
from tests.contract.modules import BATCHES, make_module, make_trainer, module_classes, train_loader, val_loader

TinyVAE = module_classes("lightning.pytorch")["automatic"]


class Late(TinyVAE):
    def on_train_epoch_end(self):
        self.log("late", float(self.current_epoch))


def fit(directory, *callbacks, module=None, ckpt_path=None, **kwargs):
    trainer = make_trainer(directory, [HistoryWriter(), *callbacks], **kwargs)
    trainer.fit(Late() if module is None else module, train_loader(), val_loader(), ckpt_path=ckpt_path)
    return trainer


def without_seconds(directory):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_history(directory)]


def test_a_line_an_epoch_has_everything_that_was_logged_even_at_the_modules_own_epoch_end(tmp_path):
    trainer = fit(tmp_path)
    lines = read_history(tmp_path)
    assert [(line["epoch"], line["step"], line["late"]) for line in lines] == [
        (e, (e + 1) * BATCHES, e) for e in range(3)
    ]
    assert lines[-1]["val/loss"] == pytest.approx(float(trainer.callback_metrics["val/loss"]))
    assert lines[-1]["lr"] == 1e-2
    assert lines[-1]["seconds"] >= 0


def test_a_line_is_there_as_soon_as_its_epoch_is_over(tmp_path):
    counts = []

    class Count(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            path = tmp_path / "history.jsonl"
            counts.append(len(path.read_text().splitlines()) if path.exists() else 0)

    fit(tmp_path, Count())
    assert counts == [0, 1, 2]


@pytest.mark.slow
def test_it_is_cut_back_to_the_checkpoint_and_goes_on_as_if_nothing_had_happened(tmp_path):
    torch.manual_seed(0)
    checkpoint = pl.callbacks.ModelCheckpoint(dirpath=tmp_path, filename="e{epoch}", save_top_k=-1)
    fit(tmp_path, checkpoint, enable_checkpointing=True, max_epochs=4)
    whole = without_seconds(tmp_path)
    assert len(whole) == 4
    torch.manual_seed(0)
    fit(tmp_path, ckpt_path=str(tmp_path / "eepoch=1.ckpt"), max_epochs=4)
    again = without_seconds(tmp_path)
    assert [line["epoch"] for line in again] == [0, 1, 2, 3]
    assert again[:2] == whole[:2]


def test_a_new_run_in_the_same_directory_begins_a_new_history(tmp_path):
    fit(tmp_path, max_epochs=3)
    fit(tmp_path, max_epochs=1)
    assert [line["epoch"] for line in read_history(tmp_path)] == [0]


def test_half_a_line_left_by_a_kill_is_dropped(tmp_path):
    checkpoint = pl.callbacks.ModelCheckpoint(dirpath=tmp_path, filename="a", save_top_k=1)
    fit(tmp_path, checkpoint, enable_checkpointing=True, max_epochs=1)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"epoch": 1, "st')
    fit(tmp_path, ckpt_path=str(tmp_path / "a.ckpt"), max_epochs=2)
    assert [line["epoch"] for line in read_history(tmp_path)] == [0, 1]


def test_non_finite_values_are_valid_json_and_come_back_as_floats(tmp_path):
    class Broken(TinyVAE):
        def validation_step(self, batch, batch_idx):
            self.log("val/nan", math.nan)
            self.log("val/inf", -math.inf)

    fit(tmp_path, module=Broken(), max_epochs=1)
    text = (tmp_path / "history.jsonl").read_text()

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    json.loads(text, parse_constant=refuse)
    (line,) = read_history(tmp_path)
    assert math.isnan(line["val/nan"])
    assert line["val/inf"] == -math.inf


def test_what_is_no_history_is_named(tmp_path):
    with pytest.raises(DataError, match=r"history\.jsonl: there is no history"):
        read_history(tmp_path)
    (tmp_path / "history.jsonl").write_text('{"epoch": 0}\n{"epo\n')
    with pytest.raises(DataError, match=r"history\.jsonl:2"):
        read_history(tmp_path)


def test_an_exception_keeps_the_epochs_that_were_finished(tmp_path):
    class Break(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                raise RuntimeError("broken on purpose")

    with pytest.raises(RuntimeError, match="broken"):
        fit(tmp_path, Break(), module=make_module())
    assert [line["epoch"] for line in read_history(tmp_path)] == [0, 1]
