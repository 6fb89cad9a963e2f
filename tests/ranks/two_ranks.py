"""Running something on two forked ranks, and random numbers that do not know on which rank their row is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

SECONDS = 240
_DRAWS = {"randn", "rand", "randn_like", "rand_like", "randint", "randint_like", "normal", "bernoulli"}
_DRAWS |= {"normal_", "uniform_", "exponential_", "bernoulli_"}


def on_ranks(work: Callable[..., Any], store: Path, world: int = 2) -> list[Any]:
    """What `work(rank)` returns on each rank of a gloo group; plain data."""
    context = torch.multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_on_a_rank, args=(work, rank, world, store, queue)) for rank in range(world)]
    for process in processes:
        process.start()
    told = dict(queue.get(timeout=SECONDS) for _ in processes)
    for process in processes:
        process.join(timeout=SECONDS)
    return [told[rank] for rank in range(world)]


def in_a_process(work: Callable[..., None], *args: Any) -> None:
    """Runs `work` in a forked process, which a fit that hangs does not outlive."""
    process = torch.multiprocessing.get_context("fork").Process(target=work, args=args)
    process.start()
    process.join(timeout=SECONDS)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"{args} has not ended in {SECONDS} s")
    assert process.exitcode == 0, f"{args} ended with exit code {process.exitcode}"


class RowsAlike(torch.overrides.TorchFunctionMode):
    """Inside, what is drawn is the same for every row of a batch, on however many ranks its rows are.

    What a row gets depends on the kind of the draw and the shape of a row alone, so that the rows of two ranks together
    are trained on as those of one.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        drawn = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name not in _DRAWS or not isinstance(drawn, torch.Tensor) or not drawn.ndim or len(drawn) < 2:
            return drawn
        generator = torch.Generator().manual_seed(len(name) + sum(7919 * size for size in drawn.shape[1:]))
        with torch._C.DisableTorchFunction():
            if "int" in name or "bernoulli" in name:
                row = torch.zeros_like(drawn[:1])
            else:
                draw = torch.rand if name.startswith(("rand_", "uniform")) or name == "rand" else torch.randn
                row = draw(drawn[:1].shape, generator=generator).to(drawn)
            return drawn.copy_(row.expand_as(drawn))


def with_rows_alike(module: Any, *steps: str) -> Any:
    """The module, whose named steps draw alike for every row."""
    for name in steps:
        step = getattr(module, name)

        def alike(*args, _step=step, **kwargs):
            with RowsAlike():
                return _step(*args, **kwargs)

        setattr(module, name, alike)
    return module


def _on_a_rank(work, rank, world, store, queue):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{os.fspath(store)}", rank=rank, world_size=world)
    try:
        queue.put((rank, work(rank)))
    finally:
        dist.destroy_process_group()
