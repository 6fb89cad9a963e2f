"""Speed of the proteins family: a training step beside the reference's, padding, and reading FASTA."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.proteins_reference import ReferenceTransformer, reference_loss
from benchmarks.rows import Row, run
from stablelit import LengthBucketBatchSampler, ShuffleSampler
from stablelit.families.proteins import AMINO_ACIDS, ScoreEntropyDiffusion, encode
from stablelit.families.proteins.corpora import LogNormalLengths
from stablelit.families.proteins.diffusion import AbsorbingGraph, LogLinearNoise
from stablelit.families.proteins.readers.fasta import FastaReader

# d, blocks, heads, L, B
SHAPES = ((64, 2, 4, 64, 32), (256, 4, 8, 256, 8))
ROUNDS = 15


def batch_of(n: int, length: int) -> dict[str, torch.Tensor]:
    tokens = torch.randint(20, (n, length), generator=torch.Generator().manual_seed(0))
    every = torch.ones(n, length, dtype=torch.bool)
    return {"tokens": tokens, "loss_mask": every, "pad_mask": every, "id": torch.arange(n), "has_padding": False}


def our_step(width: int, blocks: int, heads: int, length: int, n: int) -> Callable[[], Any]:
    network = {"d_model": width, "blocks": blocks, "heads": heads, "dropout": 0.1, "gate_init": 1.0}
    module = ScoreEntropyDiffusion(network)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-4)
    batch = batch_of(n, length)

    def step() -> None:
        u = (torch.arange(n) + torch.rand(n)) / n
        nats = module.objective.draw(module._head(batch), batch["tokens"], batch["loss_mask"], u, 1.0).nats
        optimizer.zero_grad()
        (nats.sum() / (n * length)).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()

    return step


def reference_step(width: int, blocks: int, heads: int, length: int, n: int) -> Callable[[], Any]:
    network = ReferenceTransformer(20, width, blocks, heads)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4)
    x0, graph, noise = batch_of(n, length)["tokens"], AbsorbingGraph(20), LogLinearNoise()

    def step() -> None:
        t = 1e-3 + (1 - 1e-3) * torch.rand(n)
        sigma, rate = noise.sigma(t), noise.rate(t)
        codes = graph.corrupt(x0, sigma, None)
        loss = reference_loss(network(codes, sigma), sigma, rate, codes, x0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


def seconds(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def step_rows() -> Iterator[Row]:
    for shape in SHAPES:
        torch.manual_seed(0)
        ours, theirs = our_step(*shape), reference_step(*shape)
        for work in (ours, theirs):
            work()
        # by turns: what else the machine does falls on both
        ratios = [seconds(ours) / seconds(theirs) for _ in range(ROUNDS)]
        name = f"training step over the reference's, d={shape[0]}, L={shape[3]}"
        yield Row(name, statistics.median(ratios), "x", 0.85, "lower", repeats=ROUNDS)


def write_fasta_of(path: Path, megabytes: int) -> None:
    """Records as UniRef50 has them: lengths of a log-normal law, lines of 60, X now and then."""
    rng = np.random.default_rng(0)
    letters = np.frombuffer(AMINO_ACIDS.encode(), dtype=np.uint8)
    block, size = [], 0
    for i, length in enumerate(LogNormalLengths().sample(3000, seed=0).tolist()):
        codes = letters[rng.integers(20, size=length)].copy()
        codes[rng.random(length) < 4e-4] = ord("X")
        text = codes.tobytes().decode()
        lines = "\n".join(text[at : at + 60] for at in range(0, length, 60))
        block.append(f">UniRef50_{i:09d} Uncharacterised protein n=1 Tax=Bacillus TaxID=1386 RepID=A{i:09d}\n{lines}\n")
        size += len(block[-1])
    body = "".join(block).encode()
    with path.open("wb") as file:
        for number in range(max(1, round(megabytes * 1e6 / size))):
            file.write(body.replace(b">UniRef50_", b">UniRef50_%04d" % number))


def line_by_line(path: Path) -> int:
    """What a short loop in Python does: a string a line, a join and a translation a record."""
    residues, parts = 0, []
    with path.open() as file:
        for line in file:
            if line.startswith(">"):
                residues += len(encode("".join(parts)))
                parts = []
            else:
                parts.append(line.strip().upper())
    return residues + len(encode("".join(parts)))


def peak_megabytes(path: Path, output: Path) -> float:
    """Of a process of its own that prepares a file."""
    # not ru_maxrss, in which a process begins with the peak of the one that started it
    code = (
        "import sys; from stablelit.families.proteins.preparation import prepare; prepare(*sys.argv[1:]); "
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(output)], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1]) / 1024


def fasta_rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="stablelit-") as scratch:
        folder = Path(scratch)
        small, middle, large = (folder / f"{size}.fasta" for size in (10, 200, 1000))
        for path in (small, middle):
            write_fasta_of(path, int(path.stem))
        megabytes = middle.stat().st_size / 1e6
        rates = []
        for _ in range(3):
            rates.append(megabytes / seconds(lambda: sum(len(b.tokens) for b, _ in FastaReader(middle).blocks())))
        theirs = megabytes / seconds(lambda: line_by_line(middle))
        name = "FASTA read with all policies, one core"
        yield Row(name, statistics.median(rates), "MB/s", 120, "higher", "a line at a time", theirs, 3)
        before = peak_megabytes(small, folder / "a")
        write_fasta_of(large, 1000)
        after = peak_megabytes(large, folder / "b")
        yield Row(
            "peak memory of preparing 1 GB over that of 10 MB", after / before, "x", 1.5, "lower", "MB, 1 GB", after
        )


def padding_rows() -> Iterator[Row]:
    lengths = np.minimum(LogNormalLengths().sample(100_000, seed=0), 512)
    sampler = ShuffleSampler(range(len(lengths)), seed=0)
    share = []
    for pool in (64,):
        batches = LengthBucketBatchSampler(sampler, lengths, max_tokens=16_384, pool_batches=pool)
        used = [lengths[batch] for batch in batches]
        share.append(sum(n.sum() for n in used) / sum(len(n) * n.max() for n in used))
    order = np.random.default_rng(0).permutation(len(lengths))
    at_random = [lengths[order[at : at + 64]] for at in range(0, len(lengths), 64)]
    theirs = sum(n.sum() for n in at_random) / sum(len(n) * n.max() for n in at_random)
    name = "residues among the tokens of a padded batch, at UniRef's lengths"
    yield Row(name, float(share[0]), "", 0.975, "higher", "64 at random", float(theirs))


def rows() -> Iterator[Row]:
    yield from step_rows()
    yield from padding_rows()
    yield from fasta_rows()


if __name__ == "__main__":
    sys.exit(run("proteins_speed", rows()))
