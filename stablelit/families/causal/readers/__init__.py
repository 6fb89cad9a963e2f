"""Files of sensors, by suffix. One format a file; a new format is one entry of `FORMATS`.

| format | suffix | what is read | extra |
|---|---|---|---|
| text | .csv .tsv .txt | commas, semicolons, tabs, bars or blanks; decimal points or commas; header or none | |
| parquet | .parquet | columns of numbers; null is not observed | parquet |
| numpy | .npz | `values` (or `X`, `data`), `names`, `mask`, `time`, ..., as `write_panel` writes them | |
| numpy | .npy | an array (rows, columns), or a structured array | |

Whatever the format, rows become a `SensorPanel`. A frame in memory is read by `panel_of_frame`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stablelit.data.safe_load import opened_arrays
from stablelit.errors import DataError, did_you_mean
from stablelit.families.causal.panel import Bools
from stablelit.families.causal.readers.assembly import Reading, assemble, flags_of
from stablelit.families.causal.readers.delimited import read_delimited
from stablelit.families.causal.readers.frame import read_frame
from stablelit.families.causal.readers.numpy_files import read_npy, read_npz, write_panel
from stablelit.families.causal.readers.parquet import read_parquet
from stablelit.families.causal.readers.settings import PanelSettings
from stablelit.families.causal.readers.table import NotObserved, Request, Table

__all__ = [
    "FORMATS",
    "Format",
    "PanelSettings",
    "Reading",
    "check_suffix",
    "panel_of_frame",
    "read_panel",
    "read_table",
    "write_panel",
]


@dataclass(frozen=True)
class Format:
    """A file format.

    Args:
        name: what it is called.
        suffixes: of its files, lower case.
        read: reads a file.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, Request], Table]


FORMATS = (
    Format("table of text", (".csv", ".tsv", ".txt"), read_delimited),
    Format("parquet", (".parquet",), read_parquet),
    Format("arrays of numpy", (".npz",), read_npz),
    Format("one array of numpy", (".npy",), read_npy),
)


def check_suffix(path: str | Path) -> Format:
    """The format that goes with the suffix of `path`.

    Raises:
        DataError: a directory, or an unknown suffix; the known ones are listed.
    """
    if Path(path).is_dir():
        raise DataError(f"{path} is a directory; name a file in it.")
    suffix = Path(path).suffix.lower()
    for entry in FORMATS:
        if suffix in entry.suffixes:
            return entry
    known = "; ".join(f"{' '.join(entry.suffixes)} ({entry.name})" for entry in FORMATS)
    hint = did_you_mean(suffix, [s for entry in FORMATS for s in entry.suffixes])
    raise DataError(f"{path}: no format goes with the suffix {suffix!r}. Known: {known}. {hint}".rstrip())


def read_panel(path: str | Path, settings: PanelSettings | None = None) -> Reading:
    """Reads and validates a file of sensors, whatever its format.

    Args:
        path: of the file.
        settings: how its columns are to be understood.

    Raises:
        DataError: what cannot be used, with file, row, column and value.
    """
    chosen = PanelSettings() if settings is None else settings
    return assemble(read_table(Path(path), chosen.request), chosen, _mask_for)


def panel_of_frame(frame: Any, settings: PanelSettings | None = None) -> Reading:
    """Likewise of a data frame in memory; its index is a column under its own name, or as "index"."""
    chosen = PanelSettings() if settings is None else settings
    return assemble(read_frame(frame, chosen.request), chosen, _mask_for)


def read_table(path: Path, request: Request) -> Table:
    """Reads a file without making a panel of it."""
    return check_suffix(path).read(path, request)


def _mask_for(path: Path, table: Table) -> Bools:
    if path.suffix.lower() == ".npz":
        with opened_arrays(path) as file:
            if "mask" not in file.files:
                raise DataError(f"{path}: has no array 'mask'. Found: {', '.join(sorted(file.files)) or 'nothing'}.")
            return flags_of(file["mask"], table.values.shape, f"{path}: the mask")
    found = read_table(path, Request(None, (), NotObserved.of("mask", []), flags=True))
    if not found.named:
        return flags_of(found.values, table.values.shape, f"{path}: the mask")
    # a mask of the whole file has a column for each of its columns
    missing = [name for name in table.names if name not in found.names]
    if missing:
        raise DataError(
            f"{path}: the mask has no column {missing[0]!r}. Found: {', '.join(found.names)}. "
            f"{did_you_mean(missing[0], found.names)}".rstrip()
        )
    at = [found.names.index(name) for name in table.names]
    return flags_of(found.values[:, at], table.values.shape, f"{path}: the mask")
