from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import (
    DataLoader,
)

from stablelit.callbacks import RandomStateCheckpoint, ShuffleCallback
from stablelit.data import ShuffleDataLoader, ShuffleSampler
from stablelit.errors import ConfigurationError
from stablelit.findings import read_findings
from tests.callbacks.numbered_data import (
    BATCH,
    BATCHES,
    LOADERS,
    Chunked,
    Module,
    N,
    Numbers,
    fit,
    resumed,
)
from tests.contract.modules import save_at_class

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3, BATCHES, BATCHES + 2, 2 * BATCHES, 3 * BATCHES - 1])
@pytest.mark.parametrize("kind", LOADERS)
def test_a_resumed_run_sees_what_the_uninterrupted_one_sees(kind, step, tmp_path):
    expected, got, _ = resumed(tmp_path, LOADERS[kind], step)
    assert got == expected
    assert read_findings(tmp_path) == []


class Look(pl.Callback):
    """Somebody who shows a batch before training goes on."""

    def on_train_start(self, trainer, pl_module):
        next(iter(trainer.train_dataloader))


@pytest.mark.parametrize("kind", ["ShuffleDataLoader", "RandomSampler", "ShuffleSampler"])
def test_a_look_at_the_data_does_not_take_the_place_of_a_resumed_run(kind, tmp_path):
    saver = save_at_class("lightning.pytorch")(BATCHES + 3, tmp_path / "a.ckpt")
    whole, _ = fit(tmp_path, LOADERS[kind](), [ShuffleCallback(), RandomStateCheckpoint(), saver])
    callbacks = [ShuffleCallback(), RandomStateCheckpoint(), Look()]
    rest, _ = fit(tmp_path, LOADERS[kind](), callbacks, 99, str(tmp_path / "a.ckpt"))
    assert rest.seen == whole.seen[BATCHES + 3 :]


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize(
    ("kind", "step"),
    [
        pytest.param(kind, step, marks=[] if kind == "RandomSampler" or step == BATCHES + 2 else [pytest.mark.slow])
        for kind in ("RandomSampler", "ShuffleSampler", "own batch sampler", "lists of samples")
        for step in (3, BATCHES, BATCHES + 2)
    ],
)
@pytest.mark.slow
def test_also_with_workers(kind, step, persistent, tmp_path):
    def loader():
        return LOADERS[kind](num_workers=2, persistent_workers=persistent)

    expected, got, _ = resumed(tmp_path, loader, step)
    assert got == expected


@pytest.mark.parametrize("kind", ["RandomSampler", "own sampler"])
def test_without_it_samples_come_twice(kind, tmp_path):
    """So that the tests above can fail."""

    class Nothing(pl.Callback):
        pass

    expected, got, _ = resumed(tmp_path, LOADERS[kind], BATCHES + 2, Nothing)
    assert got != expected


@pytest.mark.slow
@pytest.mark.parametrize("interval", [0.5, 1.0])
def test_from_a_checkpoint_made_after_a_validation(interval, tmp_path):
    class Save(pl.callbacks.Checkpoint):
        def on_validation_end(self, trainer, pl_module):
            if trainer.current_epoch == 1 and not trainer.sanity_checking:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    val = DataLoader(Numbers(4), 4)
    options = {"val": val, "val_check_interval": interval}
    whole, _ = fit(tmp_path, LOADERS["RandomSampler"](num_workers=2), [ShuffleCallback(), Save()], **options)
    rest, _ = fit(
        tmp_path, LOADERS["RandomSampler"](num_workers=2), [ShuffleCallback()], 9, str(tmp_path / "a.ckpt"), **options
    )
    # half of seven batches is three: the last validation inside an epoch comes before its last batch
    assert rest.seen == whole.seen[2 * BATCHES - (interval == 0.5) :]


@pytest.mark.parametrize("kind", ["RandomSampler", "own sampler"])
@pytest.mark.slow
def test_also_with_a_loader_that_is_built_anew_every_epoch(kind, tmp_path):
    class Rebuilt(Module):
        def train_dataloader(self):
            return LOADERS[kind](num_workers=1)

    for step in (BATCHES, BATCHES + 2):
        saver = save_at_class("lightning.pytorch")(step, tmp_path / "a.ckpt")
        every = {"reload_dataloaders_every_n_epochs": 1}
        whole, _ = fit(tmp_path, None, [ShuffleCallback(), saver], module=Rebuilt(), **every)
        path = str(tmp_path / "a.ckpt")
        rest, _ = fit(tmp_path, None, [ShuffleCallback()], 9, path, module=Rebuilt(), **every)
        assert rest.seen == whole.seen[step:]


def test_only_a_part_of_each_epoch(tmp_path):
    make = LOADERS["RandomSampler"]
    expected, got, _ = resumed(tmp_path, make, 6, limit_train_batches=4)
    assert got == expected
    expected, got, _ = resumed(tmp_path, make, 8, limit_train_batches=4)
    assert got == expected


@pytest.mark.slow
@pytest.mark.parametrize("step", [BATCHES - 1, BATCHES + 2])
def test_a_run_of_a_number_of_steps(step, tmp_path):
    """From an epoch's end Lightning 2.6.6 itself goes on with an epoch of one batch where `max_steps` is set."""

    def make():
        return LOADERS["RandomSampler"](num_workers=1)

    expected, got, _ = resumed(tmp_path, make, step, max_steps=3 * BATCHES - 2, max_epochs=-1)
    assert got == expected


def test_with_accumulated_gradients(tmp_path):
    saver = save_at_class("lightning.pytorch")(6, tmp_path / "a.ckpt")
    make, every = LOADERS["RandomSampler"], {"accumulate_grad_batches": 2}
    whole, _ = fit(tmp_path, make(), [ShuffleCallback(), saver], **every)
    rest, _ = fit(tmp_path, make(), [ShuffleCallback()], 9, str(tmp_path / "a.ckpt"), **every)
    # four steps an epoch: the sixth ends the fourth batch of the second, and the saver saves once more behind the fifth
    assert rest.seen == whole.seen[BATCHES + 5 :]


@pytest.mark.slow
def test_every_sample_of_every_epoch_comes_once_and_in_another_order(tmp_path):
    module, _ = fit(tmp_path, LOADERS["RandomSampler"](num_workers=2), [ShuffleCallback()])
    epochs = [[i for e, batch in module.seen if e == epoch for i in batch] for epoch in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(N))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_order_is_that_of_the_runs_seed(tmp_path):
    same = [fit(tmp_path, LOADERS["RandomSampler"](), [ShuffleCallback()], seed)[0].seen for seed in (1, 1, 2)]
    assert same[0] == same[1] != same[2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ShuffleSampler", "RandomSampler"])
def test_what_training_draws_is_left_alone_on_a_resume(kind, tmp_path):
    draws = []

    class Draw(Module):
        def training_step(self, batch, batch_idx):
            draws.append(float(torch.rand(())))
            return super().training_step(batch, batch_idx)

    saver = save_at_class("lightning.pytorch")(BATCHES + 2, tmp_path / "a.ckpt")
    first = [RandomStateCheckpoint(), ShuffleCallback(), saver]
    fit(tmp_path, LOADERS[kind](num_workers=1), first, module=Draw())
    whole = draws[BATCHES + 2 :]
    draws.clear()
    again = [RandomStateCheckpoint(), ShuffleCallback()]
    fit(tmp_path, LOADERS[kind](num_workers=1), again, 9, str(tmp_path / "a.ckpt"), module=Draw())
    assert draws == whole


class AsksForTheLength(Module):
    """Its schedule makes Lightning build the train loader before it reads the checkpoint's loops."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        steps = self.trainer.estimated_stepping_batches
        return [optimizer], [torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=int(steps))]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_schedule_that_asks_for_the_length_of_the_run_costs_no_loader_its_place(workers, tmp_path):
    def loader():
        sampler = ShuffleSampler(range(N))
        return ShuffleDataLoader(Numbers(), sampler=sampler, batch_size=BATCH, num_workers=workers)

    for callbacks in ([ShuffleCallback], []):
        saver = save_at_class("lightning.pytorch")(BATCHES + 2, tmp_path / "a.ckpt")
        whole, _ = fit(tmp_path, loader(), [*(c() for c in callbacks), saver], module=AsksForTheLength())
        rest, _ = fit(
            tmp_path, loader(), [c() for c in callbacks], 9, str(tmp_path / "a.ckpt"), module=AsksForTheLength()
        )
        assert (rest.seen == whole.seen[BATCHES + 2 :]) == bool(callbacks), "without it: so that the test can fail"


@pytest.mark.slow
def test_the_same_schedule_with_a_plain_loader(tmp_path):
    saver = save_at_class("lightning.pytorch")(BATCHES + 2, tmp_path / "a.ckpt")
    make = LOADERS["RandomSampler"]
    whole, _ = fit(tmp_path, make(num_workers=2), [ShuffleCallback(), saver], module=AsksForTheLength())
    rest, _ = fit(
        tmp_path, make(num_workers=2), [ShuffleCallback()], 9, str(tmp_path / "a.ckpt"), module=AsksForTheLength()
    )
    assert rest.seen == whole.seen[BATCHES + 2 :]


def test_several_loaders_each_keep_their_place(tmp_path):
    def loaders():
        return {kind: LOADERS[kind]() for kind in ("RandomSampler", "ShuffleDataLoader", "own batch sampler")}

    class Several(Module):
        def training_step(self, batch, batch_idx):
            self.seen.append({kind: part[:, 0].tolist() for kind, part in batch.items()})
            return super().training_step(batch["RandomSampler"], batch_idx)

    saver = save_at_class("lightning.pytorch")(BATCHES + 2, tmp_path / "a.ckpt")
    whole, _ = fit(tmp_path, loaders(), [ShuffleCallback(), saver], module=Several())
    rest, _ = fit(tmp_path, loaders(), [ShuffleCallback()], 9, str(tmp_path / "a.ckpt"), module=Several())
    assert rest.seen == whole.seen[2 * (BATCHES + 2) :]


@pytest.mark.slow
def test_the_state_after_a_resume_at_any_batch_is_that_of_the_uninterrupted_run(tmp_path):
    for step in range(1, 2 * BATCHES):
        first, second = ShuffleCallback(), ShuffleCallback()
        saver = save_at_class("lightning.pytorch")(step, tmp_path / "a.ckpt")
        fit(tmp_path, LOADERS["RandomSampler"](), [first, saver], max_epochs=2)
        fit(tmp_path, LOADERS["RandomSampler"](), [second], 9, str(tmp_path / "a.ckpt"), max_epochs=2)
        assert first.state_dict() == second.state_dict(), step


def test_what_is_logged(tmp_path):
    data = Chunked(2)
    sampler = ShuffleSampler(data, mode="block", window_chunks=2)
    _, trainer = fit(tmp_path, DataLoader(data, BATCH, sampler=sampler), [ShuffleCallback()])
    lines = [line for _, line in trainer.logger.lines if "shuffle/epoch" in line]
    assert [line["shuffle/epoch"] for line in lines] == [0.0, 1.0, 2.0]
    described = sampler.describe(batch_size=BATCH)
    assert lines[0]["shuffle/same_chunk_ratio"] == pytest.approx(described.same_chunk_ratio)
    assert lines[0]["shuffle/design_effect"] == pytest.approx(described.design_effect)


@pytest.mark.slow
def test_from_one_rank_to_two_every_sample_of_the_epoch_still_comes_once(tmp_path):
    """The global batch stays the same: 4 on one rank, 2 on each of two."""

    class Write(pl.Callback):
        def on_train_end(self, trainer, pl_module):
            (tmp_path / f"rank{trainer.global_rank}").write_text(repr(pl_module.seen))

    n = 24
    saver = save_at_class("lightning.pytorch")(8, tmp_path / "a.ckpt")
    one = DataLoader(Numbers(n), 4, sampler=ShuffleSampler(range(n)))
    whole, _ = fit(tmp_path, one, [ShuffleCallback(), saver], max_epochs=2)
    two = DataLoader(Numbers(n), 2, sampler=ShuffleSampler(range(n)))
    path = str(tmp_path / "a.ckpt")
    fit(tmp_path, two, [ShuffleCallback(), Write()], 9, path, devices=2, strategy="ddp_fork", max_epochs=2)
    ranks = [eval((tmp_path / f"rank{rank}").read_text()) for rank in range(2)]
    together = [(a[0], sorted(a[1] + b[1])) for a, b in zip(*ranks, strict=True)]
    assert together == [(epoch, sorted(batch)) for epoch, batch in whole.seen[8:]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"expect_shuffle": "yes"}, "expect_shuffle='yes'"), ({"action": "shout"}, "action='shout'")],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        ShuffleCallback(**arguments)
