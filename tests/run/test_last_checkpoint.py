from __future__ import annotations

import pytest
import torch

from stablelit.run.last_checkpoint import LastCheckpoint


@pytest.mark.slow
def test_a_run_without_an_objective_has_its_two_checkpoints_and_goes_on(train):
    """Two ModelCheckpoints without a metric have one key for their states: Lightning refuses them."""
    done = train("objective.metric=null", "trainer.max_epochs=2", "test=false", "report=false")
    again = train(f"resume={done.run_dir}", "trainer.max_epochs=3")
    last = torch.load(again.run_dir / "checkpoints/last.ckpt", weights_only=True)
    assert last["epoch"] == 2
    assert (again.run_dir / "checkpoints/best.ckpt").is_file()


def test_it_keeps_no_state():
    callback = LastCheckpoint("somewhere")
    callback.best_model_path = "somewhere/last.ckpt"
    assert callback.state_dict() == {}
    assert callback.state_key != LastCheckpoint("somewhere", filename="other").state_key
