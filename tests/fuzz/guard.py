"""One call under guard: what it took, how it ended, and whether it did what reading never does.

Time is the processor's, so that a machine with other work on it judges alike. Memory is the peak of what is resident,
over what was before. Forbidden are processes, connections, and files opened for writing outside the sandbox: an audit
hook of Python's sees them wherever they come from.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 1.0
MEGABYTES = 512
# address space, so that a mistake of ours does not end the machine
_ADDRESS_SPACE = 6 << 30
_FORBIDDEN = (
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.startfile"),
    *("socket.connect", "socket.bind", "socket.sendto", "urllib.Request", "ftplib.connect"),
    *("os.remove", "os.rename", "os.rmdir", "os.chmod", "os.symlink", "os.link", "shutil.rmtree", "os.truncate"),
)
_ABOUT_PATHS = ("os.remove", "os.rename", "os.rmdir", "os.chmod", "os.symlink", "os.link", "shutil.rmtree")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class TooLong(BaseException):
    """Raised in the call when its time is over; no `except Exception` keeps it."""


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    Args:
        kind: "data", "ours" (an error of ours), or what is wrong: "foreign", "slow", "memory", "acted".
        told: the error's type and message, or what was done.
        seconds: of the processor.
        megabytes: resident at the peak, over what was before.
    """

    kind: str
    told: str
    seconds: float
    megabytes: float

    @property
    def is_failure(self) -> bool:
        return self.kind not in ("data", "ours")


class _Watch:
    """The hook cannot be taken away again: it looks only while a call is watched."""

    def __init__(self) -> None:
        self.sandbox: str | None = None
        self.seen: list[str] = []
        self._is_hooked = False

    def begin(self, sandbox: Path) -> None:
        if not self._is_hooked:
            sys.addaudithook(self._hear)
            self._is_hooked = True
        self.seen, self.sandbox = [], os.path.realpath(sandbox)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.sandbox is None:
            return
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & _WRITING
            if writes and isinstance(path, str | bytes | os.PathLike) and not self._is_inside(path):
                self.seen.append(f"open({path!r}) for writing")
        elif event in _FORBIDDEN:
            if event in _ABOUT_PATHS and arguments and self._is_inside(arguments[0]):
                return
            self.seen.append(f"{event}{arguments!r:.120}")

    def _is_inside(self, path: Any) -> bool:
        with contextlib.suppress(TypeError, ValueError):
            full = os.path.abspath(os.fsdecode(path))
            return full.startswith(f"{self.sandbox}{os.sep}") or full in (self.sandbox, os.devnull)
        return True


_watch = _Watch()


def limit_address_space() -> None:
    """For a process of its own: far more than is allowed is refused by the system."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _ADDRESS_SPACE, used + _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def guarded(
    call: Callable[[], object], is_ours: Callable[[BaseException], bool], sandbox: Path, seconds: float = SECONDS
) -> Outcome:
    """Runs a call; whatever comes of it is an `Outcome`."""
    before, began = _resident_mb(), _cpu_seconds()
    _reset_peak()
    kind, told = "data", ""
    _watch.begin(sandbox)
    try:
        with _alarm(seconds), warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            call()
    except TooLong:
        kind, told = "slow", f"more than {seconds:g} s"
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        if is_ours(error):
            kind, told = "ours", f"{type(error).__name__}: {error}"
        else:
            kind, told = "foreign", _last_lines(error)
    finally:
        acted, _watch.sandbox = _watch.seen, None
    took, megabytes = _cpu_seconds() - began, max(0.0, _peak_mb() - before)
    if acted:
        kind, told = "acted", acted[0]
    elif megabytes > MEGABYTES and kind in ("data", "ours"):
        kind, told = "memory", f"{megabytes:.0f} MB; {told}"
    return Outcome(kind, told, took, megabytes)


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _status_mb(name: str) -> float:
    with open("/proc/self/status", encoding="ascii") as file:
        return next((int(line.split()[1]) / 1024 for line in file if line.startswith(name)), 0.0)


def _resident_mb() -> float:
    return _status_mb("VmRSS")


def _peak_mb() -> float:
    return _status_mb("VmHWM")


def _reset_peak() -> None:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def _last_lines(error: BaseException) -> str:
    try:
        what = f"{type(error).__name__}: {str(error)[:200]}"
    except Exception as second:
        what = f"{type(error).__name__} (its message raises {type(second).__name__})"
    places = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
    return f"{what} at {' < '.join(reversed(places[-6:]))}"
