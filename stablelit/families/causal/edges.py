"""The edges of an estimated graph as a list that a person reads and other programs load: a table, CSV, GraphML."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor

from stablelit.data.files import existing_file
from stablelit.errors import DataError, did_you_mean
from stablelit.functional.edge_thresholds import checked_graphs, square_matrices
from stablelit.functional.score_groups import Array

Verdict = Literal["correct", "reversed", "false"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_COLUMNS = ("source", "target", "weight", "confidence", "verdict")


@dataclass(frozen=True)
class Edge:
    """One edge.

    Args:
        source: where it begins.
        target: where it ends.
        weight: in the units that the learner works in.
        confidence: in [0, 1], such as the share of bootstrap samples that have it; None where it was not measured.
        verdict: `correct`, `reversed` (true the other way round) or `false`; None where the truth is not known.
    """

    source: str
    target: str
    weight: float
    confidence: float | None = None
    verdict: Verdict | None = None


class EdgeList:
    """The edges of an estimated graph, the strongest first: by size of the weight, then by names.

    Args:
        names: of all d nodes, also of those without an edge.
        edges: the edges.
        missing: true edges that the estimate does not have in either direction, as (source, target). They are shown
            in the table and are no part of what is exported: an export is the estimate.

    Raises:
        DataError: a name twice, an edge of an unknown node or from a node to itself, one edge twice, a weight that is
            not a number, a confidence outside [0, 1], an unknown verdict.

    Example:
        >>> weights = np.array([[0.0, -0.8], [0.0, 0.0]])
        >>> print(EdgeList.from_weights(weights, ["pump", "flow"]))
        pump -> flow  -0.8
    """

    def __init__(self, names: Sequence[str], edges: Sequence[Edge], missing: Sequence[tuple[str, str]] = ()) -> None:
        self.names = tuple(str(name) for name in names)
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise DataError(f"EdgeList: the name {twice!r} is there {self.names.count(twice)} times; allowed: once.")
        _check(edges, self.names)
        self.edges = tuple(sorted(edges, key=lambda edge: (-abs(edge.weight), edge.source, edge.target)))
        self.missing = tuple(missing)

    @classmethod
    def from_weights(
        cls,
        weights: Tensor | Array,
        names: Sequence[str],
        confidence: Tensor | Array | None = None,
        truth: Tensor | Array | None = None,
    ) -> EdgeList:
        """The edges i -> j where ``weights[i, j]`` is not 0.

        Args:
            weights: (d, d), 0 where there is no edge; the diagonal is not looked at.
            names: of the d nodes.
            confidence: (d, d) in [0, 1].
            truth: (d, d) bool or 0 and 1: gives every edge a verdict, and lists what is missing.

        Raises:
            DataError: shapes that differ, NaN, truth with weights or self-loops, and as above.
        """
        values = square_matrices(weights, "EdgeList: weights")[0]
        nodes = len(values)
        if np.ndim(weights) != 2 or len(names) != nodes:
            raise DataError(
                f"EdgeList: {len(names)} names for weights of shape {tuple(np.shape(weights))}; allowed: one name for "
                f"each row of one (d, d) matrix."
            )
        shares = None if confidence is None else _of_this_shape(confidence, nodes, "confidence")
        true = None if truth is None else checked_graphs(truth, "EdgeList: true edges")
        if true is not None and true.shape != (1, nodes, nodes):
            raise DataError(f"EdgeList: truth of shape {tuple(np.shape(truth))} for {nodes} nodes; allowed: (d, d).")
        there = (values != 0) & ~np.eye(nodes, dtype=bool)
        said = {} if true is None else edge_verdicts(there, true[0])
        labels = [str(name) for name in names]
        edges = []
        for i, j in np.argwhere(there).tolist():
            share = None if shares is None else float(shares[i, j])
            verdict = next((name for name in VERDICTS if said and said[name][i, j]), None)
            edges.append(Edge(labels[i], labels[j], float(values[i, j]), share, verdict))
        missing = np.argwhere(said["missing"]).tolist() if said else []
        return cls(labels, edges, [(labels[i], labels[j]) for i, j in missing])

    @classmethod
    def from_csv(cls, path: str | Path, names: Sequence[str] | None = None) -> EdgeList:
        """Reads what `to_csv` wrote.

        Args:
            path: the file.
            names: of all nodes; None takes those that have an edge, in the order in which they come.

        Raises:
            DataError: no such file, no table of text, a column is missing or a field is no number; the message has
                file and line.
        """
        path = existing_file(path, "lists of edges", "edges.csv")
        # a spreadsheet program puts a mark before the first column's name
        with path.open(newline="", encoding="utf-8-sig") as file:
            try:
                reader = csv.DictReader(file)
                missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
                if missing:
                    there = ", ".join(reader.fieldnames or ())
                    raise DataError(f"{path}: no column {missing[0]!r}; there are {there}.")
                edges = [_edge_of_row(row, f"{path}:{reader.line_num}") for row in reader]
            except (UnicodeDecodeError, csv.Error) as error:
                raise DataError(f"{path}: cannot be read as csv ({error}). Allowed: what `to_csv` writes.") from error
        ends = dict.fromkeys(name for edge in edges for name in (edge.source, edge.target))
        return cls(list(ends) if names is None else names, edges)

    def __len__(self) -> int:
        return len(self.edges)

    def __iter__(self) -> Iterator[Edge]:
        return iter(self.edges)

    def __repr__(self) -> str:
        return f"EdgeList({len(self.names)} nodes, {len(self.edges)} edges)"

    def __str__(self) -> str:
        return self.table(most=None)

    def table(self, most: int | None = 20) -> str:
        """One line an edge, the strongest first; then the true edges that are missing.

        Args:
            most: how many lines of each; one more says how many there are beyond. None is all.
        """
        rows = [
            (
                f"{edge.source} -> {edge.target}",
                f"{edge.weight:.4g}",
                "" if edge.confidence is None else f"{100 * edge.confidence:.0f} %",
                edge.verdict or "",
            )
            for edge in self.edges[:most]
        ]
        first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else [0]
        lines = [
            "  ".join([row[0].ljust(first), *(text.rjust(n) for text, n in zip(row[1:], others, strict=True) if n)])
            for row in rows
        ]
        missing = [f"missing: {source} -> {target}" for source, target in self.missing[:most]]
        for shown, count in ((lines, len(self.edges)), (missing, len(self.missing))):
            if len(shown) < count:
                shown.append(f"... and {count - len(shown)} more")
        return "\n".join([*(lines or [f"no edges among {len(self.names)} nodes"]), *missing])

    def to_csv(self, path: str | Path) -> None:
        """Writes ``source,target,weight,confidence,verdict``; fields that are not known are empty.

        Numbers are written so that they come back exactly. Nodes without an edge are not in the file.
        """
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            for edge in self.edges:
                confidence = "" if edge.confidence is None else repr(edge.confidence)
                writer.writerow([edge.source, edge.target, repr(edge.weight), confidence, edge.verdict or ""])

    def to_networkx(self) -> Any:
        """A ``networkx.DiGraph`` with all nodes; what an edge does not have (confidence, verdict) is left out."""
        import networkx

        graph = networkx.DiGraph()
        graph.add_nodes_from(self.names)
        for edge in self.edges:
            known = {"weight": edge.weight, "confidence": edge.confidence, "verdict": edge.verdict}
            graph.add_edge(edge.source, edge.target, **{k: v for k, v in known.items() if v is not None})
        return graph

    def to_graphml(self, path: str | Path) -> None:
        """Writes GraphML, which yEd, Gephi, Cytoscape and igraph read; nodes have their names as identifiers."""
        import networkx

        networkx.write_graphml(self.to_networkx(), str(path), prettyprint=True)


def edge_verdicts(predicted: Array, truth: Array) -> dict[Verdict | Literal["missing"], Array]:
    """What is to be said of every place of a matrix of edges; at most one is true at a place.

    SHD is the number of `reversed` (times their cost), `false` and `missing`. A pair that is predicted both ways and
    true one way has a `correct` and a `false` edge.

    Args:
        predicted: (d, d) bool.
        truth: (d, d) bool.

    Returns:
        (d, d) bool by verdict. `reversed` marks the predicted edge, `missing` the true one.
    """
    turned = predicted & ~predicted.T & truth.T & ~truth
    return {
        "correct": predicted & truth,
        "reversed": turned,
        "false": predicted & ~truth & ~turned,
        "missing": truth & ~predicted & ~turned.T,
    }


def _of_this_shape(matrix: Tensor | Array, nodes: int, what: str) -> Array:
    values = square_matrices(matrix, f"EdgeList: {what}")
    if values.shape != (1, nodes, nodes):
        raise DataError(f"EdgeList: {what} of shape {tuple(np.shape(matrix))} for {nodes} nodes; allowed: (d, d).")
    return values[0]


def _check(edges: Sequence[Edge], names: Sequence[str]) -> None:
    seen = set()
    for edge in edges:
        place = f"EdgeList: the edge {edge.source!r} -> {edge.target!r}"
        for name in (edge.source, edge.target):
            if name not in names:
                raise DataError(f"{place}: there is no node {name!r}. {did_you_mean(name, names)}".rstrip())
        if edge.source == edge.target:
            raise DataError(f"{place} is from a node to itself; allowed: between two nodes.")
        if (edge.source, edge.target) in seen:
            raise DataError(f"{place} is there twice; allowed: once.")
        seen.add((edge.source, edge.target))
        if math.isnan(edge.weight):
            raise DataError(f"{place}: its weight is NaN.")
        if edge.confidence is not None and not 0.0 <= edge.confidence <= 1.0:
            raise DataError(f"{place}: confidence {edge.confidence:g}; allowed: between 0 and 1.")
        if edge.verdict is not None and edge.verdict not in VERDICTS:
            raise DataError(f"{place}: verdict {edge.verdict!r}; allowed: {', '.join(VERDICTS)}.")


def _edge_of_row(row: Mapping[str, str | None], place: str) -> Edge:
    if None in row or None in row.values():
        raise DataError(f"{place}: another number of fields than the first line has.")
    try:
        weight = float(row["weight"])  # type: ignore[arg-type]
        confidence = float(row["confidence"]) if row["confidence"] else None
    except ValueError as error:
        raise DataError(f"{place}: {error}; allowed: numbers for weight and confidence.") from error
    return Edge(row["source"], row["target"], weight, confidence, row["verdict"] or None)  # type: ignore[arg-type]
