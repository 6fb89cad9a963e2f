"""Leaves the graph that a run has learned as files that other programs open.

Runs    on_fit_end and on_test_end
Reads   `edge_list()` of the module: an object with `to_csv(path)` and `to_graphml(path)`
Writes  edges.csv and graph.graphml in `directory`, else in the logger's directory; a test after a fit replaces them, by
        the edges of the checkpoint that it tests. After a test it prints the edges' own `table()`, if they have one
Logs    nothing
Resumes nothing to resume: the files are written anew
Limits  rank zero only; nothing under fast_dev_run; a fit that ends by an exception leaves no files
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from stablelit.callbacks._snapshots import is_sharded
from stablelit.contracts import HasEdgeList, WritesEdges
from stablelit.data.files import replacing
from stablelit.errors import ContractError, bad_argument
from stablelit.findings import findings_directory
from stablelit.functional.schedules import check_flag
from stablelit.lost_reports import report_may_be_lost, say

EDGES_FILE = "edges.csv"
GRAPH_FILE = "graph.graphml"


class EdgeListWriter(pl.Callback):
    """Writes the edges of a learned graph.

    Args:
        directory: where the files go; None is the run's directory.
        print_table: print the edges after a test.

    Raises:
        ConfigurationError: a directory that is no text.
        ContractError: the module has no `edge_list()`, or it returns something that does not write itself.

    Example:
        >>> from stablelit import EdgeListWriter
        >>> callback = EdgeListWriter()
    """

    keeps_books = True

    def __init__(self, directory: str | None = None, print_table: bool = True) -> None:
        if directory is not None and (not isinstance(directory, str) or not directory):
            raise bad_argument("EdgeListWriter", "directory", directory, "a path as text, or None")
        self.directory = directory
        self.print_table = check_flag("EdgeListWriter", "print_table", print_table)

    def __repr__(self) -> str:
        return f"EdgeListWriter(directory={self.directory!r})"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Asks for the contract before anything runs."""
        if not isinstance(pl_module, HasEdgeList):
            raise ContractError(
                f"EdgeListWriter: {type(pl_module).__name__} has no edge_list(). Give it a method that returns an "
                f"object with to_csv(path) and to_graphml(path), or take the callback away."
            )

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the graph at the end of the training."""
        self._write(trainer, pl_module)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the graph that was tested, and prints it."""
        edges = self._write(trainer, pl_module)
        table = getattr(edges, "table", None)
        if self.print_table and callable(table):
            say(trainer, "EdgeListWriter", table())

    def _write(self, trainer: Any, pl_module: Any) -> WritesEdges | None:
        # of a module in shards every rank has to ask, or the one that does waits for the others
        if trainer.fast_dev_run or not (trainer.is_global_zero or is_sharded(trainer.strategy)):
            return None
        edges = pl_module.edge_list()
        if not isinstance(edges, WritesEdges):
            raise ContractError(
                f"EdgeListWriter: {type(pl_module).__name__}.edge_list() returned a {type(edges).__name__}; allowed: "
                f"an object with to_csv(path) and to_graphml(path)."
            )
        if not trainer.is_global_zero:
            return None
        root = Path(self.directory) if self.directory else findings_directory(trainer)
        for name, write in ((EDGES_FILE, edges.to_csv), (GRAPH_FILE, edges.to_graphml)):
            # a run that is killed here leaves the file before it
            with report_may_be_lost(trainer, "EdgeListWriter", root / name), replacing(root / name) as unfinished:
                write(unfinished)
        return edges
