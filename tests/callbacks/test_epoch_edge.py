"""Runs that end inside an epoch, or at its very end, and go on for longer: every row once, in the epoch's order.

The rows are derived here from the orders of the epochs alone; no run that was not interrupted is asked.
"""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from stablelit.callbacks import EpochMeanCheckpoint, HistoryWriter, ShuffleCallback
from stablelit.callbacks.history_writer import read_history
from stablelit.data import ShuffleSampler
from tests.callbacks.numbered_data import BATCH, BATCHES, LOADERS, Module, N, Numbers, fit

pytestmark = pytest.mark.filterwarnings("ignore")


def order_of(kind, epoch):
    """The rows of an epoch, one after the other."""
    if kind == "own sampler":
        return torch.randperm(N, generator=torch.Generator().manual_seed(epoch)).tolist()
    sampler = ShuffleSampler(range(N), seed=3 if kind == "ShuffleSampler" else 0)
    sampler.set_epoch(epoch)
    return list(sampler)


def rows(kind, epochs):
    """What is to be trained on."""
    orders = [order_of(kind, epoch) for epoch in range(epochs)]
    return [(epoch, order[i : i + BATCH]) for epoch, order in enumerate(orders) for i in range(0, N, BATCH)]


class Stops(pl.Callback):
    """Asks for the end of the fit, as a NaN guard or a limit of time does."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *args):
        trainer.should_stop = trainer.should_stop or trainer.global_step == self.step


def ended_and_resumed(folder, kind, step, longer, callbacks=(ShuffleCallback,), stop=False, saved_by="hand", **kwargs):
    """The rows of both parts."""
    savers = [ModelCheckpoint(folder, save_last=True)] if saved_by == "last" else []
    ending = {"max_epochs": 3} if stop else {"max_steps": step, "max_epochs": -1}
    stops = [Stops(step)] if stop else []
    first, trainer = fit(folder, LOADERS[kind](), [*(c() for c in callbacks), *stops, *savers], **ending, **kwargs)
    if saved_by == "hand":
        trainer.save_checkpoint(folder / "last.ckpt")
    path = str(folder / "last.ckpt")
    rest, trainer = fit(folder, LOADERS[kind](), [c() for c in callbacks], 99, path, **longer, **kwargs)
    return first.seen, rest.seen, trainer


EPOCHS, STEPS = {"max_epochs": 3}, {"max_steps": 3 * BATCHES, "max_epochs": -1}
# where it ends: inside the first epoch, inside the second, at an epoch's end
ENDS = [3, BATCHES + 3, 2 * BATCHES]
ALWAYS = {("ShuffleDataLoader", BATCHES + 3, "hand", "steps"), ("own sampler", BATCHES + 3, "last", "epochs")}


@pytest.mark.parametrize(
    ("kind", "step", "saved_by", "longer"),
    [
        pytest.param(*case, marks=[] if case in ALWAYS else [pytest.mark.slow])
        for kind in ("ShuffleDataLoader", "own sampler", "ShuffleSampler", "buckets")
        for step in ENDS
        for saved_by in ("hand", "last")
        for longer in ("epochs", "steps")
        for case in [(kind, step, saved_by, longer)]
        if kind != "buckets" or step == BATCHES + 3
    ],
)
def test_a_run_that_max_steps_ended_goes_on_with_the_row_behind_the_last(kind, step, saved_by, longer, tmp_path):
    more = {"epochs": EPOCHS, "steps": STEPS}[longer]
    first, rest, trainer = ended_and_resumed(tmp_path, kind, step, more, saved_by=saved_by)
    if kind == "buckets":  # an order of its own: every row once in every epoch
        assert len(first) == step
        assert [sorted(i for e, b in first + rest if e == epoch for i in b) for epoch in range(3)] == [[*range(N)]] * 3
    else:
        assert first == rows(kind, 3)[:step]
        assert rest == rows(kind, 3)[step:]
    assert trainer.current_epoch == 3
    assert trainer.global_step == 3 * BATCHES


@pytest.mark.parametrize("callback", [ShuffleCallback, EpochMeanCheckpoint])
def test_each_of_the_two_callbacks_suffices(callback, tmp_path):
    _, rest, _ = ended_and_resumed(tmp_path, "ShuffleDataLoader", BATCHES + 3, EPOCHS, [callback])
    assert rest == rows("ShuffleDataLoader", 3)[BATCHES + 3 :]


def test_without_them_the_rest_of_the_epoch_is_seen_by_nobody(tmp_path):
    """So that the tests above can fail: it is what Lightning does."""
    _, rest, _ = ended_and_resumed(tmp_path, "ShuffleDataLoader", BATCHES + 3, EPOCHS, [])
    assert rest == rows("ShuffleDataLoader", 3)[2 * BATCHES :]


def test_a_run_that_was_stopped_inside_an_epoch_goes_on_there(tmp_path):
    first, rest, _ = ended_and_resumed(tmp_path, "own sampler", BATCHES + 3, EPOCHS, stop=True)
    assert first + rest == rows("own sampler", 3)


@pytest.mark.slow
@pytest.mark.parametrize("saved_by", ["hand", "last"])
def test_a_validation_that_fell_on_the_last_step_is_not_taken_for_one_to_come(saved_by, tmp_path):
    options = {"val": torch.utils.data.DataLoader(Numbers(4), 4), "val_check_interval": 3}
    callbacks = [ShuffleCallback, EpochMeanCheckpoint]
    step = BATCHES + 3
    first, rest, trainer = ended_and_resumed(
        tmp_path, "own sampler", step, EPOCHS, callbacks, saved_by=saved_by, **options
    )
    assert first + rest == rows("own sampler", 3)
    # Lightning's own counter of steps for the loggers
    assert trainer.fit_loop.epoch_loop._batches_that_stepped == 3 * BATCHES


@pytest.mark.slow
def test_a_loader_with_fewer_batches_than_it_says_ends_its_epoch_by_itself(tmp_path):
    class Optimistic(torch.utils.data.Sampler):
        """One batch less than it says, as samplers with a budget of tokens have it."""

        def __len__(self):
            return 4

        def __iter__(self):
            return iter([[0, 1], [2, 3], [4, 5]])

    def loader():
        return torch.utils.data.DataLoader(Numbers(), batch_sampler=Optimistic())

    saver = ModelCheckpoint(tmp_path, save_last=True)
    fit(tmp_path, loader(), [ShuffleCallback(expect_shuffle=False), saver], max_epochs=2)
    ends = []

    class Counts(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            ends.append(trainer.current_epoch)

    callbacks = [ShuffleCallback(expect_shuffle=False), Counts()]
    rest, _ = fit(tmp_path, loader(), callbacks, ckpt_path=str(tmp_path / "last.ckpt"), max_epochs=3)
    assert [batch for _, batch in rest.seen] == [[0, 1], [2, 3], [4, 5]]
    assert ends == [2]


class Means(Module):
    """Logs the mean of the rows that it is given, over the epoch."""

    def training_step(self, batch, batch_idx):
        self.log("rows", batch.mean(), on_step=False, on_epoch=True, batch_size=len(batch))
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("saved_by", ["hand", pytest.param("last", marks=pytest.mark.slow)])
def test_an_epoch_that_was_cut_short_is_logged_whole_when_it_is_over(saved_by, tmp_path):
    def parts():
        return [HistoryWriter(str(tmp_path)), EpochMeanCheckpoint(), ShuffleCallback()]

    saver = [ModelCheckpoint(tmp_path, save_last=True)] if saved_by == "last" else []
    options = {"max_steps": BATCHES + 3, "max_epochs": -1}
    _, trainer = fit(tmp_path, LOADERS["own sampler"](), [*parts(), *saver], module=Means(), **options)
    seen = [row for _, batch in rows("own sampler", 2)[BATCHES : BATCHES + 3] for row in batch]
    assert read_history(tmp_path)[1]["rows"] == pytest.approx(sum(seen) / len(seen))
    if saved_by == "hand":
        trainer.save_checkpoint(tmp_path / "last.ckpt")
    path = str(tmp_path / "last.ckpt")
    fit(tmp_path, LOADERS["own sampler"](), parts(), 99, path, module=Means(), max_epochs=3)
    history = read_history(tmp_path)
    assert [line["epoch"] for line in history] == [0, 1, 2]
    assert [line["rows"] for line in history] == pytest.approx([(N - 1) / 2] * 3)
