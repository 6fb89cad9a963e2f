"""What shuffling costs: before the first batch, per batch, in storage, in a batch's variance, in padding, on a resume.

Everything that stands for a speed is a ratio to a peer timed in turn with it in the same process. Pulses are random
numbers: toy data, no statement about neutrinos.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler

from benchmarks.order_peers import (
    exhaust,
    first_batch_ms,
    grain_index_shuffle,
    paired,
    peak_mib,
    seconds,
    streaming_py1e,
)
from benchmarks.pulse_files import PulseFiles, concatenated, pulse_counts, write_files
from benchmarks.resume_fits import every_batch, other_ranks
from benchmarks.rows import Row, run
from benchmarks.shuffle_cost import cost_rows
from stablelit import LengthBucketBatchSampler, ShuffleDataLoader, ShuffleSampler
from stablelit.functional.length_buckets import padding_ratio
from stablelit.functional.shuffle_quality import batch_design_effect, label_icc

MILLION = 10**6
BATCH = 256


def order_rows() -> Iterator[Row]:
    """An epoch's order at sizes where drawing it whole takes seconds, gigabytes, or is not possible."""
    n = 10 * MILLION
    data = range(n)
    random_ms = first_batch_ms(lambda: iter(RandomSampler(data)), repeats=3)
    random_mib = peak_mib(lambda: exhaust(RandomSampler(data)))
    for size in (10 * MILLION, 100 * MILLION, 1000 * MILLION):
        sampler = ShuffleSampler(range(size))
        peer = ("RandomSampler", random_ms) if size == n else ("", None)
        name = f"order of {size // MILLION}M samples: first batch"
        yield Row(name, first_batch_ms(lambda s=sampler: iter(s), 15), "ms", 10.0, "lower", *peer, 15)
        peer = ("RandomSampler", random_mib) if size == n else ("", None)
        if size <= 100 * MILLION:
            drawn, action = "all of it", partial(exhaust, sampler)
        else:
            drawn, action = "4 places, 5M samples each", partial(stretches, sampler, size)
        yield Row(f"    peak memory ({drawn})", peak_mib(action), "MiB", 16.0, "lower", *peer)
    ours, peers, ratio = paired(lambda: exhaust(ShuffleSampler(data)), lambda: exhaust(RandomSampler(data)), 5)
    yield Row("order of 10M samples: total time over RandomSampler's", ratio, "x", 1.0, repeats=5)
    yield Row("    total time", ours, "s", None, "lower", "RandomSampler", peers, 5)
    yield from peer_rows(n)


def stretches(sampler: ShuffleSampler, size: int) -> None:
    for place in range(4):
        sampler.start = place * size // 4
        exhaust(islice(sampler, 5 * MILLION))


def peer_rows(n: int) -> Iterator[Row]:
    """The peers at the same size, against the same order of ours, which is timed in turn with each."""
    ours = ShuffleSampler(range(n))
    peers: dict[str, Callable[[], Iterator[int]]] = {
        "torch DistributedSampler": lambda: iter(DistributedSampler(range(n), num_replicas=1, rank=0)),
        "MosaicML Streaming py1e, re-stated": lambda: streaming_py1e(n),
    }
    try:
        from torchdata.stateful_dataloader.sampler import RandomSampler as StatefulRandomSampler

        peers["torchdata RandomSampler"] = lambda: iter(StatefulRandomSampler(range(n)))
    except ImportError:
        print("    (torchdata is not installed: its rows are left out)")
    for name, make in peers.items():
        _, _, ratio = paired(lambda make=make: exhaust(make()), lambda: exhaust(ours), 1)
        yield Row(f"    {name}, 10M: total time over ours", ratio, "x")
        yield Row("        its first batch", first_batch_ms(make, 1), "ms")
        yield Row("        its peak memory", peak_mib(lambda make=make: exhaust(make())), "MiB")
    shuffle_one = grain_index_shuffle()
    if shuffle_one is None:
        print("    (grain is not installed: its row is left out)")
        return
    some = MILLION // 5
    _, _, ratio = paired(
        lambda: exhaust(shuffle_one(i, max_index=n - 1, seed=3, rounds=4) for i in range(some)),
        lambda: exhaust(islice(ours, some)),
        3,
    )
    yield Row("    Google Grain index_shuffle, 10M (200K drawn): time over ours", ratio, "x", repeats=3)


def overhead_rows() -> Iterator[Row]:
    for size, repeats in ((10_000, 61), (100_000, 21), (900_000, 9)):
        ours = BatchSampler(ShuffleSampler(range(size)), BATCH, False)
        peer = BatchSampler(RandomSampler(range(size)), BATCH, False)
        mine, theirs, ratio = paired(lambda o=ours: exhaust(o), lambda p=peer: exhaust(p), repeats)
        yield Row(f"sampler per batch of {BATCH} at {size}: over RandomSampler's", ratio, "x", 1.0, repeats=repeats)
        scale = 1e6 / len(ours)
        yield Row("    time a batch", scale * mine, "us", None, "lower", "RandomSampler", scale * theirs, repeats)


def storage_rows() -> Iterator[Row]:
    files, events = 6, 20_000
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        write_files(folder, files, events)

        def loader(mode: str, window: int = 1, cache: int = 1, as_arrays: bool = False) -> ShuffleDataLoader:
            data = PulseFiles(folder, events, cache, as_arrays)
            sampler = ShuffleSampler(data, mode=mode, window_chunks=window)  # type: ignore[arg-type]
            return ShuffleDataLoader(data, sampler=sampler, batch_size=BATCH, collate_fn=concatenated)

        def epoch(mode: str, **kwargs: Any) -> Callable[[], None]:
            return lambda: exhaust(loader(mode, **kwargs))

        batches = files * events // BATCH
        # what is measured is a few percent of what it is measured in
        block, sequential, ratio = paired(epoch("block"), epoch("sequential"), 9)
        name = f"{files} parquet files of {events} events, cache of 1: block order over sequential"
        yield Row(name, ratio, "x", 1.1, repeats=9)
        scale = 1e3 / batches
        yield Row("    time a batch, block", scale * block, "ms", None, "lower", "sequential", scale * sequential, 9)
        fast, _, ratio = paired(epoch("block", as_arrays=True), epoch("sequential", as_arrays=True), 5)
        beside = ("its time a batch, ms", scale * fast)
        yield Row("    the same where events are views of one array", ratio, "x", None, "lower", *beside, 5)
        mixed = seconds(epoch("block", window=3, cache=3))
        yield Row("    3 files mixed, cache of 3: over sequential", mixed / sequential, "x")
        cached = seconds(epoch("full", cache=files))
        yield Row("    plain random, everything cached: over sequential", cached / sequential, "x")
        plain = loader("full")
        drawn = 2
        took = seconds(lambda: exhaust(islice(plain, drawn))) / drawn
        yield Row("    plain random, cache of 1: over sequential", took / (sequential / batches), "x", 100, "higher")
        foretold = plain.sampler.describe(BATCH).loads_per_batch
        yield Row("    its file loads a batch", plain.dataset.loads / drawn, "", None, "lower", "describe()", foretold)


def variance_rows() -> Iterator[Row]:
    n, chunk, icc, epochs = 900_000, 4000, 0.02, 20
    chunk_id = np.arange(n) // chunk
    rng = np.random.default_rng(0)
    labels = np.sqrt(icc) * rng.normal(size=n // chunk)[chunk_id] + np.sqrt(1 - icc) * rng.normal(size=n)
    yield Row("labels of 225 chunks of 4000: intra-class correlation", label_icc(labels, chunk_id), "", repeats=1)
    cases = (
        ("64 chunks mixed", "block", 64, 1.1),
        ("16 chunks mixed", "block", 16, None),
        ("1 chunk", "block", 1, None),
    )
    for name, mode, window, floor in (*cases, ("full shuffle", "full", 1, None)):
        sampler = ShuffleSampler(range(n), mode=mode, chunk_sizes=[chunk] * (n // chunk), window_chunks=window)
        effects = []
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            order = np.fromiter(sampler, dtype=np.int64, count=n)
            effects.append(batch_design_effect(labels[order], BATCH))
        told = sampler.describe(BATCH, icc).design_effect
        yield Row(
            f"    batch design effect, {name}", float(np.mean(effects)), "", floor, "lower", "describe()", told, epochs
        )


def padding_rows() -> Iterator[Row]:
    lengths = pulse_counts(64 * BATCH * 4, np.random.default_rng(0)).clip(1, 512)
    sampler = ShuffleSampler(range(len(lengths)))
    random = padding_ratio(lengths[batch] for batch in BatchSampler(sampler, BATCH, True))
    buckets = LengthBucketBatchSampler(sampler, lengths, batch_size=BATCH)
    beside = ("random batches", random)
    yield Row(
        "padding, cap 512, batch 256: padded over real pulses", buckets.padding_ratio(), "x", 1.06, "lower", *beside
    )
    budget = LengthBucketBatchSampler(sampler, lengths, max_tokens=BATCH * 96)
    yield Row("    with a budget of 24,576 padded pulses", budget.padding_ratio(), "x", 1.06, "lower", *beside)
    layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)

    def step(batch: np.ndarray) -> None:
        longest = int(lengths[batch].max())
        x = torch.randn(len(batch), longest, 32)
        padding = torch.arange(longest) >= torch.as_tensor(lengths[batch])[:, None]
        layer(x, src_key_padding_mask=padding).square().mean().backward()

    # a pool has 64 batches; every fourth of them in order of length stands for all
    pool = sorted(islice(buckets, 64), key=lambda batch: lengths[batch].max())[2::4]
    plain = [np.array(batch) for batch in islice(BatchSampler(sampler, BATCH, True), 3)]
    ratios = []
    for batch in plain:
        per_pulse = seconds(partial(step, batch)) / lengths[batch].sum()
        bucketed = sum(seconds(partial(step, np.array(b))) for b in pool) / sum(lengths[b].sum() for b in pool)
        ratios.append(float(per_pulse / bucketed))
    yield Row(
        "    an encoder layer, forward and backward: random over bucketed",
        statistics.median(ratios),
        "x",
        4,
        "higher",
        repeats=3,
    )


def resume_rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        for workers in (0, 2):
            wrong, stops = every_batch(folder / f"w{workers}", workers)
            yield Row(
                f"resume at every batch, {workers} workers: steps with other samples", wrong, "", 0, repeats=stops
            )
        wrong, stops = every_batch(folder / "buckets", 0, buckets=True)
        yield Row("    the same with length buckets", wrong, "", 0, repeats=stops)
        for buckets, name in ((False, "ShuffleSampler"), (True, "length buckets")):
            wrong = other_ranks(folder / f"ranks{buckets}", buckets)
            yield Row(f"resume on 1 -> 2 -> 4 -> 1 ranks, {name}: steps with other samples", wrong, "", 0, repeats=3)


def rows() -> Iterator[Row]:
    # first: it forks, and measures memory
    yield from order_rows()
    yield from overhead_rows()
    yield from resume_rows()
    yield from variance_rows()
    yield from padding_rows()
    yield from storage_rows()
    yield from cost_rows()


if __name__ == "__main__":
    raise SystemExit(run("shuffle", rows()))
