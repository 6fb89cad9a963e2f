"""A run in a forked child, so that what befalls a process can befall it: no disk, no rights, no terminal."""

from __future__ import annotations

import ctypes
import itertools
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.run.tiny import TinyVAE

# of linux/capability.h
_CAPABILITY_VERSION_3 = 0x20080522


class Ended(NamedTuple):
    """How a child ended: `code` is what a shell would say, 128 + n after signal n, and None where it hung."""

    code: int | None
    out: str
    err: str


def in_child(work: Callable[[], int | None], seconds: float = 240.0, stdout: int | None = None) -> Ended:
    """Runs `work` in a forked child and waits for it.

    Args:
        work: returns the exit code; an exception is printed with its traceback, as Python does, and is code 1.
        seconds: after which it counts as hung and is killed.
        stdout: a file descriptor for the child's standard output in place of a pipe.
    """
    # pipes, not files: a full disk is not to take the child's voice as well
    pipes = [os.pipe(), os.pipe()]
    child = os.fork()
    if child == 0:
        _be_the_child(work, pipes[0][1] if stdout is None else stdout, pipes[1][1])
    for _, write in pipes:
        os.close(write)
    said = _listen([read for read, _ in pipes], time.monotonic() + seconds)
    if said is None:
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    out, err = said or ("", "")
    code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return Ended(None if said is None else code, out, err)


def _be_the_child(work: Callable[[], int | None], out: int, err: int) -> None:
    code = 1
    try:
        os.setsid()
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.closerange(3, 256)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for name, number in (("stdout", 1), ("stderr", 2)):
            stream = open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for the rest of the process
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        code = work() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                code = 120  # as Python's own shutdown says it
        os._exit(code)


def _listen(pipes: list[int], deadline: float) -> tuple[str, str] | None:
    """What came out of both pipes until they were closed; None where that did not come in time."""
    said = {pipe: b"" for pipe in pipes}
    still = set(pipes)
    while still:
        ready, _, _ = select.select(list(still), [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            break
        for pipe in ready:
            block = os.read(pipe, 1 << 16)
            said[pipe] += block
            if not block:
                still.discard(pipe)
    for pipe in pipes:
        os.close(pipe)
    out, err = (said[pipe].decode("utf-8", "replace") for pipe in pipes)
    return None if still else (out, err)


def fill_the_disk() -> None:
    """From here on no file of this process grows by a byte: the kernel refuses, as it does on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def free_the_disk() -> None:
    """Takes that back."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def disk_full_inside(owner: Any, name: str, calls: Callable[[int], bool] = lambda n: True) -> None:
    """From here on the disk is full while `owner.name` runs, in those of its calls (from 0) that `calls` chooses."""
    original, counter = getattr(owner, name), itertools.count()

    def unlucky(*args: Any, **kwargs: Any) -> Any:
        if not calls(next(counter)):
            return original(*args, **kwargs)
        fill_the_disk()
        try:
            return original(*args, **kwargs)
        finally:
            free_the_disk()

    setattr(owner, name, unlucky)


def obey_permissions() -> None:
    """Takes from root the right to pass over permissions (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH); others obey them."""
    if os.getuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    sets[0] &= ~0b110
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def when_step(n: int, happens: Callable[[Any], None]) -> None:
    """From here on `happens` is called once with the tiny module, when it has taken `n` optimizer steps."""
    original, left = TinyVAE.training_step, [happens]

    def training_step(module: Any, batch: Any, batch_idx: int) -> Any:
        if left and module.global_step >= n:
            left.pop()(module)
        return original(module, batch, batch_idx)

    TinyVAE.training_step = training_step  # type: ignore[method-assign]
