from __future__ import annotations

import os
import signal

import lightning.pytorch as pl
import pytest
import torch

from stablelit.callbacks import EMACallback, EpochMeanCheckpoint, InterruptCheckpoint, RandomStateCheckpoint
from tests.contract.modules import BATCHES, make_module, make_trainer, train_loader, val_loader


class PressCtrlC(pl.Callback):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, step, times=1, signum=signal.SIGINT):
        self.step, self.times, self.signum = step, times, signum

    def on_before_backward(self, trainer, pl_module, loss):
        if trainer.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.signum)


def exact():
    return [RandomStateCheckpoint(), EpochMeanCheckpoint()]


@pytest.fixture(autouse=True)
def _signals_as_before():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


LEAVES = {signal.SIGINT: (1, "Press Ctrl-C again"), signal.SIGTERM: (143, "stopping after this step and saving")}


@pytest.mark.parametrize("signum", LEAVES, ids=["ctrl-c", "sigterm"])
@pytest.mark.parametrize("step", [0, 8, BATCHES - 1])
def test_a_signal_ends_the_run_after_a_whole_step_and_a_resume_continues_it_exactly(step, signum, tmp_path, capsys):
    torch.manual_seed(0)
    whole = make_module()
    make_trainer(tmp_path / "whole", exact()).fit(whole, train_loader(), val_loader())

    torch.manual_seed(0)
    callback = InterruptCheckpoint(str(tmp_path / "checkpoints"))
    trainer = make_trainer(tmp_path, [callback, PressCtrlC(step, signum=signum), *exact()])
    code, said = LEAVES[signum]
    with pytest.raises(SystemExit) as left:
        trainer.fit(make_module(), train_loader(), val_loader())
    assert left.value.code == code
    assert trainer.interrupted
    # behind an epoch's last step is its validation, and that belongs to the epoch
    assert trainer.global_step == step + (2 if step == BATCHES - 1 else 1)
    assert callback.saved_to == str(tmp_path / "checkpoints" / "last.ckpt")
    assert said in capsys.readouterr().out

    again = make_module(seed=5)
    make_trainer(tmp_path, exact()).fit(again, train_loader(), val_loader(), ckpt_path=callback.saved_to)
    for (name, a), (_, b) in zip(whole.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.slow
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


@pytest.mark.parametrize("signum", LEAVES, ids=["ctrl-c", "sigterm"])
def test_it_waits_for_the_whole_of_an_accumulated_step(signum, tmp_path):
    callback = InterruptCheckpoint(str(tmp_path))

    class Press(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.fit_loop.total_batch_idx == 0:
                os.kill(os.getpid(), signum)

    trainer = make_trainer(tmp_path, [callback, Press()], accumulate_grad_batches=3)
    with pytest.raises(SystemExit):
        trainer.fit(make_module(), train_loader())
    assert trainer.global_step == 1
    assert trainer.fit_loop.total_batch_idx == 2


def test_a_second_ctrl_c_ends_it_at_once(tmp_path):
    callback = InterruptCheckpoint(str(tmp_path))
    trainer = make_trainer(tmp_path, [callback, PressCtrlC(4, times=2)])
    with pytest.raises(SystemExit):
        trainer.fit(make_module(), train_loader())
    assert trainer.global_step == 4
    assert callback.saved_to is None


def test_a_second_sigterm_changes_nothing(tmp_path):
    callback = InterruptCheckpoint(str(tmp_path))
    trainer = make_trainer(tmp_path, [callback, PressCtrlC(4, times=3, signum=signal.SIGTERM)])
    with pytest.raises(SystemExit):
        trainer.fit(make_module(), train_loader())
    assert trainer.global_step == 5
    assert callback.saved_to == str(tmp_path / "last.ckpt")


HOOKS = ["on_fit_start", "on_sanity_check_start", "on_validation_batch_start", "on_train_start"]


class Once(pl.Callback):
    """Sends SIGTERM in the hook that is asked for, once."""

    def __init__(self, hook):
        def send(*args, **kwargs):
            if not self.sent:
                self.sent = True
                os.kill(os.getpid(), signal.SIGTERM)

        self.sent = False
        setattr(self, hook, send)


@pytest.mark.parametrize("hook", HOOKS)
def test_sigterm_before_the_first_step_ends_the_run_before_it(hook, tmp_path):
    callback = InterruptCheckpoint(str(tmp_path / "c"))
    trainer = make_trainer(tmp_path, [callback, Once(hook)], num_sanity_val_steps=2)
    with pytest.raises(SystemExit) as left:
        trainer.fit(make_module(), train_loader(), val_loader())
    assert left.value.code == 143
    assert trainer.global_step == 0
    assert not (tmp_path / "c").exists(), "there is nothing to save"


def test_sigterm_inside_a_validation_lets_it_come_to_its_end(tmp_path):
    seen = []

    class Watch(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            seen.append(trainer.global_step)

    callback = InterruptCheckpoint(str(tmp_path / "c"))
    trainer = make_trainer(tmp_path, [Once("on_validation_batch_start"), Watch(), callback], num_sanity_val_steps=0)
    with pytest.raises(SystemExit):
        trainer.fit(make_module(), train_loader(), val_loader())
    assert seen == [BATCHES]
    assert trainer.global_step == BATCHES + 1


def test_what_was_trained_is_saved_before_the_validation_that_a_cluster_may_not_wait_for(tmp_path):
    seen = []

    class Watch(pl.Callback):
        def on_validation_start(self, trainer, pl_module):
            seen.append(torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"])

    press = PressCtrlC(BATCHES - 1, signum=signal.SIGTERM)
    trainer = make_trainer(tmp_path, [InterruptCheckpoint(str(tmp_path)), press, Watch()], num_sanity_val_steps=0)
    with pytest.raises(SystemExit):
        trainer.fit(make_module(), train_loader(), val_loader())
    assert seen == [BATCHES]


def test_epochs_of_one_step_end_too(tmp_path):
    """Behind each of their steps is a validation."""
    callback = InterruptCheckpoint(str(tmp_path))
    trainer = make_trainer(
        tmp_path, [callback, PressCtrlC(3, signum=signal.SIGTERM)], limit_train_batches=1, max_epochs=9
    )
    with pytest.raises(SystemExit):
        trainer.fit(make_module(), train_loader(), val_loader())
    assert trainer.global_step == 5
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 5


@pytest.mark.parametrize("when", ["in the last step", "in the validation"])
def test_where_the_end_of_the_epoch_is_saved_the_run_ends_there(when, tmp_path):
    saving = pl.callbacks.ModelCheckpoint(dirpath=tmp_path, filename="last", enable_version_counter=False)
    send = PressCtrlC(BATCHES - 1, signum=signal.SIGTERM)
    if when == "in the validation":
        send = Once("on_validation_batch_start")
    torch.manual_seed(0)
    callback = InterruptCheckpoint()
    trainer = make_trainer(
        tmp_path, [callback, send, saving, *exact()], enable_checkpointing=True, num_sanity_val_steps=0
    )
    with pytest.raises(SystemExit):
        trainer.fit(make_module(), train_loader(), val_loader())
    assert trainer.global_step == BATCHES
    assert callback.saved_to == str(tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == 1, "the epoch's end, validated"


def test_sigterm_in_the_last_epoch_leaves_a_run_that_is_finished(tmp_path):
    callback = InterruptCheckpoint(str(tmp_path))
    press = PressCtrlC(BATCHES - 1, signum=signal.SIGTERM)
    trainer = make_trainer(tmp_path, [callback, press], max_epochs=1)
    trainer.fit(make_module(), train_loader(), val_loader())
    assert trainer.global_step == BATCHES
    assert callback.asked_to_end == signal.SIGTERM


@pytest.mark.parametrize("signum", LEAVES, ids=["ctrl-c", "sigterm"])
@pytest.mark.parametrize("ends", ["well", "with an error"])
def test_the_signal_is_given_back(signum, ends, tmp_path):
    class Break(pl.Callback):
        def on_train_batch_end(self, *args):
            if ends != "well":
                raise ZeroDivisionError

    before = signal.getsignal(signum)
    trainer = make_trainer(tmp_path, [InterruptCheckpoint(), Break()])
    if ends == "well":
        trainer.fit(make_module(), train_loader())
    else:
        with pytest.raises(ZeroDivisionError):
            trainer.fit(make_module(), train_loader())
    assert signal.getsignal(signum) is before


def test_slurms_requeue_signal_stays_lightnings(tmp_path, monkeypatch):
    from lightning.pytorch.plugins.environments import SLURMEnvironment

    requeued = []

    class Requeue(pl.Callback):
        def on_train_batch_end(self, trainer, *args):
            connector = trainer._signal_connector
            requeued.append(signal.getsignal(signal.SIGUSR1).signal_handlers == [connector._slurm_sigusr_handler_fn])

    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_LOCALID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    press = PressCtrlC(2, signum=signal.SIGTERM)
    callback = InterruptCheckpoint(str(tmp_path))
    trainer = make_trainer(
        tmp_path, [callback, press, Requeue()], plugins=[SLURMEnvironment(auto_requeue=True)], num_sanity_val_steps=0
    )
    with pytest.raises(SystemExit):
        trainer.fit(make_module(), train_loader())
    assert requeued == [True] * len(requeued)
    assert len(requeued) >= 2
    assert callback.saved_to == str(tmp_path / "last.ckpt"), "Lightning would have saved nothing on SIGTERM"


@pytest.mark.slow
@pytest.mark.parametrize("who", ["all", "the first", "the second"])
def test_two_ranks_end_together_whoever_got_the_signal(who, tmp_path):
    """Lightning broadcasts from inside the signal's handler, which can meet another collective of the other rank."""

    class Signal(pl.Callback):
        def on_before_backward(self, trainer, pl_module, loss):
            if trainer.global_step == 4 and who in ("all", ("the first", "the second")[trainer.global_rank]):
                os.kill(os.getpid(), signal.SIGTERM)

        def on_train_batch_end(self, trainer, *args):
            (tmp_path / f"{trainer.global_rank}").write_text(str(trainer.global_step))

    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # a rank that waits for the other for ever
        callbacks = [InterruptCheckpoint(str(tmp_path)), Signal()]
        trainer = make_trainer(tmp_path, callbacks, devices=2, strategy="ddp_fork", max_epochs=100)
        try:
            trainer.fit(make_module(), train_loader())
        except Exception as error:
            os._exit(7 if "exit code 143" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    steps = {int((tmp_path / str(rank)).read_text()) for rank in range(2)}
    assert len(steps) == 1, "both have ended at the same step"
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"]
    assert {saved} == steps
    assert saved <= 4 + 20 + 1


def test_it_saves_where_model_checkpoint_does(tmp_path):
    checkpoint = pl.callbacks.ModelCheckpoint(dirpath=tmp_path / "here")
    callback = InterruptCheckpoint()
    trainer = make_trainer(tmp_path, [callback, checkpoint, PressCtrlC(2)], enable_checkpointing=True)
    with pytest.raises(SystemExit):
        trainer.fit(make_module(), train_loader())
    assert callback.saved_to == str(tmp_path / "here" / "last.ckpt")
