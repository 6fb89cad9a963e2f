from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from stablelit.callbacks import (
    EMACallback,
    EpochMeanCheckpoint,
    InterruptCheckpoint,
    NonFiniteGuard,
    RandomStateCheckpoint,
    StepCheckpoint,
)
from stablelit.errors import ConfigurationError
from stablelit.findings import FindingWarning
from tests.contract.modules import BATCHES, make_module, make_trainer, train_loader, val_loader


def fit(directory, callbacks, ckpt_path=None, seed=0, **kwargs):
    module = make_module(seed=seed)
    trainer = make_trainer(directory, callbacks, **kwargs)
    trainer.fit(module, train_loader(), val_loader(), ckpt_path=ckpt_path)
    return trainer, module


def written(directory):
    return {path.name for path in directory.rglob("*.ckpt")}


def exact():
    return [RandomStateCheckpoint(), EpochMeanCheckpoint()]


def test_a_checkpoint_is_written_at_each_named_step_with_the_weights_of_that_step(tmp_path):
    seen = {}

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            seen[trainer.global_step] = {name: value.clone() for name, value in pl_module.state_dict().items()}

    fit(tmp_path, [StepCheckpoint([2, "0.5dur", "2ep", "18st"]), Watch()])
    assert written(tmp_path) == {f"step_{n}.ckpt" for n in (2, 9, 12, 18)}
    for step in (2, 9, 12, 18):
        checkpoint = torch.load(tmp_path / "checkpoints" / f"step_{step}.ckpt", weights_only=True)
        assert checkpoint["global_step"] == step
        assert all(torch.equal(checkpoint["state_dict"][name], seen[step][name]) for name in seen[step])


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, BATCHES, 2 * BATCHES - 1])
def test_a_run_that_goes_on_from_one_of_them_is_the_one_that_went_through(tmp_path, step):
    def callbacks():
        # the average is updated at the end of a batch too, by a callback that is listed behind
        return [StepCheckpoint([step, 14]), *exact(), EMACallback(0.9)]

    torch.manual_seed(1)
    whole_trainer, whole = fit(tmp_path / "a", callbacks())
    torch.manual_seed(2)
    path = str(tmp_path / "a" / "checkpoints" / f"step_{step}.ckpt")
    again_trainer, again = fit(tmp_path / "b", callbacks(), path, seed=9)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    after = [line for line in whole_trainer.logger.lines if line[0] >= step]
    assert after == again_trainer.logger.lines
    assert written(tmp_path / "b") == {"step_14.ckpt"}, "what is done is not done again"


def test_it_saves_beside_model_checkpoint_which_deletes_none_of_them(tmp_path):
    best = ModelCheckpoint(tmp_path / "here", "best", monitor="val/loss", save_top_k=1, save_last=True)
    fit(tmp_path, [StepCheckpoint([1, 2, 7]), best], enable_checkpointing=True)
    assert {"step_1.ckpt", "step_2.ckpt", "step_7.ckpt", "last.ckpt"} <= written(tmp_path / "here")


def test_it_is_behind_those_that_end_a_batch_and_before_model_checkpoint(tmp_path):
    best = ModelCheckpoint(tmp_path)
    listed = [StepCheckpoint([4]), NonFiniteGuard(), EMACallback(), best]
    trainer, _ = fit(tmp_path, listed, enable_checkpointing=True, max_epochs=1)
    order = [type(callback).__name__ for callback in trainer.callbacks]
    assert order[-2:] == ["StepCheckpoint", "ModelCheckpoint"]
    assert len(order) == len(set(order)) == 4


def test_the_last_step_of_an_epoch_is_saved_after_its_validation(tmp_path):
    hooks = []

    class Watch(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            hooks.append(f"validated {trainer.global_step}")

        def on_save_checkpoint(self, trainer, pl_module, checkpoint):
            hooks.append(f"saved {trainer.global_step}")

    fit(tmp_path, [StepCheckpoint([5, 6]), Watch()], max_epochs=1, num_sanity_val_steps=0)
    assert hooks == ["saved 5", "validated 6", "saved 6"]


def test_the_last_step_of_an_epoch_is_saved_when_model_checkpoint_knows_whether_it_is_the_best(tmp_path):
    best = ModelCheckpoint(tmp_path, "best", monitor="val/loss", save_top_k=1, save_on_train_epoch_end=True)
    fit(tmp_path, [StepCheckpoint([BATCHES]), best], enable_checkpointing=True, max_epochs=1)
    checkpoint = torch.load(tmp_path / f"step_{BATCHES}.ckpt", weights_only=True)
    (state,) = (kept for key, kept in checkpoint["callbacks"].items() if key.startswith("ModelCheckpoint"))
    assert state["best_model_path"] == str(tmp_path / "best.ckpt")


def test_a_run_that_was_killed_between_last_and_the_named_one_has_both_when_it_goes_on(tmp_path):
    def callbacks():
        return [StepCheckpoint([BATCHES]), *exact(), ModelCheckpoint(tmp_path, "last", enable_version_counter=False)]

    fit(tmp_path, callbacks(), enable_checkpointing=True, max_epochs=1)
    named, last = tmp_path / f"step_{BATCHES}.ckpt", str(tmp_path / "last.ckpt")
    whole = torch.load(named, weights_only=True)
    named.unlink()
    fit(tmp_path, callbacks(), last, enable_checkpointing=True, max_epochs=2)
    again = torch.load(named, weights_only=True)
    assert again["global_step"] == BATCHES
    assert all(torch.equal(again["state_dict"][name], value) for name, value in whole["state_dict"].items())
    assert again["callbacks"]["StepCheckpoint[]"] == whole["callbacks"]["StepCheckpoint[]"]
    assert again["loops"] == whole["loops"]


@pytest.mark.slow
def test_a_named_step_whose_epoch_had_not_ended_is_saved_when_it_does(tmp_path):
    class Often(pl.callbacks.Checkpoint):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == BATCHES:
                trainer.save_checkpoint(tmp_path / "often.ckpt")

    fit(tmp_path, [StepCheckpoint(["1ep"]), *exact(), Often()], enable_checkpointing=True, max_epochs=2)
    fit(tmp_path / "b", [StepCheckpoint(["1ep"]), *exact()], str(tmp_path / "often.ckpt"), max_epochs=2)
    assert written(tmp_path / "b") == {f"step_{BATCHES}.ckpt"}


def test_a_step_that_accumulates_is_saved_when_it_is_whole(tmp_path):
    fit(tmp_path, [StepCheckpoint(["1ba", "4ba"])], accumulate_grad_batches=2, max_epochs=1)
    assert written(tmp_path) == {"step_1.ckpt", "step_2.ckpt"}
    checkpoint = torch.load(tmp_path / "checkpoints" / "step_1.ckpt", weights_only=True)
    assert checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["processed"] == 2


def test_a_second_one_has_its_own_files(tmp_path):
    fit(tmp_path, [StepCheckpoint([3]), StepCheckpoint([3], name="mine", directory=str(tmp_path / "d"))], max_epochs=1)
    assert written(tmp_path / "checkpoints") == {"step_3.ckpt"}
    assert written(tmp_path / "d") == {"mine_step_3.ckpt"}


def test_a_step_that_ctrl_c_fell_on_is_saved_before_the_run_is_left(tmp_path):
    class Press(pl.Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == 3:
                stop._asked = True

    stop = InterruptCheckpoint(str(tmp_path / "stopped"))
    with pytest.raises(SystemExit):
        fit(tmp_path, [Press(), stop, StepCheckpoint([3])])
    assert written(tmp_path) == {"last.ckpt", "step_3.ckpt"}
    fit(tmp_path / "b", [StepCheckpoint([3])], stop.saved_to)
    assert not written(tmp_path / "b")


def test_steps_beyond_the_run_are_told(tmp_path):
    with pytest.warns(FindingWarning, match="no checkpoint will be written at 99st"):
        fit(tmp_path, [StepCheckpoint([99])], max_epochs=1)
    assert not written(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": []}, r"steps=\[\]"),
        ({"steps": 1000}, "steps=1000"),
        ({"steps": [2.5]}, r"steps\[0\]=2.5"),
        ({"steps": ["0dur"]}, r"steps\[0\]='0dur'"),
        ({"steps": [1], "directory": 4}, "directory=4"),
        ({"steps": [1], "name": ""}, "name=''"),
    ],
)
def test_an_argument_out_of_range_is_refused_by_name(arguments, message):
    with pytest.raises(ConfigurationError, match=f"StepCheckpoint.*{message}"):
        StepCheckpoint(**arguments)
