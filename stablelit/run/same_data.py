"""A resume is of the same data: what the run was trained on is held against what it is about to be given.

By what the data are, not by how they are named: a file that was moved is the same data, a row more is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stablelit.errors import ConfigurationError
from stablelit.run.directory import SPLITS_FILE
from stablelit.run.record import RunRecorder
from stablelit.run.summary import data_identity
from stablelit.run_files import SUMMARY_FILE, plain

_SHOWN = 3
# where a file lies is told apart from what is in it; what is left out of training may change on the way
_MAY_CHANGE = {"n_left_out", "left_out"}
_PLACES = {"source", "path", "folder", "cache"}


def require_same_data(run_dir: Path, datamodule: Any, checkpoint: Mapping[str, Any]) -> None:
    """Complains of other data, or of the same ones split otherwise.

    Args:
        run_dir: of the run that goes on, with its `splits.json` and, unless it was killed, its `summary.json`.
        datamodule: with the data as they are configured now.
        checkpoint: that is gone on from; it says what data the run was trained on.

    Raises:
        ConfigurationError: with what differs, both values, and the way out.
    """
    saved = (checkpoint.get("callbacks") or {}).get(RunRecorder.__qualname__, {}).get("data")
    if not isinstance(saved, dict):
        saved = _read(run_dir / SUMMARY_FILE).get("data")
    try:
        now = plain(data_identity(datamodule)) if isinstance(saved, dict) else {}
        splits = _split_indices(datamodule)
    except (AttributeError, RuntimeError, TypeError):
        return  # somebody's own, which knows of its data only once it is set up
    wrong = _differences(saved, now) if isinstance(saved, dict) and isinstance(now, dict) else []
    wrong += _split_differences(_read(run_dir / SPLITS_FILE), splits)
    if wrong:
        more = f" (and {len(wrong) - _SHOWN} more)" if len(wrong) > _SHOWN else ""
        raise ConfigurationError(
            f"resume={run_dir}: these are not the data that the run was trained on: {'; '.join(wrong[:_SHOWN])}{more}. "
            f"Its validation would count what it has seen. Give it its own data, or begin a new run with its weights: "
            f"weights={run_dir}"
        )


def _differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    by_content = any("sha256" in key for key in saved)
    skipped = _MAY_CHANGE | (_PLACES if by_content else set())
    return [
        f"{name} was {_short(saved[name])} and is {_short(now[name])}"
        for name in saved
        if name in now and name not in skipped and saved[name] != now[name]
    ]


def _split_differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = []
    for name in saved:
        if name not in now or saved[name] == now[name]:
            continue
        before, after = len(saved[name]), len(now[name])
        how = f"had {before} samples and has {after}" if before != after else f"has {after} other samples"
        found.append(f"the split {name!r} {how}")
    return found


def _split_indices(datamodule: Any) -> dict[str, list[int]]:
    splits = getattr(datamodule, "split_indices", None)
    splits = splits() if callable(splits) else splits
    return {str(name): [int(i) for i in indices] for name, indices in splits.items()} if splits else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
