"""What a door says aloud: a listener who has gone, or a letter that cannot be shown, must not end a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class ForgivingStream:
    """A stream whose writes fail in silence once the reader has gone (`| head`, a closed terminal, a full disk).

    The file descriptor then leads to /dev/null, so that child processes and the interpreter's own last flush do not
    stumble over it either. Everything else is the stream's own.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.broken: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes, if somebody listens."""
        try:
            return self._stream.write(text) if self.broken is None else len(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flushes, if somebody listens."""
        try:
            if self.broken is None:
                self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.broken = error
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        # what is still in its buffer goes there too
        with suppress(OSError):
            self._stream.flush()


@contextmanager
def forgiving_streams() -> Iterator[None]:
    """Makes standard output and error forgiving inside the block, also where they are closed or know few letters."""
    _open_what_is_closed()
    before = sys.stdout, sys.stderr
    for stream in before:
        if stream is not None and hasattr(stream, "reconfigure"):
            # a path or a metric may have letters that the terminal's encoding has not
            stream.reconfigure(errors="backslashreplace")
    out, err = (ForgivingStream(stream) for stream in before)
    sys.stdout, sys.stderr = out, err  # type: ignore[assignment]
    try:
        yield
    finally:
        out.flush()
        if out.broken is not None and err.broken is None:
            err.write(f"Standard output could not be written ({out.broken.strerror}); the run went on without it.\n")
        err.flush()
        sys.stdout, sys.stderr = before


def _open_what_is_closed() -> None:
    """A closed descriptor would be given to the next file that is opened, and what is printed would go into it."""
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for the whole run
