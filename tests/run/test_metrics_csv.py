from __future__ import annotations

import csv

import pytest
import torch

from stablelit.callbacks import EpochMeanCheckpoint, RandomStateCheckpoint
from stablelit.run.metrics_csv import RunCSVLogger
from tests.contract.modules import BATCHES, make_module, make_trainer, save_at_class, train_loader, val_loader


def fit(folder, ckpt_path=None, max_epochs=2, callbacks=()):
    logger = RunCSVLogger(str(folder), name="", version="")
    exact = [RandomStateCheckpoint(), EpochMeanCheckpoint()]
    trainer = make_trainer(
        folder, [*exact, *callbacks], enable_checkpointing=True, max_epochs=max_epochs, logger=logger
    )
    trainer.fit(make_module(), train_loader(), val_loader(), ckpt_path=ckpt_path)


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in sorted(row.items()) if value} for row in csv.DictReader(file)]


def test_a_resumed_run_has_the_rows_of_the_one_that_was_not_interrupted(tmp_path):
    checkpoint = str(tmp_path / "a.ckpt")
    torch.manual_seed(0)
    fit(tmp_path, callbacks=[save_at_class("lightning.pytorch")(BATCHES + 2, checkpoint)])
    whole = rows(tmp_path)
    assert [row["step"] for row in whole if "train_kl" in row] == [str(step) for step in range(2 * BATCHES)]
    # what was killed had come further, and died as it wrote
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("9,9")
    torch.manual_seed(1)
    fit(tmp_path, checkpoint)
    assert rows(tmp_path) == whole


@pytest.mark.slow
def test_a_new_run_in_the_same_directory_begins_a_new_file(tmp_path):
    fit(tmp_path)
    whole = rows(tmp_path)
    fit(tmp_path)
    assert len(rows(tmp_path)) == len(whole)


def test_a_column_that_comes_later_leaves_the_rows_before(tmp_path):
    logger = RunCSVLogger(str(tmp_path), name="", version="")
    logger.log_metrics({"a": 1.0}, step=0)
    logger.save()
    again = RunCSVLogger(str(tmp_path), name="", version="")
    again.log_metrics({"b": 2.0}, step=1)
    again.save()
    assert rows(tmp_path) == [{"a": "1.0", "step": "0"}, {"b": "2.0", "step": "1"}]
