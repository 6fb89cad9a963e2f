"""Where a run is killed: SIGKILL at a named moment, sent by the child to itself, or at a random time by the parent."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

MOMENTS = ("batch", "backward", "validation", "epoch", "file", "torn", "time")
"""At a training batch (before it and after it in turn), inside one, in validation, at an epoch's end (its validation's,
then before and behind all callbacks), before a file operation in the run's directory, half-way through the write of a
checkpoint, after so many milliseconds."""


@dataclass(frozen=True)
class Kill:
    """One kill.

    Args:
        moment: one of `MOMENTS`.
        count: at which of its kind, from 1; of `time` in milliseconds.
    """

    moment: str
    count: int

    def __str__(self) -> str:
        return f"{self.moment}-{self.count}"


def die() -> None:
    """Ends this process as a cluster does: nothing is flushed, nothing is closed."""
    os.kill(os.getpid(), signal.SIGKILL)


class Countdown:
    """Dies when it has been called so many times."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            die()


def arm(kill: Kill | None, run_dir: Path, log: Path) -> None:
    """Prepares this process, which is a child that was forked for one run, to die at the moment, and logs its batches.

    Nothing in the code under test knows of it: a callback is put into every Trainer that fits, Python's audit events
    tell of file operations, and torch.save is cut off half-way.
    """
    from lightning.pytorch import Trainer

    fit = Trainer.fit

    def fit_with_witness(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.callbacks.insert(0, _witness_class()(log, kill, first=True))
        self.callbacks.append(_witness_class()(None, kill, first=False))
        return fit(self, *args, **kwargs)

    Trainer.fit = fit_with_witness  # type: ignore[method-assign]
    if kill is not None and kill.moment == "file":
        _die_before_file_operation(kill.count, str(run_dir))
    if kill is not None and kill.moment == "torn":
        _cut_off_saving(kill.count)


def _die_before_file_operation(count: int, folder: str) -> None:
    reached = Countdown(count)
    changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def listen(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(flags, int) and flags & changing and str(path).startswith(folder):
                reached()
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.symlink", "os.link", "os.truncate") and any(
            str(a).startswith(folder) for a in args if isinstance(a, str | os.PathLike)
        ):
            reached()

    sys.addaudithook(listen)


def _cut_off_saving(count: int) -> None:
    save, left = torch.save, [count]

    def cut_off(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        left[0] -= 1
        if left[0] > 0:
            return save(obj, f, *args, **kwargs)
        import io

        whole = io.BytesIO()
        save(obj, whole, *args, **kwargs)
        half = whole.getvalue()[: len(whole.getvalue()) // 2]
        if isinstance(f, str | os.PathLike):
            Path(f).write_bytes(half)
        else:
            f.write(half)
            f.flush()
        return die()

    torch.save = cut_off


def _witness_class() -> type:
    import lightning.pytorch as pl

    class Witness(pl.Callback):
        """Writes down what every training batch holds, and dies when its moment has come; it has no state."""

        def __init__(self, log: Path | None, kill: Kill | None, first: bool) -> None:
            self.log_to, self.moment = log, kill.moment if kill else ""
            self.reached: Callable[[], None] = Countdown(kill.count) if kill else Countdown(0)
            self.first = first

        def _at(self, moment: str, first: bool) -> None:
            if self.moment == moment and self.first is first:
                self.reached()

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            self._at("batch", True)
            if self.log_to is not None:
                digest = hashlib.sha256()
                for part in parts(batch):
                    digest.update(part)
                line = [trainer.current_epoch, batch_idx, trainer.global_step, digest.hexdigest()[:16]]
                with self.log_to.open("a") as file:
                    file.write(json.dumps(line) + "\n")

        def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
            self._at("backward", True)

        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            self._at("batch", True)

        def on_validation_batch_end(self, trainer: Any, *args: Any) -> None:
            if not trainer.sanity_checking:
                self._at("validation", False)

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            if not trainer.sanity_checking:
                self._at("epoch", False)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self._at("epoch", True)
            self._at("epoch", False)

    return Witness


def parts(value: Any) -> Iterator[bytes]:
    """The bytes of everything that a batch holds, whatever its type."""
    if isinstance(value, torch.Tensor):
        yield str((value.dtype, tuple(value.shape))).encode()
        yield value.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b""
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            yield str(key).encode()
            yield from parts(value[key])
    elif isinstance(value, list | tuple):
        for one in value:
            yield from parts(one)
    elif hasattr(value, "__dict__"):
        yield from parts(vars(value))
    else:
        yield repr(value).encode()
