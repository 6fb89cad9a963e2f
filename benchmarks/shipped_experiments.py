"""Runs a shipped experiment as a person would, without the screen, and hands back what it wrote down."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stablelit.train import main

# what costs time and changes no number
_QUIET = ("model_summary=null", "report=false", "logger=none", "~callbacks.epoch_printer", "~callbacks.progress_bar")
_UNWATCHED = ("~callbacks.input_pipeline", "~callbacks.figures")


@dataclass(frozen=True)
class Outcome:
    """What a run left.

    Args:
        history: a mapping of logged values for every epoch.
        test: the values of the test of its best checkpoint, if there was one.
        findings: what callbacks had to say.
        edges: cause and effect, of a run that learned a graph.
    """

    history: list[dict[str, float]]
    test: dict[str, float]
    findings: list[dict[str, Any]]
    edges: frozenset[tuple[str, str]]


def outcome_of(experiment: str, *overrides: str, watched: bool = False, keep: str | None = None) -> Outcome:
    """Trains `experiment` with these overrides, in a directory that is removed again.

    Args:
        experiment: its name.
        overrides: as on the command line.
        watched: whether its input pipeline is watched, and pictures are drawn.
        keep: a new directory for the run, which stays; the run is in ``<keep>/<experiment>/<date-time>``.
    """
    more = () if watched else _UNWATCHED
    with contextlib.nullcontext(keep) if keep else tempfile.TemporaryDirectory() as directory:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = main([f"+experiment={experiment}", f"runs={directory}", *_QUIET, *more, *overrides])
        assert code == 0, f"{experiment} ended with {code}:\n{printed.getvalue()}"
        (history,) = Path(directory).rglob("history.jsonl")
        findings, edges = history.with_name("findings.jsonl"), history.with_name("edges.csv")
        summary = json.loads(history.with_name("summary.json").read_text(encoding="utf-8"))
        return Outcome(
            _lines(history),
            summary.get("test") or {},
            _lines(findings) if findings.exists() else [],
            _edges(edges) if edges.exists() else frozenset(),
        )


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _edges(path: Path) -> frozenset[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return frozenset((row["source"], row["target"]) for row in csv.DictReader(file))
