"""Writes checkpoints so that a kill, a full disk or a power cut leaves a whole one, and reads none that is damaged.

Runs    setup (takes the place of what Lightning writes files with)
Reads   whatever is loaded through the Trainer, each byte against its checksum
Writes  checkpoints, by whomever they are saved: beside their place first, then into it; previous.ckpt beside last.ckpt
Logs    nothing
Resumes nothing of its own to keep
Limits  local files; a CheckpointIO of somebody's own and sharded strategies are left as they are, and that is said
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from stablelit.callbacks._snapshots import is_sharded
from stablelit.data.checkpoint_files import remove_leftovers, require_whole, write_checkpoint
from stablelit.errors import bad_argument

_OWNER = "DurableCheckpoint"


class DurableCheckpoint(pl.Callback):
    """What Lightning does not do: wait for the disk, stay on one file system, and look at checksums.

    Lightning writes to the directory for temporary files and moves the file from there. Where that is another file
    system (it is on most clusters) the move is a copy onto ``last.ckpt``, and a kill in the middle of it leaves half a
    file in the place of the only one. `torch.load` reads weights with a flipped bit without a word.

    Args:
        keep_previous: the file that a new ``last.ckpt`` replaces is kept as ``previous.ckpt``: for a disk that loses
            what it has confirmed.

    Raises:
        ConfigurationError: `keep_previous` is no bool; later: a damaged checkpoint is to be loaded, with the whole ones
            beside it.
        OSError: no space for a checkpoint; the one before is as it was.

    Example:
        >>> from stablelit import DurableCheckpoint
        >>> callback = DurableCheckpoint()
    """

    keeps_books = True

    def __init__(self, keep_previous: bool = True) -> None:
        if not isinstance(keep_previous, bool):
            raise bad_argument(_OWNER, "keep_previous", keep_previous, "true or false")
        self.keep_previous = keep_previous

    def __repr__(self) -> str:
        return f"{_OWNER}(keep_previous={self.keep_previous})"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Before anything is loaded; also where the Trainer only tests or predicts."""
        strategy: Any = trainer.strategy
        if is_sharded(strategy):
            warnings.warn(
                f"{_OWNER}: {type(strategy).__name__} writes its checkpoints itself, each rank its part; they are "
                f"written as Lightning writes them.",
                stacklevel=2,
            )
            return
        outer, writer = None, strategy.checkpoint_io
        while getattr(writer, "checkpoint_io", None) is not None:  # one that wraps another, such as AsyncCheckpointIO
            outer, writer = writer, writer.checkpoint_io
        if isinstance(writer, _DurableWriter):
            writer.keep_previous = self.keep_previous
            return
        if type(writer).__name__ != "TorchCheckpointIO":
            warnings.warn(
                f"{_OWNER}: this Trainer writes its checkpoints with {type(writer).__name__}, which is left as it is.",
                stacklevel=2,
            )
            return
        durable = _DurableWriter(writer, self.keep_previous)
        if outer is None:
            strategy.checkpoint_io = durable
        else:
            outer._checkpoint_io = durable


class _DurableWriter:
    """In the place of Lightning's TorchCheckpointIO; no subclass, for there is one of it under each of two names."""

    def __init__(self, base: Any, keep_previous: bool) -> None:
        self.base, self.keep_previous = base, keep_previous
        self._cleaned: set[Path] = set()

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        """As Lightning's: rank zero alone comes here."""
        if storage_options is not None or _is_remote(path):
            self.base.save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(os.path.abspath(path))
        if path.parent not in self._cleaned and path.parent.is_dir():
            remove_leftovers(path.parent)
        self._cleaned.add(path.parent)
        write_checkpoint(checkpoint, path, previous_of(path) if self.keep_previous else None)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Loads what is whole."""
        if not _is_remote(path) and Path(path).is_file():
            require_whole(Path(path))
        return self.base.load_checkpoint(path, *args, **kwargs)

    def remove_checkpoint(self, path: Any) -> None:
        """As Lightning's."""
        self.base.remove_checkpoint(path)

    def teardown(self) -> None:
        """As Lightning's."""
        self.base.teardown()


def previous_of(path: Path) -> Path | None:
    """Where the file that `last.ckpt` replaces is kept; None for other files, which have names of their own.

    >>> previous_of(Path("checkpoints/last-v1.ckpt")).name
    'previous-v1.ckpt'
    """
    if path.suffix != ".ckpt" or not path.name.startswith("last"):
        return None
    return path.with_name(path.name.replace("last", "previous", 1))


def _is_remote(path: Any) -> bool:
    return not isinstance(path, str | os.PathLike) or "://" in str(path)
