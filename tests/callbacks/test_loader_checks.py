from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    SequentialSampler,
    Subset,
    random_split,
)

from stablelit.callbacks import ShuffleCallback
from stablelit.data import EvaluationBatches, ShuffleDataLoader, ShuffleSampler
from stablelit.findings import FindingError, read_findings
from tests.callbacks.numbered_data import (
    BATCH,
    BATCHES,
    LOADERS,
    Chunked,
    Module,
    N,
    Numbers,
    OfAnEpoch,
    checkpoint_inside_an_epoch,
    fit,
)
from tests.contract.modules import make_trainer
from tests.ranks.two_ranks import in_a_process

pytestmark = pytest.mark.filterwarnings("ignore")


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


@pytest.mark.parametrize(
    "attributes", [{"cache_size": "4 GiB"}, {"cache_size": 0}, {"cache_size": True}, {"chunk_sizes": "4 MiB"}]
)
@pytest.mark.parametrize("subset", [False, True])
def test_an_attribute_that_merely_has_one_of_our_names_stops_no_run(subset, attributes, tmp_path):
    data = Chunked(1)
    vars(data).update(attributes)
    source = random_split(data, [20, 20])[0] if subset else data
    assert names(tmp_path, DataLoader(source, BATCH, shuffle=True), max_epochs=1) == []


def test_a_cache_size_of_numpy_is_one(tmp_path):
    assert names(tmp_path, DataLoader(Chunked(np.int64(1)), BATCH, shuffle=True)) == ["cache-below-window"]
    assert read_findings(tmp_path)[0].evidence["cache_size"] == 1


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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("n", [4, 5])
def test_with_two_ranks_a_sample_that_is_evaluated_twice_is_said_once(n, tmp_path):
    plain = DataLoader(Numbers(n), 2)
    order = ShuffleSampler(range(n), mode="sequential")
    once = ShuffleDataLoader(Numbers(n), batch_sampler=EvaluationBatches(order, 2))
    in_a_process(evaluate, [plain, once], tmp_path)
    found = read_findings(tmp_path)
    assert [finding.name for finding in found] == ["evaluation-repeats-samples"] * (n % 2)
    assert [finding.evidence for finding in found] == [{"repeated": 1, "samples": 5, "ranks": 2}] * (n % 2)


def evaluate(loaders, directory):
    trainer = make_trainer(directory, [ShuffleCallback()], devices=2, strategy="ddp_fork")
    trainer.validate(Evaluated(), loaders, verbose=False)


class Evaluated(Module):
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        return None


class Buckets(BatchSampler):
    """Somebody's subclass, which Lightning builds anew around a sampler of its own."""
