from __future__ import annotations

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    Sampler,
)

from stablelit.callbacks import ShuffleCallback
from stablelit.data import LengthBucketBatchSampler, ShuffleSampler
from stablelit.errors import ConfigurationError
from stablelit.findings import FindingError, read_findings
from tests.callbacks.numbered_data import (
    BATCH,
    BATCHES,
    LOADERS,
    Lists,
    N,
    Numbers,
    OfAnEpoch,
    checkpoint_inside_an_epoch,
    fit,
)
from tests.contract.modules import save_at_class

pytestmark = pytest.mark.filterwarnings("ignore")


def test_other_data_inside_an_epoch_are_an_error_with_both_values(tmp_path):
    path = checkpoint_inside_an_epoch(tmp_path)
    with pytest.raises(ConfigurationError, match="epoch over 26 samples, the data now have 30"):
        fit(tmp_path, DataLoader(Numbers(30), BATCH, sampler=OfAnEpoch(30)), [ShuffleCallback()], ckpt_path=path)


def test_other_batches_inside_an_epoch_are_an_error_with_both_values(tmp_path):
    path = checkpoint_inside_an_epoch(tmp_path)
    with pytest.raises(ConfigurationError, match=r"global batches of 4 samples, they now have 2 \(2 on each of 1"):
        fit(tmp_path, DataLoader(Numbers(), 2, sampler=OfAnEpoch()), [ShuffleCallback()], ckpt_path=path)


def buckets(batch_size=None, **kwargs):
    lengths = [1 + i % 5 for i in range(N)]
    batches = LengthBucketBatchSampler(ShuffleSampler(range(N)), lengths, batch_size, **kwargs)
    return DataLoader(Numbers(), batch_sampler=batches)


class UpTo(Sampler):
    """Somebody's batches, of which nobody says how large they are."""

    def __init__(self, most):
        self.most = most

    def __len__(self):
        return -(-N // self.most)

    def __iter__(self):
        return iter(BatchSampler(range(N), self.most, False))

    def set_epoch(self, epoch):
        pass


OTHERWISE_BATCHED = {
    # of larger batches an epoch has fewer than were trained on: there was no place left in it to refuse
    "larger": (
        lambda: DataLoader(Numbers(), 4, sampler=OfAnEpoch()),
        lambda: DataLoader(Numbers(), 13),
        "now have 13",
    ),
    "of-a-batch-sampler": (
        lambda: DataLoader(Numbers(), batch_sampler=BatchSampler(OfAnEpoch(), 4, False)),
        lambda: DataLoader(Numbers(), batch_sampler=BatchSampler(OfAnEpoch(), 8, False)),
        "4 samples, they now have 8",
    ),
    "lists-of-samples": (
        lambda: DataLoader(Lists(), batch_size=None, sampler=BatchSampler(OfAnEpoch(), 4, False)),
        lambda: DataLoader(Lists(), batch_size=None, sampler=BatchSampler(OfAnEpoch(), 2, False)),
        "4 samples, they now have 2",
    ),
    "buckets": (lambda: buckets(4), lambda: buckets(13), "4 samples, they now have 13"),
    "budgets": (lambda: buckets(max_tokens=12), lambda: buckets(max_tokens=20), "max_tokens=12, now it has 20"),
    "somebodys-own": (
        lambda: DataLoader(Numbers(), batch_sampler=UpTo(4)),
        lambda: DataLoader(Numbers(), batch_sampler=UpTo(5)),
        "an epoch of 7 batches, it now has 6",
    ),
}


@pytest.mark.parametrize(("before", "now", "says"), OTHERWISE_BATCHED.values(), ids=OTHERWISE_BATCHED)
def test_other_batches_are_refused_whoever_makes_them(before, now, says, tmp_path):
    path = checkpoint_inside_an_epoch(tmp_path, before())
    with pytest.raises(ConfigurationError, match=says):
        fit(tmp_path, now(), [ShuffleCallback()], ckpt_path=path)


@pytest.mark.slow
@pytest.mark.parametrize("case", OTHERWISE_BATCHED)
def test_the_same_batches_are_taken_whoever_makes_them(case, tmp_path):
    make, _, _ = OTHERWISE_BATCHED[case]
    saver = save_at_class("lightning.pytorch")(BATCHES + 2, tmp_path / "a.ckpt")
    whole, _ = fit(tmp_path, make(), [ShuffleCallback(), saver])
    rest, _ = fit(tmp_path, make(), [ShuffleCallback()], 9, str(tmp_path / "a.ckpt"))
    assert rest.seen == whole.seen[BATCHES + 2 :]


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
