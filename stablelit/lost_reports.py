"""What a run may lose without ending, and what it may not.

A disk that fills up, a file system that turns read-only or a folder that somebody has taken away must not cost the
hours that were trained. So every writer is one of three kinds:

================================================  ====================================================================
only reports; lost where it cannot be written:    history.jsonl, findings.jsonl, skipped.jsonl, figures/, samples/,
one warning, a count at the end, exit code 0      TensorBoard events, metrics.csv and hparams.yaml, summary.json,
                                                  what is printed (a closed pipe, a terminal that is gone)
comes out of the checkpoint and can be written    edges.csv and graph.graphml, the weights of PartWriter
again: as above
is the work, or is needed to take it up again:    config.yaml, overrides.yaml, weights.json, splits.json: before the
one error and exit code 1 (2 before training)     first step; checkpoints, whose file before stays whole
================================================  ====================================================================

A report that cannot be written is tried again the next time: a disk that was full for an hour costs an hour's lines.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BOOKS = "_stablelit_lost_reports"
# what torch's writer of zip files says of a write that failed
_TORCH_SAYS = ("PytorchStreamWriter failed", "unexpected pos")


class LostReportWarning(UserWarning):
    """A report that could not be written; the run goes on."""


@dataclass
class _Loss:
    owner: str
    file: str
    reason: str
    times: int = 1

    def __str__(self) -> str:
        writings = "writing" if self.times == 1 else "writings"
        return f"{self.file} of {self.owner}: {self.times} {writings} lost ({self.reason})"


@dataclass
class _Books:
    losses: dict[tuple[str, str], _Loss] = field(default_factory=dict)
    told_at_the_end: bool = False


@contextmanager
def report_may_be_lost(trainer: Any, owner: str, path: str | Path) -> Iterator[None]:
    """Lets a training go on where the block cannot write; other errors pass.

    Args:
        trainer: whose run it is; it keeps the count.
        owner: who writes, for the warning.
        path: of the file; files of one folder count together where the folder is given.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not is_failed_write(error):
            raise
        note_lost(trainer, owner, path, error)


def note_lost(trainer: Any, owner: str, path: str | Path, error: BaseException) -> None:
    """Counts a report that could not be written, and warns of the first of its kind."""
    books, reason = _books_of(trainer), why(error)
    known = books.losses.get((owner, str(path)))
    if known is not None:
        known.times, known.reason = known.times + 1, reason
        return
    books.losses[owner, str(path)] = _Loss(owner, Path(path).name, reason)
    warnings.warn(
        f"{owner}: {path} could not be written: {reason}. The run goes on and tries again next time. {remedy(error)}",
        LostReportWarning,
        stacklevel=4,
    )


def lost_reports(trainer: Any) -> list[str]:
    """What was lost so far, a line for each file."""
    return [str(loss) for loss in _books_of(trainer).losses.values()]


def say(trainer: Any, owner: str, text: str) -> None:
    """Prints a text at once; a reader that has gone, or a terminal that was closed, ends nothing."""
    with report_may_be_lost(trainer, owner, "standard output"):
        print(text, flush=True)


def tell_of_lost(trainer: Any) -> None:
    """Warns at the end of a fit of what was lost more than once; said by the first that asks, and by one alone."""
    books = _books_of(trainer)
    repeated = [str(loss) for loss in books.losses.values() if loss.times > 1]
    if repeated and not books.told_at_the_end:
        books.told_at_the_end = True
        warnings.warn(f"Not everything of this run was kept: {'; '.join(repeated)}.", LostReportWarning, stacklevel=3)


def is_failed_write(error: BaseException) -> bool:
    """Whether an exception is about a file that could not be written."""
    if isinstance(error, OSError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _TORCH_SAYS)


def why(error: BaseException) -> str:
    """The system's own words for what went wrong."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    if isinstance(error, RuntimeError) and is_failed_write(error):
        return "the file could not be written to its end"
    return str(error).partition("\n")[0] or type(error).__name__


def remedy(error: BaseException) -> str:
    """What a person can do."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or isinstance(error, RuntimeError):
        return (
            "Free some space, or raise the limit (df -h, quota -s, ulimit -f); another run may go elsewhere: runs=DIR."
        )
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "Give this user the right to write there, or remount it; another run may go elsewhere: runs=DIR."
    if number in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
        return "Something has taken the folder away: keep others from it."
    if number in (errno.EMFILE, errno.ENFILE):
        return "Too many files are open: raise the limit (ulimit -n), or use fewer workers."
    return "Look at the disk (dmesg, df -h)."


def _books_of(trainer: Any) -> _Books:
    books: _Books | None = getattr(trainer, _BOOKS, None)
    if not isinstance(books, _Books):
        books = _Books()
        # it lives as long as the Trainer and no longer
        setattr(trainer, _BOOKS, books)
    return books
