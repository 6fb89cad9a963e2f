"""Runs of the training door in forked children: the imports are paid for once, a kill then costs a second."""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.soak.moments import Kill, arm
from tests.soak.recipes import FAMILIES

LONGEST = 600.0
"""Seconds after which a child that does not end is taken for hanging."""


@dataclass(frozen=True)
class Ended:
    """How a child ended: `code` is its exit code, or minus the number of the signal."""

    code: int
    seconds: float
    printed: str

    @property
    def killed(self) -> bool:
        """Whether it died at its moment."""
        return self.code == -signal.SIGKILL


def fork(work: Callable[[], int], output: Path, after: float | None = None) -> Ended:
    """Does the work in a forked child with its output in a file; kills it after so many seconds.

    Raises:
        TimeoutError: it did not end.
    """
    began = time.monotonic()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _child(work, output)
    handle = os.pidfd_open(child)
    try:
        waiting = LONGEST if after is None else after
        ended, _, _ = select.select([handle], [], [], waiting)
        if not ended:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(handle)
    seconds, printed = time.monotonic() - began, output.read_text(errors="replace")
    if not ended and after is None:
        raise TimeoutError(f"a child did not end in {LONGEST:g} s:\n{printed}")
    return Ended(os.waitstatus_to_exitcode(status), seconds, printed)


def _child(work: Callable[[], int], output: Path) -> None:
    code = 70
    try:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        # a test runner that captures has others in their place
        sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = sys.__stderr__ = open(2, "w", closefd=False)  # noqa: SIM115
        # a test runner's, to which a finding is an error
        warnings.resetwarnings()
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def train(arguments: Sequence[str], folder: Path, run_dir: Path, kill: Kill | None = None) -> Ended:
    """`python -m stablelit.train` with these arguments, in `folder`, dying where it is to; batches go to batches.jsonl.

    Args:
        arguments: the command line.
        folder: the working directory, where the output and the log of batches go too.
        run_dir: where a file operation counts.
        kill: where to die.
    """

    def work() -> int:
        os.chdir(folder)
        arm(kill, run_dir, folder / "batches.jsonl")
        from stablelit.train import main

        return main(list(arguments))

    after = kill.count / 1000 if kill is not None and kill.moment == "time" else None
    return fork(work, folder / "printed.txt", after)


def warm() -> None:
    """Imports in this process what every child needs."""
    for name in _IMPORTS:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)


_IMPORTS = (
    "lightning.pytorch",
    "matplotlib.figure",
    "tensorboard.compat.proto.event_pb2",
    "torch.utils.tensorboard",
    "stablelit.train",
    "stablelit.run.train_job",
    *(f"stablelit.families.{family}" for family in FAMILIES),
)
