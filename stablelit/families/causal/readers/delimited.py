"""Tables as text: .csv, .tsv, .txt, some hundred rows at a time.

What separates the cells, whether there is a header and which decimal mark is used is found out; what was left out is in
the notes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from stablelit.data.files import existing_file
from stablelit.errors import DataError
from stablelit.families.causal.panel import Floats
from stablelit.families.causal.readers.dialect import DELIMITERS, Dialect, Row, sniff
from stablelit.families.causal.readers.table import NotObserved, Request, Table, no_number, numbers_of

# of 20 columns such pieces stay in the processor's cache: twice as fast as ten thousand rows at a time
_PIECE = 500
_FLAGS = {"true": "1", "false": "0"}


def read_delimited(path: Path, request: Request) -> Table:
    """Reads a table of text.

    Raises:
        DataError: no such file, a directory, empty, no text, no rows, a row with another number of cells, a column
            without a name, a cell that is no number (line, column and value are named), what `Request.chosen` refuses.
    """
    path = existing_file(path, "tables", "*.csv")
    dialect, notes = sniff(path, request.not_observed)
    return _read(path, dialect, request, notes)


def _read(path: Path, dialect: Dialect, request: Request, notes: list[str]) -> Table:
    chosen = request.chosen([name for name in dialect.names if name], str(path))
    place = {name: at for at, name in enumerate(dialect.names)}
    nameless = [at for at, name in enumerate(dialect.names) if not name]

    def called(row: int) -> str:
        return f"line {next(islice(dialect.rows(path), row, None))[0]}"

    rows = (row for _, row in dialect.rows(path))
    pieces: list[Floats] = []
    keys: dict[str, list[str]] = {name: [] for name in request.keys}
    unnamed: dict[int, list[str]] = {at: [] for at in nameless}
    n_rows = filled = 0
    with_commas: set[str] = set()
    while piece := list(islice(rows, _PIECE)):
        _even(piece, dialect, lambda row, before=n_rows: f"{path}: {called(before + row)}")
        filled = next((n_rows + len(piece) - b for b, row in enumerate(reversed(piece)) if any(row)), filled)
        if request.flags:
            piece = [[_FLAGS.get(cell.lower(), cell) for cell in row] for row in piece]
        cells = list(zip(*piece, strict=True))
        numbers = np.empty((len(piece), len(chosen)))
        for at, name in enumerate(chosen):
            numbers[:, at], commas, wrong = _numbers(cells[place[name]], dialect, request.not_observed)
            if wrong is not None:
                raise no_number(str(path), called(n_rows + wrong), name, cells[place[name]][wrong])
            with_commas |= {name} if commas else set()
        pieces.append(numbers)
        for name, texts in keys.items():
            texts += cells[place[name]]
        for at, texts in unnamed.items():
            texts += cells[at]
        n_rows += len(piece)
    if filled == 0:
        raise DataError(f"{path}: has {'no row' if n_rows == 0 else f'{n_rows} rows without a single value'}.")
    if with_commas:
        notes.append(f"{len(with_commas)} columns have decimal commas")
    if filled < n_rows:
        notes.append(f"{n_rows - filled} rows without a single value at its end are left out")
    notes += [_told_of_nameless(path, at, texts[:filled]) for at, texts in unnamed.items()]
    return Table(
        str(path),
        chosen,
        np.concatenate(pieces)[:filled],
        {name: np.array(texts[:filled], dtype=object) for name, texts in keys.items()},
        called,
        tuple(notes),
        dialect.named,
    )


def _even(piece: list[Row], dialect: Dialect, called: Callable[[int], str]) -> None:
    width = len(dialect.names)
    for place, row in enumerate(piece):
        if len(row) == width:
            continue
        if len(row) < width or any(row[width:]):
            raise DataError(
                f"{called(place)} has {len(row)} cells. Allowed: {width}, as the columns are; cells are taken to be "
                f"separated by {DELIMITERS[dialect.delimiter]}."
            )
        # a delimiter behind the last cell is a habit of some loggers
        del row[width:]


def _numbers(cells: Sequence[str], dialect: Dialect, not_observed: NotObserved) -> tuple[Floats, bool, int | None]:
    """The cells of a column as numbers, whether they have decimal commas, and the first that is no number."""
    if "_" not in "".join(cells):  # to Python, 1_000 is a number
        missing = not_observed.texts
        try:
            return np.array([float(cell) for cell in cells]), False, None
        except ValueError:
            pass
        try:
            return np.array([np.nan if cell in missing else float(cell) for cell in cells]), False, None
        except ValueError:
            pass
    numbers, wrong = numbers_of(cells, not_observed)
    if wrong is None or dialect.delimiter == ",":
        return numbers, False, wrong
    numbers, wrong_with_commas = numbers_of([cell.replace(",", ".", 1) for cell in cells], not_observed)
    return numbers, True, None if wrong_with_commas is None else max(wrong, wrong_with_commas)


def _told_of_nameless(path: Path, at: int, cells: Sequence[str]) -> str:
    if not any(cells):
        return f"column {at + 1} has neither a name nor a value and is left out"
    for first in (0, 1):
        if all(cell == str(number) for number, cell in enumerate(cells, start=first)):
            return f"column {at + 1} has no name and holds the numbers of the rows: it is left out"
    raise DataError(f"{path}: column {at + 1} has no name. Give it one in the header, or delete it.")
