from __future__ import annotations

import os
import signal

import lightning.pytorch as pl
import pytest
import torch

from stablelit.callbacks import EMACallback, EpochMeanCheckpoint, InterruptCheckpoint, RandomStateCheckpoint
from tests.contract.modules import BATCHES, make_module, make_trainer, train_loader, val_loader


class PressCtrlC(pl.Callback):
    """Sends this process SIGINT in the middle of a step."""

    def __init__(self, step, times=1):
        self.step, self.times = step, times

    def on_before_backward(self, trainer, pl_module, loss):
        if trainer.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


def exact():
    return [RandomStateCheckpoint(), EpochMeanCheckpoint()]


@pytest.fixture(autouse=True)
def _signals_as_before():
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("step", [0, 8, BATCHES - 1])
def test_ctrl_c_ends_the_run_after_a_whole_step_and_a_resume_continues_it_exactly(step, tmp_path, capsys):
    torch.manual_seed(0)
    whole = make_module()
    make_trainer(tmp_path / "whole", exact()).fit(whole, train_loader(), val_loader())

    torch.manual_seed(0)
    callback = InterruptCheckpoint(str(tmp_path / "checkpoints"))
    trainer = make_trainer(tmp_path, [callback, PressCtrlC(step), *exact()])
    with pytest.raises(SystemExit):
        trainer.fit(make_module(), train_loader(), val_loader())
    assert trainer.interrupted
    assert trainer.global_step == step + 1
    assert callback.saved_to == str(tmp_path / "checkpoints" / "last.ckpt")
    assert "Press Ctrl-C again" in capsys.readouterr().out

    again = make_module(seed=5)
    make_trainer(tmp_path, exact()).fit(again, train_loader(), val_loader(), ckpt_path=callback.saved_to)
    for (name, a), (_, b) in zip(whole.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_what_is_saved_has_what_callbacks_listed_later_do_at_the_end_of_the_batch(tmp_path):
    """An average listed behind it has taken up the weights of the last step."""
    torch.manual_seed(0)
    whole = make_module()
    make_trainer(tmp_path / "whole", [EMACallback(0.9), *exact()]).fit(whole, train_loader(), val_loader())
    torch.manual_seed(0)
    callback = InterruptCheckpoint(str(tmp_path / "checkpoints"))
    trainer = make_trainer(tmp_path, [callback, PressCtrlC(5), *exact(), EMACallback(0.9)])
    with pytest.raises(SystemExit):
        trainer.fit(make_module(), train_loader(), val_loader())
    again = make_module(seed=5)
    callbacks = [EMACallback(0.9), *exact()]
    make_trainer(tmp_path, callbacks).fit(again, train_loader(), val_loader(), ckpt_path=callback.saved_to)
    # after a fit the average is in the module
    for (name, a), (_, b) in zip(whole.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_it_waits_for_the_whole_of_an_accumulated_step(tmp_path):
    callback = InterruptCheckpoint(str(tmp_path))

    class Press(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.fit_loop.total_batch_idx == 3:
                os.kill(os.getpid(), signal.SIGINT)

    trainer = make_trainer(tmp_path, [callback, Press()], accumulate_grad_batches=3)
    with pytest.raises(SystemExit):
        trainer.fit(make_module(), train_loader())
    assert trainer.global_step == 2
    assert trainer.fit_loop.total_batch_idx == 5


def test_a_second_ctrl_c_ends_it_at_once(tmp_path):
    callback = InterruptCheckpoint(str(tmp_path))
    trainer = make_trainer(tmp_path, [callback, PressCtrlC(4, times=2)])
    with pytest.raises(SystemExit):
        trainer.fit(make_module(), train_loader())
    assert trainer.global_step == 4
    assert callback.saved_to is None


def test_the_signal_is_given_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    make_trainer(tmp_path, [InterruptCheckpoint()]).fit(make_module(), train_loader())
    assert signal.getsignal(signal.SIGINT) is before


def test_it_saves_where_model_checkpoint_does(tmp_path):
    checkpoint = pl.callbacks.ModelCheckpoint(dirpath=tmp_path / "here")
    callback = InterruptCheckpoint()
    trainer = make_trainer(tmp_path, [callback, checkpoint, PressCtrlC(2)], enable_checkpointing=True)
    with pytest.raises(SystemExit):
        trainer.fit(make_module(), train_loader())
    assert callback.saved_to == str(tmp_path / "here" / "last.ckpt")
