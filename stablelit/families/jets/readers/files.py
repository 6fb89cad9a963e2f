"""Finding files of jets and opening HDF5, with messages a user can act on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from stablelit.data import files
from stablelit.errors import DataError, StablelitError, missing_extra

# Jets that are read at a time: the arrays of a piece stay below 100 MB at 200 particles a jet
PIECE = 20_000


def expanded(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files that a path, a pattern (``jets_*.h5``) or a list of them name; a pattern's in the order of their names.

    Raises:
        DataError: a pattern that no file matches, a file that is named twice, an empty list.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    named: list[Path] = []
    for path in map(str, given):
        if has_magic(path) and not Path(path).exists():
            matches = sorted(match for match in glob(path, recursive=True) if Path(match).is_file())
            if not matches:
                raise DataError(f"{path}: no file matches this pattern. Put it in quotes, and look with `ls {path}`.")
            named += map(Path, matches)
        else:
            named.append(Path(path))
    twice = [str(file) for file in named if named.count(file) > 1]
    if twice:
        raise DataError(f"{twice[0]}: is named twice; its jets would be in more than one split. Name it once.")
    if not named:
        raise DataError("No file of jets is named: the list of paths is empty.")
    return named


def existing_file(path: str | Path) -> Path:
    """`path`, if it is a file.

    Raises:
        DataError: nothing there (near names are given), a directory, an empty file.
    """
    return files.existing_file(path, "files of jets", "*.h5")


@contextmanager
def opened_hdf5(path: str | Path, wanted: str) -> Iterator[Any]:
    """An open `h5py.File`; what goes wrong inside the block is told as what is wrong with the file.

    Args:
        path: of the file.
        wanted: what should be in it, for messages.

    Raises:
        DataError: no such file, a directory, not HDF5, truncated, damaged, compressed by a filter that is not
            installed.
        MissingDependencyError: h5py is not installed.
    """
    h5py = imported_h5py()
    # its import makes the filters known to h5py; pandas compresses with blosc, which h5py has not
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401
    path = existing_file(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        if "truncated" in str(error):
            raise DataError(
                f"{path}: the HDF5 file is truncated ({path.stat().st_size} bytes are there). The copy or download was "
                f"interrupted: fetch it again and compare its size. ({error})"
            ) from error
        if "filter" in str(error) or "plugin" in str(error):
            raise DataError(
                f"{path}: is compressed with a filter that this h5py lacks ({error}). Most, blosc among them, come "
                f"with hdf5plugin: pip install 'stablelit[hdf5]'. Or write the file again with gzip."
            ) from error
        raise DataError(
            f"{path}: cannot be read as HDF5 ({error}). Allowed: {wanted}. If it is another format, give it its own "
            f"suffix; if it is HDF5, it is damaged."
        ) from error
    except StablelitError:
        raise
    # of what is damaged inside, h5py tells by many types
    except (LookupError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError, OverflowError) as error:
        raise DataError(
            f"{path}: cannot be read as HDF5 ({type(error).__name__}: {str(error)[:200]}). Allowed: {wanted}. The file "
            f"is damaged: copy or download it again."
        ) from error


def imported_h5py() -> Any:
    """The module h5py, an optional dependency."""
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("h5py", "hdf5", "Reading or writing HDF5 files") from error
    return h5py
