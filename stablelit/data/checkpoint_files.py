"""Checkpoints as files: written so that a kill leaves the old one or the new one, and looked at before use."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
import zipfile
from pathlib import Path
from typing import Any

import torch

from stablelit.errors import ConfigurationError

_PART = re.compile(r"\..+\.(?P<host>[^.]+)-(?P<pid>\d+)\.part")
# a write on another machine that has not moved for so long is no write any more
_ABANDONED_AFTER_SECONDS = 3600.0
_BLOCK = 1 << 22
# files found whole in this process, as they were then: reading one for resuming it would else check it twice
_found_whole: set[tuple[str, int, int, int]] = set()


def write_checkpoint(checkpoint: Any, path: Path, previous: Path | None = None) -> None:
    """Writes beside `path`, waits until it is on the disk, and only then takes the place of what is there.

    Args:
        checkpoint: what `torch.save` takes.
        path: a local file.
        previous: where the file that is replaced is kept, if it is whole.

    Raises:
        OSError: no space, no permission; what was there before is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".{path.name}.{_host()}-{os.getpid()}.part"
    try:
        with part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.is_file() and not path.is_symlink() and damage_of(path) is None:
            _keep(path, previous)
        os.replace(part, path)
        _found_whole.add(_identity(path))
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__  # torch's writer has an error of its own for a failed write
        if cause is None:
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def remove_leftovers(directory: Path) -> list[Path]:
    """Takes away what writes that were killed have left in `directory`, and returns it."""
    removed = []
    for path in directory.glob(".*.part"):
        named = _PART.fullmatch(path.name)
        if named is None or _is_being_written(path, named["host"], int(named["pid"])):
            continue
        with contextlib.suppress(OSError):
            path.unlink()
            removed.append(path)
    return removed


def damage_of(path: Path) -> str | None:
    """What is wrong with a checkpoint's file; None if every byte is as it was written.

    `torch.load` holds no checksum against what it reads: weights with a flipped bit load without a word. The file is a
    zip archive that has one for each of its parts, and they are looked at here, in one pass and without the memory.
    """
    try:
        identity = _identity(path)
    except OSError as error:
        return f"it cannot be opened: {error.strerror}"
    if identity in _found_whole:
        return None
    if not path.is_file():
        return "it is not a file"
    if identity[1] == 0:
        return "it is empty"
    found = _damage(path)
    if found is None:
        _found_whole.add(identity)
    return found


def _damage(path: Path) -> str | None:
    with path.open("rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"
    if not is_archive:
        # torch's format of before 2020 has no checksums, but it has an end
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            return f"it is no checkpoint, or its beginning is lost ({_first_line(error)})"
        return None
    try:
        has_end = zipfile.is_zipfile(path)
    except zipfile.BadZipFile as error:  # an end that says of more than one disk
        return f"bytes of it have changed since it was written ({_first_line(error)})"
    if not has_end:
        return f"it was not written to its end: it breaks off after {path.stat().st_size:,} bytes"
    # whatever a flipped bit in a header makes of the archive, the answer is that it is damaged
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as part:
                    while part.read(_BLOCK):
                        pass
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except zipfile.BadZipFile as error:
        return f"bytes of it have changed since it was written ({_first_line(error)})"
    except Exception as error:
        if "Weights only load failed" in str(error):
            return None  # whole, and holding what may not be executed: told where it is read
        return f"bytes of it have changed since it was written ({_first_line(error)})"
    return None


def step_of(path: Path) -> int | None:
    """Optimizer steps of a checkpoint, read without its tensors; None where it does not say."""
    # whatever is wrong with the file, it does not say
    try:
        return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"])
    except Exception:
        return None


def whole_beside(path: Path) -> list[tuple[int, Path]]:
    """The whole checkpoints in the directory of `path`, each with its optimizer step, the furthest first."""
    found = []
    for other in path.parent.glob("*.ckpt"):
        step = step_of(other) if other.absolute() != path.absolute() else None
        if step is not None and damage_of(other) is None:
            found.append((step, other))
    return sorted(found, key=lambda pair: (-pair[0], pair[1].name))


def alternatives(path: Path) -> str:
    """A sentence that names what is whole beside a damaged checkpoint."""
    others = [f"{other} (optimizer step {step})" for step, other in whole_beside(path)]
    return f"Whole beside it: {', '.join(others)}." if others else "No whole checkpoint lies beside it."


def require_whole(path: Path) -> None:
    """Complains of a damaged checkpoint.

    Raises:
        ConfigurationError: with what is wrong, and the whole ones beside it.
    """
    damage = damage_of(path)
    if damage is not None:
        raise ConfigurationError(f"{path} is damaged: {damage}. {alternatives(path)}")


def _identity(path: Path) -> tuple[str, int, int, int]:
    status = path.stat()
    return str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ino


def _keep(path: Path, previous: Path) -> None:
    """Gives the file the second name, without a moment at which it has none."""
    link = previous.with_name(f".{previous.name}.{_host()}-{os.getpid()}.part")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:
        # a file system without links: between this and what follows, `previous` is the one that is there
        os.replace(path, previous)
        return
    os.replace(link, previous)


def _sync_directory(directory: Path) -> None:
    """A renamed file is only there after a power cut if its directory is on the disk too."""
    with contextlib.suppress(OSError):  # Windows opens no directories
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _is_being_written(path: Path, host: str, pid: int) -> bool:
    if host == _host():
        if pid == os.getpid():
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return True
        return True
    try:
        return time.time() - path.stat().st_mtime < _ABANDONED_AFTER_SECONDS
    except OSError:
        return True


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", socket.gethostname()) or "host"


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().partition("\n")[0][:160]
