"""How a table of text is to be read, found out from its first rows."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice, takewhile
from pathlib import Path
from typing import NamedTuple

from stablelit.errors import DataError
from stablelit.families.causal.readers.table import NotObserved, numbers_of

Row = list[str]

# empty is any run of blanks
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", "": "blanks"}
_SAMPLE_ROWS = 50


class Dialect(NamedTuple):
    """How a text is to be read.

    Args:
        encoding: of its bytes.
        delimiter: between cells, of `DELIMITERS`.
        names: of the columns.
        skip: rows before the first one of data: comments and the header.
        named: whether the names are those of a header.
    """

    encoding: str
    delimiter: str
    names: tuple[str, ...]
    skip: int
    named: bool = True

    def rows(self, path: Path) -> Iterator[tuple[int, Row]]:
        """The rows of data as cells, each with the number of its line from 1; lines without a character are none."""
        return islice(_rows(path, self.encoding, self.delimiter), self.skip, None)


def sniff(path: Path, not_observed: NotObserved) -> tuple[Dialect, list[str]]:
    """Finds out the dialect, and notes what is unusual about it.

    The first row that is no comment is a header if one of its cells is no number. Where it is none, the comment before
    it is, if it has as many cells, as `numpy.savetxt` writes it.

    Raises:
        DataError: it is no text, or has no row.
    """
    encoding, notes = _encoding(path)
    delimiter = _delimiter(path, encoding, not_observed)
    rows = [row for _, row in islice(_rows(path, encoding, delimiter), _SAMPLE_ROWS)]
    comments = list(takewhile(_is_comment, rows))
    if len(comments) == len(rows):
        raise DataError(f"{path}: has no row.")
    first, skip = rows[len(comments)], len(comments)
    above = _without_mark(comments[-1]) if comments else []
    if _first_not_a_number(first, delimiter, not_observed) is not None:
        return Dialect(encoding, delimiter, tuple(name.strip() for name in first), skip + 1), notes
    if len(above) == len(first):
        return Dialect(encoding, delimiter, tuple(name.strip() for name in above), skip), notes
    notes.append(f"has no header: its columns are called x0 to x{len(first) - 1}")
    return Dialect(encoding, delimiter, tuple(f"x{i}" for i in range(len(first))), skip, False), notes


def _encoding(path: Path) -> tuple[str, list[str]]:
    with path.open("rb") as file:
        begin = file.read(1 << 16)
    if begin[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16", []
    if b"\x00" in begin:
        raise DataError(
            f"{path}: is no text (it has bytes of value 0). Allowed: a table of text. Give another format its own "
            f"suffix."
        )
    try:
        with path.open(encoding="utf-8-sig") as text:
            while text.read(1 << 20):
                pass
    except UnicodeDecodeError:
        return "latin-1", ["is not UTF-8: read as Latin-1"]
    return "utf-8-sig", []


def _delimiter(path: Path, encoding: str, not_observed: NotObserved) -> str:
    """The one that cuts the first rows into equally many cells, of which most are numbers."""
    best, most = ",", (0.0, 1)
    for delimiter in DELIMITERS:
        rows = [row for _, row in islice(_rows(path, encoding, delimiter), _SAMPLE_ROWS) if not _is_comment(row)]
        widths = [len(row) for row in rows]
        # rows may end in a delimiter that the header has not
        if not rows or min(widths) < max(2, widths[0]) or max(widths) > widths[0] + 1:
            continue
        cells = [cell for row in rows[1:] or rows for cell in row]
        good = sum(_first_not_a_number([cell], delimiter, not_observed) is None for cell in cells)
        if (good / len(cells), widths[0]) > most:
            best, most = delimiter, (good / len(cells), widths[0])
    return best


def _rows(path: Path, encoding: str, delimiter: str) -> Iterator[tuple[int, Row]]:
    with path.open(encoding=encoding, newline="") as file:
        if delimiter:
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            try:
                for row in reader:
                    if row:
                        yield reader.line_num, row
            except csv.Error as error:
                raise DataError(f"{path}: cannot be read as text with {DELIMITERS[delimiter]} ({error}).") from error
        else:
            for number, line in enumerate(file, start=1):
                if row := line.split():
                    yield number, row


def _is_comment(row: Row) -> bool:
    return row[0].startswith("#")


def _without_mark(row: Row) -> Row:
    first = row[0].lstrip("# ")
    return [first, *row[1:]] if first else row[1:]


def _first_not_a_number(cells: Row, delimiter: str, not_observed: NotObserved) -> int | None:
    if delimiter != ",":
        cells = [cell.replace(",", ".", 1) for cell in cells]
    return numbers_of(cells, not_observed)[1]
