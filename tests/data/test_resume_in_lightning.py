"""A resumed run sees the samples that the uninterrupted one would have seen, through Lightning's own Trainer."""

from __future__ import annotations

import json
from functools import cache

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import BatchSampler, TensorDataset

from stablelit.data import LengthBucketBatchSampler, ShuffleDataLoader, ShuffleSampler
from tests.contract.modules import make_trainer

N, GLOBAL_BATCH, EPOCHS = 44, 8, 3
STEPS = 6
DATA = TensorDataset(torch.arange(N))
LENGTHS = [1 + i * i % 13 for i in range(N)]

pytestmark = pytest.mark.filterwarnings("ignore")


class Recorder(pl.LightningModule):
    """Writes down the epoch and the samples of every batch that it is trained on, a file a rank."""

    def __init__(self, directory):
        super().__init__()
        self.directory = directory
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        with (self.directory / f"rank{self.trainer.global_rank}").open("a") as file:
            file.write(json.dumps([self.trainer.current_epoch, batch_idx, batch[0].tolist()]) + "\n")
        return self.weight * batch[0].float().mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class SaveEveryStep(pl.callbacks.Checkpoint):
    """Saves after every step, and once more where ModelCheckpoint does, at the end of an epoch."""

    def __init__(self, directory):
        self.directory = directory

    def on_train_batch_end(self, trainer, *args):
        trainer.save_checkpoint(self.directory / f"{trainer.global_step}.ckpt")

    def on_train_epoch_end(self, trainer, *args):
        trainer.save_checkpoint(self.directory / f"end-{trainer.global_step}.ckpt")


def loader(kind="full", ranks=1, **kwargs):
    sampler = ShuffleSampler(
        DATA, 7, mode="block" if kind == "block" else "full", chunk_sizes=[4] * 11, window_chunks=3
    )
    if kind == "fixed":
        batches = LengthBucketBatchSampler(sampler, LENGTHS, batch_size=GLOBAL_BATCH // ranks, pool_batches=2)
    elif kind == "budget":
        batches = LengthBucketBatchSampler(sampler, LENGTHS, max_tokens=70, pool_batches=2)
    elif kind == "torch":
        batches = BatchSampler(sampler, GLOBAL_BATCH // ranks, drop_last=False)
    else:
        return ShuffleDataLoader(DATA, sampler=sampler, batch_size=GLOBAL_BATCH // ranks, **kwargs)
    return ShuffleDataLoader(DATA, batch_sampler=batches, **kwargs)


def run(directory, callbacks=(), ckpt=None, kind="full", ranks=1, workers=0, persistent=False, **kwargs):
    """The (epoch, batch, samples of all ranks) of every step of a fit."""
    directory.mkdir()
    many = {"devices": ranks, "strategy": "ddp_fork"} if ranks > 1 else {}
    trainer = make_trainer(
        directory,
        list(callbacks),
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=bool(callbacks),
        **many,
        **kwargs,
    )
    data = loader(kind, ranks, num_workers=workers, persistent_workers=persistent)
    trainer.fit(Recorder(directory), data, torch.utils.data.DataLoader(DATA, 44), ckpt_path=ckpt and str(ckpt))
    files = [
        (directory / f"rank{r}").read_text().splitlines() for r in range(ranks) if (directory / f"rank{r}").exists()
    ]
    steps = zip(*([json.loads(line) for line in file] for file in files), strict=True)
    return [(s[0][0], s[0][1], sorted({i for part in s for i in part[2]})) for s in steps]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """An uninterrupted run's steps, and its checkpoints, by kind and ranks."""

    @cache
    def make(kind="full", ranks=1):
        directory = tmp_path_factory.mktemp("whole")
        return run(directory / "run", [SaveEveryStep(directory)], kind=kind, ranks=ranks), directory

    return make


@pytest.mark.slow
def test_an_uninterrupted_run_sees_every_sample_once_an_epoch(interrupted):
    steps, _ = interrupted()
    for epoch in range(EPOCHS):
        assert sorted(i for e, _, batch in steps if e == epoch for i in batch) == list(range(N))
    assert len(steps) == EPOCHS * STEPS


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", range(1, STEPS * 2))
def test_it_continues_at_every_batch(step, workers, interrupted, tmp_path):
    whole, checkpoints = interrupted()
    assert run(tmp_path / "b", ckpt=checkpoints / f"{step}.ckpt", workers=workers) == whole[step:]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [STEPS, 2 * STEPS])
def test_it_continues_at_the_end_of_an_epoch(step, workers, interrupted, tmp_path):
    whole, checkpoints = interrupted()
    assert run(tmp_path / "b", ckpt=checkpoints / f"end-{step}.ckpt", workers=workers) == whole[step:]


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 8])
def test_it_continues_with_persistent_workers(step, interrupted, tmp_path):
    whole, checkpoints = interrupted()
    resumed = run(tmp_path / "b", ckpt=checkpoints / f"{step}.ckpt", workers=2, persistent=True)
    assert resumed == whole[step:]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["block", "torch", "fixed", "budget"])
@pytest.mark.parametrize("step", [2, 7, 9])
def test_every_kind_of_order_continues(kind, step, interrupted, tmp_path):
    whole, checkpoints = interrupted(kind)
    assert run(tmp_path / "b", ckpt=checkpoints / f"{step}.ckpt", kind=kind) == whole[step:]


@pytest.mark.slow
def test_a_run_that_has_been_resumed_is_resumed_again(interrupted, tmp_path):
    whole, checkpoints = interrupted()
    steps = run(tmp_path / "b", [SaveEveryStep(tmp_path)], ckpt=checkpoints / "2.ckpt", workers=2)
    assert steps == whole[2:]
    assert run(tmp_path / "c", ckpt=tmp_path / "4.ckpt") == whole[4:]


@pytest.mark.parametrize("kind", ["full", "fixed"])
@pytest.mark.slow
def test_it_continues_on_two_and_then_on_four_ranks_and_back_on_one(kind, interrupted, tmp_path):
    whole, checkpoints = interrupted(kind)
    for ranks, ckpt, step in ((2, checkpoints / "2.ckpt", 2), (4, tmp_path / "4.ckpt", 4), (1, tmp_path / "9.ckpt", 9)):
        directory = tmp_path / f"on{ranks}"
        assert run(directory, [SaveEveryStep(tmp_path)], ckpt=ckpt, kind=kind, ranks=ranks) == whole[step:]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torch", "budget"])
def test_ranks_share_every_epoch_and_lightning_leaves_the_samplers_alone(kind, tmp_path):
    steps = run(tmp_path / "a", kind=kind, ranks=2)
    for epoch in range(EPOCHS):
        assert sorted(i for e, _, batch in steps if e == epoch for i in batch) == list(range(N))
    assert steps[:STEPS] != steps[STEPS : 2 * STEPS]


@pytest.mark.slow
def test_a_plain_loader_of_length_buckets_on_several_ranks_is_refused_with_what_to_use(tmp_path):
    buckets = LengthBucketBatchSampler(ShuffleSampler(DATA), LENGTHS, batch_size=4)
    trainer = make_trainer(tmp_path, [], max_epochs=1, logger=False, devices=2, strategy="ddp_fork")
    with pytest.raises(Exception, match="DistributedSampler; allowed: a ShuffleSampler.*use a ShuffleDataLoader"):
        trainer.fit(Recorder(tmp_path), torch.utils.data.DataLoader(DATA, batch_sampler=buckets))


@pytest.mark.slow
def test_ranks_that_do_not_divide_the_global_batch_are_refused_before_a_step(interrupted, tmp_path):
    _, checkpoints = interrupted()
    # batch_size 8 // 3 = 2 on three ranks
    with pytest.raises(Exception, match="3 ranks do not divide it: use 1, 2, 4, 8 ranks"):
        run(tmp_path / "b", ckpt=checkpoints / "2.ckpt", ranks=3)
    assert not (tmp_path / "b" / "rank0").exists()


def test_overfitting_a_few_batches_still_works(tmp_path):
    steps = run(tmp_path / "a", overfit_batches=2)
    assert [batch for _, _, batch in steps] == EPOCHS * [list(range(8)), list(range(8, 16))]
