"""Files of `torch.save` as plain data: nothing in them is executed, and no tensor stands for more than the file holds.

`torch.load(weights_only=True)` runs no code. It does set aside what a header claims, unpacks an archive that was
compressed, and builds views with stride 0, of which four bytes stand for a terabyte as soon as somebody copies them.
"""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stablelit.data.limits import check_unpacked
from stablelit.errors import DataError

_REMEDY = "Save it again with torch.save, without expanded views."
# what torch and its unpickler raise of damaged bytes
_DAMAGED = (
    *(RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(MemoryError, AssertionError, NotImplementedError, zipfile.BadZipFile, struct.error),
)


class HoldsObjectsError(DataError):
    """A file that holds more than tensors and plain data, so that reading all of it would run code.

    Args:
        message: of the error.
        found: what it holds, ``torch.nn.Linear``; empty where that is not known.
    """

    def __init__(self, message: str, found: str = "") -> None:
        super().__init__(message)
        self.found = found


def plain_tensors(path: Path, classes: Sequence[type] = (), mapped: bool = False) -> Any:
    """What `torch.save` has put into a file, on the CPU, if that is tensors and plain data.

    Args:
        path: of the file.
        classes: whose objects may be in it beside.
        mapped: whether what is not read stays on the disk.

    Raises:
        HoldsObjectsError: it holds other objects.
        DataError: damaged, another format, or more in memory than `check_unpacked` allows.
    """
    stored = path.stat().st_size
    try:
        is_archive = zipfile.is_zipfile(path)
        if is_archive:
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(info.file_size for info in archive.infolist())
            check_unpacked(path, unpacked, stored, "the archive", "torch.save does not compress: save it again.")
        with torch.serialization.safe_globals(list(classes)):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and is_archive)
        check_unpacked(path, _tensor_bytes(content), stored, "the tensors in it", _REMEDY)
    except DataError:
        raise
    except pickle.UnpicklingError as error:
        if "Weights only load failed" in str(error) and is_archive:
            named = re.search(r"GLOBAL (\S+)", str(error))
            found = named[1] if named else ""
            raise HoldsObjectsError(
                f"{path}: holds Python objects beside tensors and plain data{f' ({found})' if found else ''}, and "
                f"reading those would execute code.",
                found,
            ) from error
        raise DataError(_damaged(path, error)) from error
    except _DAMAGED as error:
        raise DataError(_damaged(path, error)) from error
    return content


def _damaged(path: Path, error: BaseException) -> str:
    first = str(error).strip().partition("\n")[0][:200]
    return (
        f"{path}: cannot be read as a file of torch.save ({type(error).__name__}: {first}). It is damaged, another "
        f"format, or was not written to its end."
    )


def _tensor_bytes(content: Any) -> int:
    """What all tensors take that are in a tree of containers and objects, were each of them copied."""
    total, waiting, seen = 0, [content], set[int]()
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            if thing.layout == torch.strided and thing.device.type == "cpu":
                total += thing.numel() * thing.element_size()
        elif isinstance(thing, Mapping):
            waiting += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple | set):
            waiting += thing
        elif hasattr(thing, "__dict__"):
            waiting.append(vars(thing))
    return total
