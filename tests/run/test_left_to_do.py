"""A run that a number of steps ended inside an epoch, and what is asked of its resume."""

from __future__ import annotations

import json

import pytest
import torch

# of the tiny experiment: 32 samples, batches of 16
STEPS = 2


@pytest.mark.slow
def test_a_run_that_max_steps_ended_goes_on_inside_its_epoch(train):
    settings = ("lr_schedule=none", "test=false", "report=false", "data.batch_size=8")
    whole = train(*settings, "trainer.max_epochs=3").run_dir
    cut = train(*settings, "trainer.max_epochs=3", "trainer.max_steps=6").run_dir
    assert cut != whole
    refused = train(f"resume={cut}")
    assert refused.code == 2
    assert "has 6 optimizer steps behind it, and trainer.max_steps=6: nothing is left to do" in refused.err
    again = train(f"resume={cut}", "trainer.max_steps=-1")
    assert again.code == 0, again.err
    weights = [torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in (whole, cut)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    lines = [[json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()] for run in (whole, cut)]
    assert [
        {k: v for k, v in line.items() if k.startswith(("train/", "val/", "epoch", "step"))} for line in lines[0]
    ] == [{k: v for k, v in line.items() if k.startswith(("train/", "val/", "epoch", "step"))} for line in lines[1]]
