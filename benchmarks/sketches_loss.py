"""NT-Xent beside the usual way to write it: time and memory of a step; what ranks and chunks change in a gradient.

The peer is the algorithm of lightly's NTXentLoss, written anew: unit rows, four matrices of scores by einsum, the two
of a view with itself without their diagonals by a mask, everything put together for one cross entropy. Times are CPU
times of forward and backward, in turn in one process on one thread. Memory is what torch's allocator holds at most
above where it began, from the profiler's record of every allocation: temporary tensors inside operations count. An
error of a gradient is the norm of the difference over the norm.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.profiler import ProfilerActivity, profile

from benchmarks.rows import Row, run
from benchmarks.timing import cpu_seconds
from stablelit.functional.contrastive import nt_xent
from stablelit.nn import chunked_forward

DIM, TEMPERATURE = 128, 0.2
WAYS = (
    ("gathered", True, torch.float64, 1e-6),
    ("gathered, single precision", True, torch.float32, None),
    ("not gathered", False, torch.float64, None),
)
REPEATS = {128: 101, 512: 41, 2048: 7}


def peer_nt_xent(z0: Tensor, z1: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    n = len(z0)
    a, b = normalize(z0, dim=1), normalize(z1, dim=1)
    others = ~torch.eye(n, dtype=torch.bool)
    aa, ab, ba, bb = (torch.einsum("nd,md->nm", x, y) / temperature for x, y in ((a, a), (a, b), (b, a), (b, b)))
    of_a = torch.cat([ab, aa[others].view(n, -1)], dim=1)
    of_b = torch.cat([ba, bb[others].view(n, -1)], dim=1)
    return cross_entropy(torch.cat([of_a, of_b]), torch.arange(n).repeat(2))


def our_nt_xent(z0: Tensor, z1: Tensor) -> Tensor:
    return nt_xent(z0, z1, TEMPERATURE)


def views(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z0 = torch.randn(n, DIM, generator=generator)
    z1 = z0 + 0.5 * torch.randn(n, DIM, generator=generator)
    return z0.requires_grad_(), z1.requires_grad_()


def step(loss: Callable[[Tensor, Tensor], Tensor], z: tuple[Tensor, Tensor]) -> None:
    z[0].grad = z[1].grad = None
    loss(*z).backward()


def peak_bytes(action: Callable[[], Any]) -> int:
    """The most that is held at once, above what was held before."""
    # the profiler says when it starts and stops otherwise
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    assert profiler.profiler is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    return most


def speed_rows() -> Iterator[Row]:
    for n, floor in ((128, None), (512, 0.5), (2048, 0.35)):
        z = views(n)
        for loss in (peer_nt_xent, our_nt_xent):
            step(loss, z)
        times = [
            [cpu_seconds(lambda loss=loss, z=z: step(loss, z)) for loss in (peer_nt_xent, our_nt_xent)]  # type: ignore[misc]
            for _ in range(REPEATS[n])
        ]
        theirs = 1e3 * statistics.median(t for t, _ in times)
        ratio = statistics.median(o / t for t, o in times)
        title = f"NT-Xent, N = {n}, d = {DIM}: time over four masked matrices'"
        yield Row(title, ratio, "x", floor, "lower", "theirs, ms", theirs, REPEATS[n])
    z = views(512)
    with torch.no_grad():
        off = abs(float(our_nt_xent(*z)) - float(peer_nt_xent(*(x.double() for x in z))))
    yield Row("    difference from theirs in double, N = 512", off, "nats", 1e-5)


def memory_rows() -> Iterator[Row]:
    z = views(1024)
    for loss in (peer_nt_xent, our_nt_xent):
        step(loss, z)
    theirs, ours = (peak_bytes(lambda loss=loss: step(loss, z)) for loss in (peer_nt_xent, our_nt_xent))  # type: ignore[misc]
    yield Row("NT-Xent, N = 1024: peak memory over theirs", ours / theirs, "x", 0.2, "lower", "MiB", ours / 2**20)


def network(norm: bool = False) -> nn.Sequential:
    """Four convolutions and a head, as small pictures' encoders are."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i in range(4):
        layers += [nn.Conv2d(1 if i == 0 else 16, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU()]
        if norm:
            layers[-2] = nn.BatchNorm2d(16)
        if i % 2:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 64, 64))


def gradient_of(model: nn.Module, loss: Tensor) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def relative_error(told: Tensor, exact: Tensor) -> float:
    return float((told - exact).norm() / exact.norm())


def pictures(n: int) -> Tensor:
    """Two views of n / 2 pictures, one behind the other."""
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(n // 2, 1, 32, 32, generator=generator)
    return torch.cat([first, first + 0.5 * torch.randn(first.shape, generator=generator)])


def chunk_rows() -> Iterator[Row]:
    """One batch of 256 pairs at once and in 8 chunks."""
    x = pictures(512)
    for norm, floor in ((False, 1e-6), (True, None)):
        model = network(norm).double()
        whole = gradient_of(model, nt_xent(*model(x.double()).chunk(2)))
        told = gradient_of(model, nt_xent(*chunked_forward(model, x.double(), 64).chunk(2)))
        name = "batch norm, which is of a chunk then" if norm else "no batch norm"
        yield Row(f"8 chunks, {name}: error of the gradient", relative_error(told, whole), "", floor)
    twin = network().double()
    exact = gradient_of(twin, nt_xent(*twin(x.double()).chunk(2)))
    model = network()

    def at_once() -> None:
        nt_xent(*model(x).chunk(2)).backward()

    def in_chunks() -> None:
        nt_xent(*chunked_forward(model, x, 64).chunk(2)).backward()

    gradients = []
    for action in (at_once, in_chunks):
        model.zero_grad(set_to_none=False)
        action()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    # the kinks of ReLU and max-pooling: one forward's gradient in single precision is not exact either
    beside = ("one forward's from double", relative_error(gradients[0].double(), exact))
    yield Row("    no batch norm, single precision", relative_error(*gradients[::-1]), "", None, "lower", *beside)
    peaks = [peak_bytes(action) for action in (at_once, in_chunks)]
    yield Row("    peak memory over one forward's", peaks[1] / peaks[0], "x", 1 / 6, "lower", "MiB", peaks[1] / 2**20)
    times = [(cpu_seconds(at_once), cpu_seconds(in_chunks)) for _ in range(5)]
    yield Row("    time over one forward's", statistics.median(c / a for a, c in times), "x", repeats=5)


def rank_rows() -> Iterator[Row]:
    """Two processes with half a batch each, and one with all of it; the mean over ranks is taken as DDP takes it."""
    context = torch.multiprocessing.get_context("fork")
    queue = context.Queue()
    with tempfile.TemporaryDirectory(prefix="stablelit-") as folder:
        ranks = [context.Process(target=_on_a_rank, args=(r, str(Path(folder) / "store"), queue)) for r in range(2)]
        for process in ranks:
            process.start()
        told = dict(queue.get(timeout=120) for _ in ranks)
        for process in ranks:
            process.join(timeout=60)
    for name, _, dtype, floor in WAYS:
        model = network().to(dtype)
        whole = gradient_of(model, nt_xent(*model(pictures(128).to(dtype)).chunk(2)))
        error = max(relative_error(torch.tensor(told[r][name], dtype=dtype), whole) for r in range(2))
        yield Row(f"2 ranks of 32 pairs, {name}: error of the gradient", error, "", floor)


def _on_a_rank(rank: int, store: str, queue: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        mine = torch.cat([view.chunk(2)[rank] for view in pictures(128).chunk(2)])
        told = {}
        for name, gather, dtype, _ in WAYS:
            model = network().to(dtype)
            gradient = gradient_of(model, nt_xent(*model(mine.to(dtype)).chunk(2), gather=gather))
            dist.all_reduce(gradient)
            told[name] = gradient.div(2).tolist()
        queue.put((rank, told))
    finally:
        dist.destroy_process_group()


def rows() -> Iterator[Row]:
    # processes are forked before threads of a backward pass exist
    yield from rank_rows()
    yield from speed_rows()
    yield from memory_rows()
    yield from chunk_rows()


if __name__ == "__main__":
    raise SystemExit(run("sketches_loss", rows()))
