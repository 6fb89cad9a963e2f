"""Where rows come from: a toy model, a file with its mask and its true graph, or memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any

from stablelit.data.files import file_identity
from stablelit.errors import bad_argument, did_you_mean
from stablelit.families.causal.panel import SensorPanel
from stablelit.families.causal.readers import PanelSettings, check_suffix, read_panel
from stablelit.families.causal.sem import SyntheticSEM
from stablelit.families.causal.truth import CONVENTIONS, checked_graph, read_truth
from stablelit.functional.schedules import check_flag

_OWNER = "SensorDataModule"
# of these, nothing can be meant where no file is read
_OF_A_FILE = ("columns", "time_column", "mask", "environment_column", "interventions", "truth")


@dataclass(frozen=True)
class Delivered:
    """Rows, what they are called, and what was done on the way."""

    panel: SensorPanel
    called: str
    notes: tuple[str, ...] = ()


class ToySource:
    """Rows of a `SyntheticSEM`.

    Args:
        sem: its arguments.
        seed: where they have none.

    Raises:
        ConfigurationError: an argument that it does not have (near names are given), or out of range.
    """

    def __init__(self, sem: Mapping[str, Any] | None, seed: int) -> None:
        if sem is not None and not isinstance(sem, Mapping):
            raise bad_argument(_OWNER, "sem", sem, "a mapping of the arguments of SyntheticSEM, or None")
        known = list(signature(SyntheticSEM).parameters)
        for name in sem or {}:
            if name not in known:
                raise bad_argument(_OWNER, "sem", name, ", ".join(known), did_you_mean(str(name), known))
        self.sem = SyntheticSEM(**{"seed": seed, **(sem or {})})

    def deliver(self) -> Delivered:
        """Makes the rows."""
        draw = self.sem.draw()
        told = [f"{name} {100 * share:.1f} %" for name, share in draw.shares.items()]
        called = f"TOY data (linear structural equations, seed {self.sem.seed})"
        return Delivered(draw.panel, called, (f"corrupted cells: {', '.join(told)}",) if told else ())

    def identity(self, panel: SensorPanel) -> dict[str, Any]:
        """The model and its settings."""
        del panel
        return {"source": "toy linear structural equations", "sem": self.sem.settings()}


class FileSource:
    """Rows of a file.

    Args:
        path: of the file.
        reading: how its columns are to be understood.
        truth: a file with the true graph.
        convention: of a matrix in it.
        allow_cyclic: whether a true graph with a cycle is no error.

    Raises:
        ConfigurationError: an argument of another type.
        DataError: a directory, or a suffix without a format.
    """

    def __init__(
        self, path: str, reading: PanelSettings, truth: str | None, convention: str, allow_cyclic: bool
    ) -> None:
        check_suffix(path)
        if truth is not None and not (isinstance(truth, str | Path) and str(truth)):
            raise bad_argument(_OWNER, "truth", truth, "a file, or None")
        if convention not in CONVENTIONS:
            allowed = "'row' ([i, j] is i -> j) or 'column' ([i, j] is j -> i)"
            raise bad_argument(_OWNER, "truth_convention", convention, allowed)
        self.path, self.reading, self.convention = path, reading, convention
        self.truth = None if truth is None else str(truth)
        self.allow_cyclic = check_flag(_OWNER, "allow_cyclic", allow_cyclic)

    def deliver(self) -> Delivered:
        """Reads the rows."""
        reading = read_panel(self.path, self.reading)
        panel = reading.panel
        if self.truth is not None:
            panel = replace(panel, truth=read_truth(self.truth, panel.names, self.convention, self.allow_cyclic))
        elif panel.truth is not None:
            checked_graph(panel.truth, panel.names, self.path, self.allow_cyclic)
        return Delivered(panel, self.path, tuple(f"{self.path}: {note}" for note in reading.notes))

    def identity(self, panel: SensorPanel) -> dict[str, Any]:
        """The files, their sizes and their SHA-256."""
        del panel
        others = {"mask": self.reading.mask, "truth": self.truth}
        files = {name: file_identity(Path(path)) for name, path in others.items() if path is not None}
        return {**file_identity(Path(self.path)), **files}


class MemorySource:
    """Rows that are there already.

    Args:
        panel: of them.

    Raises:
        DataError: it is not valid.
    """

    def __init__(self, panel: SensorPanel) -> None:
        self.panel = panel.validate("panel")

    def deliver(self) -> Delivered:
        """The rows."""
        return Delivered(self.panel, "panel in memory")

    def identity(self, panel: SensorPanel) -> dict[str, Any]:
        """The SHA-256 of the values, and of which of them were observed."""
        return {"source": "panel in memory", "sha256": panel.fingerprint()}


def refuse_without_file(given: Mapping[str, Any]) -> None:
    """Refuses what only a file can have.

    Raises:
        ConfigurationError: such an argument; it is named.
    """
    for name in _OF_A_FILE:
        if given.get(name):
            raise bad_argument(_OWNER, name, given[name], "None without a file", "Give path, or leave it out.")
