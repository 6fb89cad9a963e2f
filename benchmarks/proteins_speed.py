"""Speed of the proteins family: a training step beside the reference's, padding, and reading FASTA."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.proteins_reference import ReferenceTransformer, reference_loss
from benchmarks.rows import Row, run
from stablelit.families.proteins import ScoreEntropyDiffusion
from stablelit.families.proteins.diffusion import AbsorbingGraph, LogLinearNoise

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


def rows() -> Iterator[Row]:
    yield from step_rows()


if __name__ == "__main__":
    sys.exit(run("proteins_speed", rows()))
