"""What is tried: how its valid files are made, how they are changed, and what reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stablelit.errors import StablelitError
from tests.fuzz.mutators import Mutator


def is_stablelit_error(error: BaseException) -> bool:
    """Whether it is one that a user can mend, with a message that says something."""
    return isinstance(error, StablelitError) and len(str(error)) > 10


@dataclass(frozen=True)
class Target:
    """A reader.

    Args:
        name: of the target.
        write: writes valid files into an empty folder; returns those that are changed, the first of which lies where
            the reader looks.
        read: reads the file (or the folder that it is in), all that there is.
        mutators: of the bytes of a file.
        quick: how many inputs the default tests try.
        is_ours: whether an error is one of those that the reader says it raises.
        seconds: that one input may take.
    """

    name: str
    write: Callable[[Path], list[Path]]
    read: Callable[[Path], object]
    mutators: tuple[Mutator, ...]
    quick: int = 35
    is_ours: Callable[[BaseException], bool] = is_stablelit_error
    seconds: float = 1.0


def one_file(name: str, *contents: bytes) -> Callable[[Path], list[Path]]:
    """Files of these contents; all have the suffix of `name`, and the first has its name."""

    def write(folder: Path) -> list[Path]:
        paths = []
        for i, content in enumerate(contents):
            path = folder / name if i == 0 else folder.parent / f"{folder.name}-seed{i}{Path(name).suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            paths.append(path)
        return paths

    return write
