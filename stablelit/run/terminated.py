"""SIGTERM at the training door: whatever is being done ends cleanly, and ranks in other processes are told.

While a fit runs, InterruptCheckpoint has the signal: it ends the fit behind a whole step and saves it. Here is what is
left: data that are prepared, a test, and the process that waits for forked or spawned ranks.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl

from stablelit.callbacks.interrupt import TERMINATED, InterruptCheckpoint

_EXIT_CODE = re.compile(rf"terminated with exit code {TERMINATED}\b")
_waiting_for: list[Any] = []


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Inside the block SIGTERM is ``SystemExit(143)``, which unwinds as any exception does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def end(signum: int, frame: Any) -> None:
        if os.getpid() == owner:
            for launcher in _waiting_for:
                launcher.kill(signal.SIGTERM)
                if hasattr(launcher, "_start_method"):
                    return  # the ranks are other processes: they save and end, and this one sees them end
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except SystemExit as leaving:
        if was_terminated(leaving) and os.getpid() == owner:
            print("Ended by SIGTERM; nothing had been trained.", file=sys.stderr, flush=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


@contextmanager
def telling_ranks(trainer: pl.Trainer) -> Iterator[None]:
    """Inside the block the signal goes on to the ranks that the Trainer has started."""
    launcher = trainer.strategy.launcher
    if launcher is not None:
        _waiting_for.append(launcher)
    try:
        yield
    finally:
        if launcher is not None:
            _waiting_for.remove(launcher)


def was_terminated(error: BaseException | None) -> bool:
    """Whether SIGTERM ended this process's work, or that of the ranks it waited for."""
    if isinstance(error, SystemExit):
        return error.code == TERMINATED
    return type(error).__name__ == "ProcessExitedException" and bool(_EXIT_CODE.search(str(error)))


def is_asked_to_end(trainer: pl.Trainer) -> bool:
    """Whether SIGTERM came so late in a fit that it was over before it could be ended."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return any(c.asked_to_end == signal.SIGTERM for c in callbacks if isinstance(c, InterruptCheckpoint))
