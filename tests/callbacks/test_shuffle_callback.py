from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
    random_split,
)

from stablelit.callbacks import RandomStateCheckpoint, ShuffleCallback
from stablelit.data import LengthBucketBatchSampler, ShuffleDataLoader, ShuffleSampler
from stablelit.errors import ConfigurationError
from stablelit.findings import FindingError, read_findings
from tests.contract.modules import make_trainer, save_at_class

pytestmark = pytest.mark.filterwarnings("ignore")
N, BATCH = 26, 4
LENGTHS = [1 + i % 5 for i in range(N)]
BATCHES = 7  # the last one is short


class Numbers(Dataset):
    """Sample i is i."""

    def __init__(self, n=N):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return torch.tensor([float(index)])


class Lists(Numbers):
    """Reads a batch at once."""

    def __getitem__(self, indices):
        return torch.tensor(indices, dtype=torch.float)[:, None]


class Chunked(Numbers):
    """Four chunks, of which `cache_size` are kept."""

    def __init__(self, cache_size, n=40):
        super().__init__(n)
        self.chunk_sizes = [n // 4] * 4
        self.cache_size = cache_size


class Module(pl.LightningModule):
    """Notes what it is given."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, [int(i) for i in batch[:, 0]]))
        return self.layer(batch).mean() * 1e-6 + 0.0 * torch.randn(())

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class OfAnEpoch(Sampler):
    """Somebody's sampler: a pure function of the epoch."""

    def __init__(self, n=N):
        self.n, self.epoch = n, 0

    def __len__(self):
        return self.n

    def __iter__(self):
        return iter(torch.randperm(self.n, generator=torch.Generator().manual_seed(self.epoch)).tolist())

    def set_epoch(self, epoch):
        self.epoch = epoch


class OwnBatches(Sampler):
    """Somebody's batch sampler: a pure function of the epoch, of which Lightning does not tell it."""

    def __init__(self):
        self.inner = OfAnEpoch()

    def __len__(self):
        return BATCHES

    def __iter__(self):
        return iter(BatchSampler(self.inner, BATCH, False))

    def set_epoch(self, epoch):
        self.inner.set_epoch(epoch)


LOADERS = {
    "RandomSampler": lambda **kw: DataLoader(Numbers(), BATCH, shuffle=True, **kw),
    "RandomSampler with a generator": lambda **kw: DataLoader(
        Numbers(), BATCH, shuffle=True, generator=torch.Generator().manual_seed(5), **kw
    ),
    "WeightedRandomSampler": lambda **kw: DataLoader(
        Numbers(), BATCH, sampler=WeightedRandomSampler([1.0] * N, N), **kw
    ),
    "SubsetRandomSampler": lambda **kw: DataLoader(Numbers(), BATCH, sampler=SubsetRandomSampler(range(N)), **kw),
    "ShuffleSampler": lambda **kw: DataLoader(Numbers(), BATCH, sampler=ShuffleSampler(range(N), seed=3), **kw),
    "DistributedSampler": lambda **kw: DataLoader(
        Numbers(), BATCH, sampler=DistributedSampler(range(N), num_replicas=1, rank=0), **kw
    ),
    "own sampler": lambda **kw: DataLoader(Numbers(), BATCH, sampler=OfAnEpoch(), **kw),
    "own batch sampler": lambda **kw: DataLoader(Numbers(), batch_sampler=OwnBatches(), **kw),
    "buckets": lambda **kw: DataLoader(
        Numbers(),
        batch_sampler=LengthBucketBatchSampler(ShuffleSampler(range(N)), [1 + i % 5 for i in range(N)], BATCH),
        **kw,
    ),
    "lists of samples": lambda **kw: DataLoader(
        Lists(), batch_size=None, sampler=BatchSampler(OfAnEpoch(), BATCH, False), **kw
    ),
    "ShuffleDataLoader": lambda **kw: ShuffleDataLoader(Numbers(), sampler=ShuffleSampler(range(N)), batch_size=BATCH),
}


def fit(directory, loader, callbacks, seed=0, ckpt_path=None, module=None, val=None, **kwargs):
    torch.manual_seed(seed)
    module = module or Module()
    saves = any(isinstance(c, pl.callbacks.Checkpoint) for c in callbacks)
    trainer = make_trainer(directory, callbacks, enable_checkpointing=saves, **kwargs)
    trainer.fit(module, loader, val, ckpt_path=ckpt_path)
    return module, trainer


def resumed(directory, make_loader, step, callback=ShuffleCallback, **kwargs):
    """What the whole run saw after the step, and what the run resumed there saw."""
    saver = save_at_class("lightning.pytorch")(step, directory / "a.ckpt")
    whole, _ = fit(directory, make_loader(), [callback(), RandomStateCheckpoint(), saver], **kwargs)
    loader = make_loader()
    rest, trainer = fit(
        directory, loader, [callback(), RandomStateCheckpoint()], 99, str(directory / "a.ckpt"), **kwargs
    )
    return whole.seen[step:], rest.seen, trainer


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
@pytest.mark.parametrize("step", [3, BATCHES, BATCHES + 2])
@pytest.mark.parametrize("kind", ["RandomSampler", "ShuffleSampler", "own batch sampler", "lists of samples"])
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


def test_every_sample_of_every_epoch_comes_once_and_in_another_order(tmp_path):
    module, _ = fit(tmp_path, LOADERS["RandomSampler"](num_workers=2), [ShuffleCallback()])
    epochs = [[i for e, batch in module.seen if e == epoch for i in batch] for epoch in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(N))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_order_is_that_of_the_runs_seed(tmp_path):
    same = [fit(tmp_path, LOADERS["RandomSampler"](), [ShuffleCallback()], seed)[0].seen for seed in (1, 1, 2)]
    assert same[0] == same[1] != same[2]


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


def test_the_same_schedule_with_a_plain_loader(tmp_path):
    saver = save_at_class("lightning.pytorch")(BATCHES + 2, tmp_path / "a.ckpt")
    make = LOADERS["RandomSampler"]
    whole, _ = fit(tmp_path, make(num_workers=2), [ShuffleCallback(), saver], module=AsksForTheLength())
    rest, _ = fit(
        tmp_path, make(num_workers=2), [ShuffleCallback()], 9, str(tmp_path / "a.ckpt"), module=AsksForTheLength()
    )
    assert rest.seen == whole.seen[BATCHES + 2 :]


def checkpoint_inside_an_epoch(tmp_path, loader=None, step=BATCHES + 2):
    saver = save_at_class("lightning.pytorch")(step, tmp_path / "a.ckpt")
    fit(tmp_path, loader or LOADERS["own sampler"](), [ShuffleCallback(), saver])
    return str(tmp_path / "a.ckpt")


def test_other_data_inside_an_epoch_are_an_error_with_both_values(tmp_path):
    path = checkpoint_inside_an_epoch(tmp_path)
    with pytest.raises(ConfigurationError, match="epoch over 26 samples, the data now have 30"):
        fit(tmp_path, DataLoader(Numbers(30), BATCH, sampler=OfAnEpoch(30)), [ShuffleCallback()], ckpt_path=path)


def test_other_batches_inside_an_epoch_are_an_error_with_both_values(tmp_path):
    path = checkpoint_inside_an_epoch(tmp_path)
    with pytest.raises(ConfigurationError, match=r"global batches of 4 samples, they now have 2 \(2 on each of 1"):
        fit(tmp_path, DataLoader(Numbers(), 2, sampler=OfAnEpoch()), [ShuffleCallback()], ckpt_path=path)


@pytest.mark.parametrize(("n", "batch"), [(30, 5), (50, 4), (8, 4)])
def test_other_data_at_an_epochs_end_are_welcome(n, batch, tmp_path):
    path = checkpoint_inside_an_epoch(tmp_path, step=BATCHES)
    module, _ = fit(tmp_path, DataLoader(Numbers(n), batch, sampler=OfAnEpoch(n)), [ShuffleCallback()], ckpt_path=path)
    assert sorted(i for e, batch in module.seen if e == 1 for i in batch) == list(range(n))


def test_data_of_which_a_lenient_sampler_takes_no_place_begin_anew(tmp_path):
    path = checkpoint_inside_an_epoch(tmp_path, LOADERS["ShuffleSampler"]())
    lenient = ShuffleSampler(range(N), seed=3, mode="sequential", strict=False)
    module, _ = fit(tmp_path, DataLoader(Numbers(), BATCH, sampler=lenient), [ShuffleCallback()], ckpt_path=path)
    assert module.seen[0] == (1, [0, 1, 2, 3])


def test_another_order_of_the_sampler_is_an_error_too(tmp_path):
    path = checkpoint_inside_an_epoch(tmp_path, LOADERS["ShuffleSampler"]())
    other = DataLoader(Numbers(), BATCH, sampler=ShuffleSampler(range(N), mode="sequential"))
    with pytest.raises(ConfigurationError, match="mode='full'"):
        fit(tmp_path, other, [ShuffleCallback()], ckpt_path=path)


def test_an_iterable_data_set_loses_its_place_and_that_is_said(tmp_path):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(torch.arange(28.0)[:, None])

        def __len__(self):
            return 28

    path = checkpoint_inside_an_epoch(tmp_path, DataLoader(Stream(), BATCH))
    assert [f.name for f in read_findings(tmp_path)] == ["order-repeats"]
    with pytest.raises(FindingError, match="place-lost: the run goes on behind batch 2.*Stream"):
        fit(tmp_path, DataLoader(Stream(), BATCH), [ShuffleCallback(action="raise")], ckpt_path=path)


def test_a_sampler_of_which_nothing_is_known_is_said(tmp_path):
    class Whim(Sampler):
        def __len__(self):
            return N

        def __iter__(self):
            return iter(torch.randperm(N).tolist())

    path = checkpoint_inside_an_epoch(tmp_path, DataLoader(Numbers(), BATCH, sampler=Whim()))
    with pytest.raises(FindingError, match="order-not-kept.*Whim cannot draw again"):
        fit(
            tmp_path,
            DataLoader(Numbers(), BATCH, sampler=Whim()),
            [ShuffleCallback(action="raise")],
            ckpt_path=path,
        )


def test_a_checkpoint_of_a_run_without_it_has_no_order_to_find_again(tmp_path):
    saver = save_at_class("lightning.pytorch")(3, tmp_path / "a.ckpt")
    fit(tmp_path, LOADERS["RandomSampler"](), [saver])
    _, trainer = fit(tmp_path, LOADERS["RandomSampler"](), [ShuffleCallback()], ckpt_path=str(tmp_path / "a.ckpt"))
    assert [f.name for f in read_findings(tmp_path)] == ["order-not-kept"]


def test_a_checkpoint_of_a_run_without_it_keeps_the_order_of_an_epoch(tmp_path):
    saver = save_at_class("lightning.pytorch")(3, tmp_path / "a.ckpt")
    whole, _ = fit(tmp_path, LOADERS["own sampler"](), [saver])
    rest, _ = fit(tmp_path, LOADERS["own sampler"](), [ShuffleCallback()], 9, str(tmp_path / "a.ckpt"))
    assert rest.seen == whole.seen[3:]


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


def names(directory, loader, callback=None, **kwargs):
    fit(directory, loader, [callback or ShuffleCallback()], **kwargs)
    return [finding.name for finding in read_findings(directory)]


@pytest.mark.parametrize(
    "loader",
    [
        lambda: DataLoader(Numbers(), BATCH),
        lambda: DataLoader(Numbers(), BATCH, sampler=DistributedSampler(range(N), 1, 0, shuffle=False)),
        lambda: DataLoader(Numbers(), BATCH, sampler=ShuffleSampler(range(N), mode="sequential")),
        lambda: DataLoader(Numbers(), batch_sampler=BatchSampler(SequentialSampler(range(N)), BATCH, False)),
    ],
)
def test_a_train_loader_that_is_not_shuffled_is_said(loader, tmp_path):
    assert "train-not-shuffled" in names(tmp_path, loader(), max_epochs=1)
    for file in tmp_path.glob("findings*"):
        file.unlink()
    assert names(tmp_path, loader(), ShuffleCallback(expect_shuffle=False)) == []


@pytest.mark.parametrize("kind", LOADERS)
def test_a_shuffled_one_is_not(kind, tmp_path):
    assert names(tmp_path, LOADERS[kind]()) == []


def test_under_overfit_batches_nothing_is_expected(tmp_path):
    assert names(tmp_path, LOADERS["RandomSampler"](), overfit_batches=2) == []


@pytest.mark.parametrize(
    ("loader", "name"),
    [
        (lambda data: DataLoader(data, BATCH, shuffle=True), "cache-below-window"),
        (lambda data: DataLoader(data, BATCH, sampler=ShuffleSampler(data)), "cache-below-window"),
        (
            lambda data: DataLoader(data, BATCH, sampler=ShuffleSampler(data, mode="block", window_chunks=3)),
            "cache-below-window",
        ),
        (lambda data: DataLoader(random_split(data, [20, 20])[0], BATCH, shuffle=True), "subset-read-at-random"),
        (lambda data: DataLoader(random_split(data, [20, 20])[0], BATCH), "subset-read-at-random"),
    ],
)
def test_random_access_beyond_the_cache_is_said_with_the_loads_that_it_costs(loader, name, tmp_path):
    with pytest.raises(FindingError, match=r"about \d+ chunks are loaded for every batch of 4") as error:
        fit(tmp_path, loader(Chunked(1)), [ShuffleCallback(expect_shuffle=False, action="raise")])
    finding = error.value.finding
    assert finding.name == name
    mixed = finding.evidence["chunks_mixed"]
    assert finding.evidence["loads_per_batch"] == pytest.approx(BATCH * (1 - 1 / mixed), abs=0.01)
    assert f"cache_size={mixed}" in finding.remedy


@pytest.mark.parametrize(
    "loader",
    [
        lambda: DataLoader(Chunked(4), BATCH, shuffle=True),
        lambda: DataLoader(Chunked(1), BATCH),
        lambda: DataLoader(Chunked(2), BATCH, sampler=ShuffleSampler(Chunked(2), mode="block", window_chunks=2)),
        lambda: DataLoader(Subset(Chunked(1), range(20)), BATCH),
        lambda: DataLoader(random_split(Numbers(), [13, 13])[0], BATCH, shuffle=True),
    ],
)
def test_access_within_the_cache_is_not(loader, tmp_path):
    assert names(tmp_path, loader(), ShuffleCallback(expect_shuffle=False)) == []


def test_an_order_that_does_not_change_is_said_once(tmp_path):
    class Frozen(OfAnEpoch):
        def set_epoch(self, epoch):
            pass

    assert names(tmp_path, DataLoader(Numbers(), BATCH, sampler=Frozen())) == ["order-repeats"]


def test_also_across_a_resume(tmp_path):
    class Frozen(OfAnEpoch):
        def set_epoch(self, epoch):
            pass

    def loader():
        return DataLoader(Numbers(), BATCH, sampler=Frozen())

    path = checkpoint_inside_an_epoch(tmp_path, loader(), step=3)
    (tmp_path / "findings.jsonl").unlink()
    fit(tmp_path, loader(), [ShuffleCallback()], ckpt_path=path)
    assert [f.name for f in read_findings(tmp_path)] == ["order-repeats"]


def test_the_state_after_a_resume_at_any_batch_is_that_of_the_uninterrupted_run(tmp_path):
    for step in range(1, 2 * BATCHES):
        first, second = ShuffleCallback(), ShuffleCallback()
        saver = save_at_class("lightning.pytorch")(step, tmp_path / "a.ckpt")
        fit(tmp_path, LOADERS["RandomSampler"](), [first, saver], max_epochs=2)
        fit(tmp_path, LOADERS["RandomSampler"](), [second], 9, str(tmp_path / "a.ckpt"), max_epochs=2)
        assert first.state_dict() == second.state_dict(), step


def test_batches_of_which_nothing_is_known_are_no_alarm(tmp_path):
    class Words(Numbers):
        def __getitem__(self, index):
            return "word"

    class Reads(Module):
        def training_step(self, batch, batch_idx):
            return self.layer(torch.ones(1, 1)).mean()

    assert names(tmp_path, DataLoader(Words(), BATCH, shuffle=True), module=Reads()) == []


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_data_of_a_batch_or_less_are_no_alarm(n, tmp_path):
    assert names(tmp_path, DataLoader(Numbers(n), BATCH, shuffle=True)) == []


def test_constant_data_are_no_alarm(tmp_path):
    class Constant(Numbers):
        def __getitem__(self, index):
            return torch.ones(1)

    assert names(tmp_path, DataLoader(Constant(), BATCH, shuffle=True)) == []


def test_a_finding_may_stop_the_run(tmp_path):
    _, trainer = fit(tmp_path, DataLoader(Numbers(), BATCH), [ShuffleCallback(action="stop")])
    assert trainer.global_step < 3 * BATCHES


def test_what_is_logged(tmp_path):
    data = Chunked(2)
    sampler = ShuffleSampler(data, mode="block", window_chunks=2)
    _, trainer = fit(tmp_path, DataLoader(data, BATCH, sampler=sampler), [ShuffleCallback()])
    lines = [line for _, line in trainer.logger.lines if "shuffle/epoch" in line]
    assert [line["shuffle/epoch"] for line in lines] == [0.0, 1.0, 2.0]
    described = sampler.describe(batch_size=BATCH)
    assert lines[0]["shuffle/same_chunk_ratio"] == pytest.approx(described.same_chunk_ratio)
    assert lines[0]["shuffle/design_effect"] == pytest.approx(described.design_effect)


@pytest.mark.parametrize(
    ("loader", "expected"),
    [
        (lambda: DataLoader(Numbers(), BATCH, sampler=OfAnEpoch()), ["sampler-replaced"]),
        (lambda: DataLoader(Numbers(), BATCH, shuffle=True), []),
        (lambda: DataLoader(Numbers(), BATCH, sampler=ShuffleSampler(range(N))), []),
        (lambda: DataLoader(Numbers(), batch_sampler=Buckets(ShuffleSampler(range(N)), BATCH, False)), None),
    ],
)
def test_with_two_ranks_a_sampler_that_lightning_replaced_is_said(loader, expected, tmp_path):
    fit(tmp_path, loader(), [ShuffleCallback()], devices=2, strategy="ddp_fork", max_epochs=2)
    found = [finding.name for finding in read_findings(tmp_path)]
    assert found == (["sampler-replaced"] if expected is None else expected)


class Buckets(BatchSampler):
    """Somebody's subclass, which Lightning builds anew around a sampler of its own."""


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
