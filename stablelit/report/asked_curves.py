"""Which logged values a run's own pictures show: a page draws them itself, and leaves those pictures out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from stablelit.doctor.readers.yaml_settings import read_plain_yaml
from stablelit.report.run_record import RunRecord
from stablelit.run_files import CONFIG_FILE

AskedCurves = Mapping[str, Sequence[Sequence[str]]]
"""By the name of a picture its panels, each a list of logged names, as `FigureWriter(curves=...)` takes them."""


def asked_curves(record: RunRecord) -> AskedCurves:
    """What `FigureWriter` was told to draw in a run of ours; nothing where no configuration says it."""
    path = record.directory / CONFIG_FILE
    # what cannot be read was said when the settings were
    held = read_plain_yaml(path, []) if path.is_file() else None
    callbacks = (held or {}).get("callbacks")
    found: dict[str, list[list[str]]] = {}
    for settings in callbacks.values() if isinstance(callbacks, dict) else ():
        curves = settings.get("curves") if isinstance(settings, dict) else None
        for name, panels in curves.items() if isinstance(curves, dict) else ():
            lists = [panel for panel in panels if isinstance(panel, list)] if isinstance(panels, list) else []
            found[str(name)] = [[str(metric) for metric in panel] for panel in lists]
    return found


def without_curves(pictures: Sequence[Path], asked: AskedCurves, known: Collection[str]) -> list[Path]:
    """The pictures that show something else than curves of which the page has the numbers.

    Args:
        pictures: that the run has drawn.
        asked: which of them show curves.
        known: names that the page has curves of.
    """
    drawn = {name for name, panels in asked.items() if any(metric in known for panel in panels for metric in panel)}
    return [path for path in pictures if path.stem not in drawn]
