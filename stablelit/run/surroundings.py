"""What to say of an error that the machine made and not the code: a disk, a right, a worker, a limit."""

from __future__ import annotations

import errno
import re
import traceback
from pathlib import Path

from stablelit.errors import StablelitError
from stablelit.lost_reports import is_failed_write, remedy, why

# of torch's DataLoader; the last is what a worker that met SIGBUS leaves
_WORKER_GONE = re.compile(
    r"DataLoader worker \(pid.*?\) (exited unexpectedly|is killed by signal)|bus error.*worker", re.S
)
_WORKER_SLOW = re.compile(r"DataLoader timed out after ([\d.]+) seconds")
_SIGNAL = re.compile(r"is killed by signal: ([\w ]+)")
# what gloo and NCCL say on the ranks that are left when one is gone
_RANK_GONE = re.compile(
    r"gloo.*(Connection (closed|reset) by peer|Socket closed)|NCCL.*(remote process exited|Connection (closed|reset))",
    re.S,
)
_IN_WORKER = re.compile(r"^Caught (\w+) in \w+ (?:worker process|process|thread) (\d+)\.")
_NOT_OF_FILES = {errno.ECONNREFUSED, errno.ECONNRESET, errno.EADDRINUSE, errno.ETIMEDOUT, errno.EHOSTUNREACH}


def told_by_the_machine(error: BaseException) -> str | None:
    """One message with the remedy for an error of the surroundings; None for any other error."""
    if isinstance(error, StablelitError):
        # it says itself what is to be done
        return str(error) if _is_of_the_disk(_root(error)) else None
    error = _root(error)
    text = str(error)
    if isinstance(error, RuntimeError) and (slow := _WORKER_SLOW.search(text)):
        return (
            f"The data workers did not deliver a batch within {slow[1]} seconds. One hangs (a file system that does "
            f"not answer, a lock, a pipe in a file's place), or timeout= of the loader is too short. Look at it with "
            f"num_workers=0."
        )
    if isinstance(error, RuntimeError) and _WORKER_GONE.search(text):
        return _of_a_lost_worker(error, text)
    if (rank := _lost_rank(error, text)) is not None:
        return _of_a_lost_rank(rank)
    if isinstance(error, ConnectionError | EOFError) and _came_through(error, "multiprocessing"):
        # a worker that is gone in the middle of handing a batch over
        return _of_a_lost_worker(error, text)
    if isinstance(error, OSError) and (in_worker := of_a_worker(error)) is not None:
        return f"{type(error).__name__}: {in_worker}"
    if not _is_of_the_disk(error):
        return None
    return f"{_what_failed(error)}: {why(error)}{_where(error)}. {remedy(error)}"


def _is_of_the_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and (error.errno is None or error.errno in _NOT_OF_FILES):
        # such as a reader's own, of a file that is not what it expects (h5py)
        return False
    return is_failed_write(error)


def of_a_worker(error: BaseException) -> str | None:
    """The message of an error that was raised in a data worker, without the traceback that torch puts into it."""
    match = _IN_WORKER.match(str(error))
    if match is None:
        return None
    last = [line for line in str(error).strip().splitlines() if line and not line[0].isspace()][-1]
    kind, _, message = last.partition(": ")
    return f"{message or kind} (in data worker {match[2]})"


def in_short(error: BaseException) -> str:
    """The message of an error, wherever it was raised."""
    return of_a_worker(error) or str(error)


def _of_a_lost_worker(error: BaseException, text: str) -> str:
    how = f" ({signal[1].strip().lower()})" if (signal := _SIGNAL.search(text)) else ""
    return (
        f"A data worker was killed{how}: nearly always memory, its own or the shared memory in which batches travel "
        f"(/dev/shm; a container has 64 MB of it unless it is told --shm-size). Try fewer workers "
        f"(data.num_workers=0 uses none), a smaller batch, or more memory; dmesg says whom the kernel has killed."
    )


def _lost_rank(error: BaseException, text: str) -> str | None:
    """How the rank is called that ended without an error of its own, and how it ended; None for any other error."""
    kind = type(error).__name__
    if kind == "ProcessExitedException":  # of torch's launcher for forked and spawned ranks
        signal = getattr(error, "signal_name", None)
        how = f"was killed ({signal})" if signal else f"ended with exit code {getattr(error, 'exit_code', '?')}"
        return f"Rank {getattr(error, 'error_index', '?')} {how}"
    said = [line for line in text.strip().splitlines() if line and not line[0].isspace()]
    if kind == "ProcessRaisedException":
        text = said[-1] if said else ""
    elif not isinstance(error, RuntimeError):
        return None
    return "A rank is gone, and its connection to the others with it" if _RANK_GONE.search(text) else None


def _of_a_lost_rank(rank: str) -> str:
    return (
        f"{rank}, without an error of its own: nearly always memory (dmesg says whom the kernel has killed), a crash "
        f"in native code, or a limit of the cluster's. The other ranks have ended with it. Try fewer of them "
        f"(trainer.devices), a smaller batch, or more memory."
    )


def _root(error: BaseException) -> BaseException:
    """The failed write that an error was raised from, else the error itself."""
    before = error.__cause__
    while before is not None:
        if is_failed_write(before):
            return before
        before = before.__cause__
    return error


def _what_failed(error: BaseException) -> str:
    name = getattr(error, "filename", None)
    if _while_saving(error):
        return f"The checkpoint {name} could not be written" if name else "A checkpoint could not be written"
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError) and name:
        return f"{name} could not be opened"
    return f"{name} could not be read or written" if name else "A file could not be read or written"


def _while_saving(error: BaseException) -> bool:
    return any("save_checkpoint" in frame.name for frame in traceback.extract_tb(error.__traceback__))


def _where(error: BaseException) -> str:
    """The place in somebody's code, which says which file it was where the error does not."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
    ours = [frame for frame in frames if not frame.filename.startswith("<") and "/lib/python" not in frame.filename]
    if not ours or _while_saving(error):
        return ""
    return f" ({Path(ours[-1].filename).name}:{ours[-1].lineno}, in {ours[-1].name})"


def _came_through(error: BaseException, package: str) -> bool:
    return any(f"/{package}/" in frame.filename for frame in traceback.extract_tb(error.__traceback__))
