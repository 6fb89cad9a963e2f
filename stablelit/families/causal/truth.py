"""Files of true graphs: a matrix, a list of edges, or Tetrad's text. All become ``(d, d)`` bool, [i, j] is i -> j.

| form | suffix | what it looks like |
|---|---|---|
| matrix | .npy, .npz (`truth`), .csv .tsv .txt | 0 and 1; of text with a header of names or without, and with a first column of names or without |
| list of edges | .csv .tsv .txt | columns Cause, Effect (or source, target; from, to), as in cdt; or two names a row |
| Tetrad | .txt | "Graph Edges:" and lines such as "1. raf --> mek" |

A matrix has a convention: "row" is [i, j] for i -> j (NOTEARS, dagma, gcastle, GraN-DAG), "column" is [i, j] for j -> i
(LiNGAM, where x = B x + e). It is never guessed.
"""  # noqa: E501

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.data.files import existing_file
from stablelit.data.safe_load import begins_as_array, loaded_array, opened_arrays
from stablelit.errors import DataError, bad_argument, did_you_mean
from stablelit.families.causal.graphs import directed_cycle
from stablelit.families.causal.panel import Bools

CONVENTIONS = ("row", "column")
_CAUSES, _EFFECTS = ("cause", "source", "from", "parent"), ("effect", "target", "to", "child")
_TETRAD_EDGE = re.compile(r"^\s*\d+\.\s+(.+?)\s+([-<o]-[->o])\s+(.+?)(?:\s+(?:dd|pd|nl|pl).*)?\s*$")
_MOST_BYTES, _LONGEST_EDGE = 16 << 20, 500
_TEXT = (".csv", ".tsv", ".txt")


def read_truth(path: str | Path, names: Sequence[str], convention: str = "row", allow_cyclic: bool = False) -> Bools:
    """Reads a true graph for some columns.

    Args:
        path: of the file.
        names: of the columns; where the file has names, its graph is put into their order.
        convention: of a matrix, "row" or "column".
        allow_cyclic: whether a graph with a directed cycle is no error.

    Raises:
        ConfigurationError: another convention.
        DataError: no such file, another form, a name that is no column (near names are given), a column that the file
            does not name, another number of nodes, values other than 0 and 1, undirected edges, self-loops, cycles.
    """
    if convention not in CONVENTIONS:
        raise bad_argument("read_truth", "convention", convention, "'row' ([i, j] is i -> j) or 'column' (j -> i)")
    path = existing_file(path, "true graphs", "*.csv")
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        graph = _of_matrix(path, _array(path), None, names, convention)
    elif suffix in _TEXT:
        graph = _of_text(path, names, convention)
    else:
        raise DataError(
            f"{path}: no form of a graph goes with the suffix {suffix!r}. Known: .npy .npz (matrix), {' '.join(_TEXT)} "
            f"(matrix, list of edges, Tetrad). {did_you_mean(suffix, ('.npy', '.npz', *_TEXT))}".rstrip()
        )
    return checked_graph(graph, names, str(path), allow_cyclic)


def checked_graph(graph: Bools, names: Sequence[str], place: str, allow_cyclic: bool = False) -> Bools:
    """A graph without self-loops and, unless they are allowed, cycles.

    Raises:
        DataError: one of them; it is written out.
    """
    loops = np.flatnonzero(np.diag(graph))
    if len(loops):
        loop = names[int(loops[0])]
        raise DataError(
            f"{place}: the true graph has {len(loops)} self-loop(s), the first {loop} -> {loop}. Allowed: none, since "
            f"an edge joins two columns. Take them out."
        )
    if not allow_cyclic and (cycle := directed_cycle(graph)):
        walk = " -> ".join(names[i] for i in cycle)
        raise DataError(
            f"{place}: the true graph has a cycle: {walk}. Allowed: none, unless allow_cyclic=True. An edge that is "
            f"there both ways is an undirected one: give the graph of which every edge has a direction."
        )
    return graph


def _of_text(path: Path, names: Sequence[str], convention: str) -> Bools:
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise DataError(f"{path}: is a text of {size} bytes. Allowed: {_MOST_BYTES}, which is a graph of 2,000 nodes.")
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    if "Graph Edges:" in text:
        return _of_edges(path, names, _tetrad_edges(path, text))
    delimiter = next((d for d in ("\t", ";", ",") if d in text), None)
    lines = text.splitlines()
    try:
        rows = [line.split() for line in lines] if delimiter is None else list(csv.reader(lines, delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as a table of text ({error}).") from error
    rows = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    if not rows:
        raise DataError(f"{path}: has no row.")
    header = [cell.lower() for cell in rows[0]]
    cause = next((header.index(name) for name in _CAUSES if name in header), None)
    effect = next((header.index(name) for name in _EFFECTS if name in header), None)
    if cause is not None and effect is not None:
        return _of_edges(path, names, [(row[cause], row[effect]) for row in _as_wide(path, rows)[1:]])
    if all(len(row) == 2 and set(row) <= set(names) for row in rows):
        return _of_edges(path, names, [(row[0], row[1]) for row in rows])
    called, body = None, rows
    if all(_number(cell) is None for cell in rows[0] if cell):
        called, body = rows[0], rows[1:]
    beside = [row[0] for row in body]
    named = all(_number(name) is None for name in beside)
    if body and (named or (called is not None and called[0] == "")):
        # a first column of names, or of the numbers that pandas writes, with a corner cell above it or none
        body = [row[1:] for row in body]
        called = called[1:] if called is not None and len(called) > len(body) else called
        if named and called is not None and beside != called:
            raise DataError(
                f"{path}: the rows are called {', '.join(beside)} and the columns {', '.join(called)}. Allowed: the "
                f"same names in the same order."
            )
        called = beside if called is None else called
    return _of_matrix(path, _matrix(path, body), called, names, convention)


def _as_wide(path: Path, rows: list[list[str]]) -> list[list[str]]:
    for place, row in enumerate(rows):
        if len(row) < 2 or len(row) != len(rows[0]):
            raise DataError(f"{path}: row {place} has {len(row)} cells, the header {len(rows[0])}. Allowed: as many.")
    return rows


def _tetrad_edges(path: Path, text: str) -> list[tuple[str, str]]:
    edges: list[tuple[str, str]] = []
    for line in text.split("Graph Edges:", 1)[1].splitlines():
        if not line.strip():
            # what follows the list (attributes of the graph) is no edge
            if edges:
                break
            continue
        # the pattern takes its time over long lines of blanks
        found = _TETRAD_EDGE.match(line) if len(line) <= _LONGEST_EDGE else None
        if found is None or found[2] not in ("-->", "<--"):
            raise DataError(
                f"{path}: the edge {line.strip()[:80]!r} has no direction or another form. Allowed: 'a --> b' and "
                f"'a <-- b'; give the graph of which every edge has one direction."
            )
        edges.append((found[1], found[3]) if found[2] == "-->" else (found[3], found[1]))
    return edges


def _of_edges(path: Path, names: Sequence[str], edges: Sequence[tuple[str, str]]) -> Bools:
    graph = np.zeros((len(names), len(names)), dtype=bool)
    for edge in edges:
        for name in edge:
            if name not in names:
                raise _unknown(path, name, names)
        at = tuple(list(names).index(name) for name in edge)
        if graph[at]:
            raise DataError(f"{path}: the edge {edge[0]} -> {edge[1]} is there twice. Allowed: once.")
        graph[at] = True
    return graph


def _of_matrix(
    path: Path, matrix: NDArray[Any], called: Sequence[str] | None, names: Sequence[str], convention: str
) -> Bools:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"{path}: the true graph has shape {matrix.shape}. Allowed: square, (d, d).")
    if called is not None and len(called) != len(matrix):
        raise DataError(f"{path}: {len(called)} names for {len(matrix)} nodes. Allowed: one for each.")
    if called is None and len(matrix) != len(names):
        raise DataError(
            f"{path}: the true graph has {len(matrix)} nodes and the data {len(names)} columns ({', '.join(names)}). "
            f"Allowed: as many, in the same order; or a file with names."
        )
    if matrix.dtype.kind not in "fiub":
        raise DataError(f"{path}: the true graph has values of type {matrix.dtype}. Allowed: 0 and 1.")
    wrong = np.argwhere((matrix != 0) & (matrix != 1))
    if len(wrong):
        i, j = (int(place) for place in wrong[0])
        raise DataError(
            f"{path}: the true graph has {matrix[i, j]:g} at ({i}, {j}), and {len(wrong)} entries are neither 0 nor 1. "
            f"Allowed: 0 and 1. Give the graph, not its weights: (weights != 0)."
        )
    graph = matrix.astype(bool)
    if called is not None:
        for name in called:
            if name not in names:
                raise _unknown(path, name, names)
        if sorted(called) != sorted(names):
            missing = [name for name in names if name not in called]
            what = f"has no node {missing[0]!r}" if missing else "names a node twice"
            raise DataError(
                f"{path}: the true graph {what}. Found: {', '.join(called)}. Allowed: every column of the data once."
            )
        at = [list(called).index(name) for name in names]
        graph = graph[np.ix_(at, at)]
    return graph if convention == "row" else graph.T.copy()


def _unknown(path: Path, name: str, names: Sequence[str]) -> DataError:
    return DataError(
        f"{path}: the true graph has the node {name!r}, which is no column. Columns: {', '.join(names)}. "
        f"{did_you_mean(name, names)} Effects of a cause that is left out are joined, so that a graph of more nodes is "
        f"none of these columns.".replace("  ", " ")
    )


def _array(path: Path) -> NDArray[Any]:
    if begins_as_array(path):
        return loaded_array(path)
    with opened_arrays(path) as file:
        key = "truth" if "truth" in file.files else None
        if key is None and len(file.files) == 1:
            key = file.files[0]
        if key is None:
            raise DataError(f"{path}: has no array 'truth'. Found: {', '.join(sorted(file.files)) or 'nothing'}.")
        return file[key]


def _matrix(path: Path, rows: list[list[str]]) -> NDArray[np.float64]:
    width = len(rows[0]) if rows else 0
    for place, row in enumerate(rows):
        if len(row) != width:
            raise DataError(
                f"{path}: row {place} of the matrix has {len(row)} cells, the first {width}. Allowed: as many."
            )
        for column, cell in enumerate(row):
            if _number(cell) is None:
                raise DataError(
                    f"{path}: the matrix has {cell!r} at ({place}, {column}). Allowed: 0 and 1. If this is a list of "
                    f"edges, call its columns Cause and Effect."
                )
    return np.array([[float(cell) for cell in row] for row in rows]).reshape(len(rows), width)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
