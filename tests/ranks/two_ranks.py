"""Running something on two forked ranks, and random numbers that do not know on which rank their row is."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import Any

import torch
import torch.distributed as dist

SECONDS = 240
_DRAWS = {"randn", "rand", "randn_like", "rand_like", "randint", "randint_like", "normal", "bernoulli"}
_DRAWS |= {"normal_", "uniform_", "exponential_", "bernoulli_"}


def on_ranks(work: Callable[..., Any], store: Path, world: int = 2, seconds: float = SECONDS) -> list[Any]:
    """What `work(rank)` returns on each rank of a gloo group; plain data.

    Raises:
        RuntimeError: what a rank raised, with its traceback; or it is gone, or still at it after `seconds`.
    """
    context = torch.multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_on_a_rank, args=(work, rank, world, store, queue)) for rank in range(world)]
    for process in processes:
        process.start()
    try:
        told = _wait_for(processes, queue, time.monotonic() + seconds)
    finally:
        for process in processes:
            process.join(timeout=1)
            process.kill()
    return [told[rank] for rank in range(world)]


def _wait_for(processes: list[Any], queue: Any, until: float) -> dict[int, Any]:
    told: dict[int, Any] = {}
    while len(told) < len(processes):
        gone = [rank for rank, process in enumerate(processes) if process.exitcode is not None and rank not in told]
        try:
            rank, found, error = queue.get(timeout=1)
        except Empty:
            if gone:
                raise RuntimeError(
                    f"rank {gone[0]} ended with {processes[gone[0]].exitcode} and told nothing"
                ) from None
            if time.monotonic() > until:
                raise RuntimeError(f"ranks {sorted(set(range(len(processes))) - set(told))} have not ended") from None
            continue
        if error:
            raise RuntimeError(f"on rank {rank}:\n{error}")
        told[rank] = found
    return told


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
    """The module, whose named steps draw alike for every row; those of its copies too."""
    kind = type(module)

    def alike(name):
        def step(self, *args, **kwargs):
            with RowsAlike():
                return getattr(kind, name)(self, *args, **kwargs)

        return step

    # of its class, not of its instance: a copy would go on with the steps of the original
    module.__class__ = type(kind.__name__, (kind,), {name: alike(name) for name in steps})
    return module


def _on_a_rank(work, rank, world, store, queue):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{os.fspath(store)}", rank=rank, world_size=world)
    try:
        queue.put((rank, work(rank), ""))
    except Exception:
        queue.put((rank, None, traceback.format_exc()))
        # the other may wait for this one for ever
        time.sleep(1)
        raise
    finally:
        dist.destroy_process_group()
