from __future__ import annotations

from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau, StepLR

from stablelit.callbacks import OptimizerSettings
from stablelit.optim import warmup_schedule
from tests.contract.modules import BATCHES, make_module, make_trainer, save_at_class, train_loader, val_loader

# where the run is ended; of 3 epochs of 6 steps
HALF = 8


class Rates(pl.Callback):
    def __init__(self):
        self.seen = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        (group,) = trainer.optimizers[0].param_groups
        self.seen[trainer.global_step] = group["lr"]
        self.group = group


def fit(directory, optimizer, schedule=None, ckpt_path=None, callback=True, epochs=3, save=None, interval="step"):
    module = make_module()

    def configure_optimizers():
        built = optimizer(module.parameters())
        if schedule is None:
            return built
        scheduler = schedule(built)
        return {
            "optimizer": built,
            "lr_scheduler": {"scheduler": scheduler, "interval": interval, "monitor": "val/loss"},
        }

    module.configure_optimizers = configure_optimizers
    rates = Rates()
    callbacks = [
        rates,
        *([OptimizerSettings()] if callback else []),
        *([save_at_class("lightning.pytorch")(HALF, save)] if save else []),
    ]
    trainer = make_trainer(directory, callbacks, max_epochs=epochs, enable_checkpointing=bool(save))
    trainer.fit(module, train_loader(), val_loader(), ckpt_path=ckpt_path)
    return rates, trainer


def resumed(tmp_path, before, after, callback=True, epochs=3):
    """What a run that began with `before` trains with after a resume with `after`, and what a whole one of it would."""
    path = str(tmp_path / "half.ckpt")
    fit(tmp_path, *before, save=path)
    return fit(tmp_path, *after, ckpt_path=path, callback=callback, epochs=epochs)


def sgd(lr=0.1, **settings):
    return partial(SGD, lr=lr, **settings)


def warm(total=3 * BATCHES, **settings):
    return partial(warmup_schedule, total_steps=total, warmup="2st", **settings)


@pytest.mark.slow
def test_lightning_alone_trains_on_with_the_old_rate(tmp_path):
    rates, _ = resumed(tmp_path, [sgd(0.1)], [sgd(0.01)], callback=False)
    assert set(rates.seen.values()) == {0.1}


@pytest.mark.slow
def test_a_new_rate_is_taken_and_told(tmp_path, capsys):
    rates, _ = resumed(tmp_path, [sgd(0.1)], [sgd(0.01)])
    assert set(rates.seen.values()) == {0.01}
    assert "Changed since this run began, and taken: learning rate 0.1 -> 0.01." in capsys.readouterr().out


@pytest.mark.slow
def test_where_nothing_is_changed_nothing_is_said_and_nothing_is_touched(tmp_path, capsys):
    whole, _ = fit(tmp_path / "whole", sgd(), warm())
    rates, _ = resumed(tmp_path, [sgd(), warm()], [sgd(), warm()])
    assert rates.seen == {step: rate for step, rate in whole.seen.items() if step >= HALF}
    assert "Changed" not in capsys.readouterr().out


SCHEDULES = {
    "warmup": warm(),
    "cosine": partial(CosineAnnealingLR, T_max=3 * BATCHES),
    "steps": partial(StepLR, step_size=5, gamma=0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_new_rate_with_a_schedule_is_that_schedule_around_the_new_rate(schedule, tmp_path):
    whole, _ = fit(tmp_path / "whole", sgd(0.01), schedule)
    rates, _ = resumed(tmp_path, [sgd(0.1), schedule], [sgd(0.01), schedule])
    expected = {step: rate for step, rate in whole.seen.items() if step >= HALF}
    assert rates.seen == pytest.approx(expected, rel=1e-6)


CHANGES = {
    "longer": (warm(), warm(4 * BATCHES)),
    "another decay": (warm(), warm(decay="linear", final=0.5)),
    "a schedule where there was none": (None, warm()),
    "another class": (warm(), partial(StepLR, step_size=5, gamma=0.5)),
    "a longer cosine of torch's": (partial(CosineAnnealingLR, T_max=9), partial(CosineAnnealingLR, T_max=4 * BATCHES)),
    "another gamma": (partial(StepLR, step_size=5, gamma=0.1), partial(StepLR, step_size=5, gamma=0.5)),
    "none any more": (warm(), None),
}


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), CHANGES.values(), ids=CHANGES)
def test_another_schedule_stands_where_it_would_after_the_steps_that_were_trained(before, after, tmp_path, capsys):
    whole, _ = fit(tmp_path / "whole", sgd(), after, epochs=4)
    rates, _ = resumed(tmp_path, [sgd(), before], [sgd(), after], epochs=4)
    expected = {step: rate for step, rate in whole.seen.items() if step >= HALF}
    assert rates.seen == pytest.approx(expected, rel=1e-6)
    assert "Changed since this run began, and taken: " in capsys.readouterr().out


@pytest.mark.slow
def test_weight_decay_and_momentum_are_taken_and_the_averages_go_on(tmp_path, capsys):
    rates, trainer = resumed(tmp_path, [sgd(momentum=0.9)], [sgd(momentum=0.5, weight_decay=0.2)])
    assert (rates.group["momentum"], rates.group["weight_decay"]) == (0.5, 0.2)
    told = capsys.readouterr().out
    assert "momentum 0.9 -> 0.5" in told
    assert "weight_decay 0 -> 0.2" in told
    plain, _ = resumed(tmp_path, [partial(AdamW, lr=1e-3)], [partial(AdamW, lr=1e-4)])
    assert plain.group["lr"] == 1e-4


@pytest.mark.slow
def test_the_averages_of_adam_go_on_under_a_new_rate(tmp_path):
    _, trainer = resumed(tmp_path, [partial(AdamW, lr=1e-3)], [partial(AdamW, lr=1e-4)])
    steps = {float(state["step"]) for state in trainer.optimizers[0].state.values()}
    assert steps == {3.0 * BATCHES}


@pytest.mark.slow
def test_another_optimizer_begins_anew_and_says_so(tmp_path, capsys):
    rates, trainer = resumed(tmp_path, [partial(Adam, lr=1e-3)], [sgd(0.05, momentum=0.9)])
    assert set(rates.seen.values()) == {0.05}
    assert "optimizer Adam -> SGD: its averages begin anew" in capsys.readouterr().out
    assert all("momentum_buffer" in state for state in trainer.optimizers[0].state.values())


@pytest.mark.slow
def test_a_plateau_takes_its_patience_and_keeps_its_count(tmp_path):
    path = str(tmp_path / "half.ckpt")
    fit(tmp_path, sgd(), partial(ReduceLROnPlateau, patience=5), save=path, interval="epoch")
    _, trainer = fit(tmp_path, sgd(), partial(ReduceLROnPlateau, patience=1), path, interval="epoch")
    _, unchanged = fit(tmp_path, sgd(), partial(ReduceLROnPlateau, patience=5), path, interval="epoch")
    taken, kept = (t.lr_scheduler_configs[0].scheduler for t in (trainer, unchanged))
    assert (taken.patience, kept.patience) == (1, 5)
    assert (taken.last_epoch, taken.best) == (kept.last_epoch, kept.best)


@pytest.mark.slow
def test_a_change_that_was_taken_is_the_reference_of_the_next_resume(tmp_path, capsys):
    first, second = str(tmp_path / "half.ckpt"), tmp_path / "second.ckpt"
    fit(tmp_path, sgd(0.1), save=first)
    _, trainer = fit(tmp_path, sgd(0.01), ckpt_path=first)
    trainer.save_checkpoint(second)
    capsys.readouterr()
    rates, _ = fit(tmp_path, sgd(0.01), ckpt_path=str(second), epochs=4)
    assert set(rates.seen.values()) == {0.01}
    assert "Changed" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_rate_that_was_cut_meanwhile_stays_cut(tmp_path):
    path = str(tmp_path / "half.ckpt")
    fit(tmp_path, sgd(0.1), save=path)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] *= 0.5
    torch.save(checkpoint, path)
    rates, _ = fit(tmp_path, sgd(0.01), ckpt_path=path)
    assert list(rates.seen.values()) == pytest.approx([0.005] * len(rates.seen))


@pytest.mark.slow
def test_a_checkpoint_without_it_is_taken_as_it_is(tmp_path):
    path = str(tmp_path / "half.ckpt")
    fit(tmp_path, sgd(0.1), save=path, callback=False)
    rates, _ = fit(tmp_path, sgd(0.01), ckpt_path=path)
    assert set(rates.seen.values()) == {0.1}
