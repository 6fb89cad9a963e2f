"""Reads what a run left, ours or anybody's; nothing that is read is executed, and everything may be missing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml  # type: ignore[import-untyped]

from stablelit.doctor.evidence.curve import Curve
from stablelit.doctor.readers import RunLog, Unreadable, find_runs, read_run
from stablelit.doctor.readers.event_files import EVENT_FILES
from stablelit.doctor.readers.json_lines import read_json_lines
from stablelit.doctor.readers.run_directories import is_log_file
from stablelit.doctor.readers.yaml_settings import HPARAMS_FILE, read_yaml_settings
from stablelit.findings import FINDINGS_FILE, Finding
from stablelit.report.run_record import Curves, RunRecord, as_number
from stablelit.run_files import CONFIG_FILE, HISTORY_FILE, SUMMARY_FILE, from_json

OVERRIDES_FILE = "overrides.yaml"
_OURS = (HISTORY_FILE, SUMMARY_FILE, CONFIG_FILE)
# GradClipMonitor's picture is one of the report's own
_DRAWN_ANEW = ("gradients",)
_PICTURES = (".png", ".jpg", ".jpeg")
# of curves this short the steps inside an epoch are worth the time that event files take
_FEW_LINES = 3
# a run whose files are older than this, and than three of its epochs, does not go on
_STILL_WARM_SECONDS = 120.0
_LARGEST_JSON = 64 << 20


def find_records(place: Path) -> list[Path]:
    """The runs at or below a place: itself, if it is one.

    Raises:
        Unreadable: there is no run.
    """
    if place.is_dir() and any((place / name).is_file() for name in _OURS):
        return [place]
    return list(find_runs(place))


def read_record(place: Path) -> RunRecord:
    """One run; what cannot be read is said in its remarks.

    Raises:
        Unreadable: it cannot be looked into.
    """
    directory = place.parent if place.is_file() else place
    remarks: list[str] = []
    try:
        names = {path.name for path in directory.iterdir()}
    except OSError as error:
        raise Unreadable(f"{directory}: cannot be looked into: {error.strerror or error}.") from error
    summary = _read_json(directory / SUMMARY_FILE, remarks) if SUMMARY_FILE in names else {}
    log = RunLog(directory)
    # of a run of ours the configuration says all: what Lightning saves of the module is a part of it
    told = next((name for name in (CONFIG_FILE, HPARAMS_FILE) if name in names), None)
    if told is not None:
        read_yaml_settings(directory / told, log)
    settings = log.hyperparameters
    named = summary.get("name") or settings.get("name")
    record = RunRecord(
        place=place,
        name=str(named) if isinstance(named, str) and named else directory.resolve().name,
        summary=summary,
        settings=settings,
        overrides=_read_overrides(directory / OVERRIDES_FILE) if OVERRIDES_FILE in names else None,
        findings=_read_findings(directory / FINDINGS_FILE, remarks) if FINDINGS_FILE in names else [],
        pictures=_pictures(directory / "figures"),
        remarks=[*log.remarks, *remarks],
        read_curves=lambda: _read_curves(place),
    )
    record.status = _status(record, directory, names)
    return record


def _status(record: RunRecord, directory: Path, names: set[str]) -> str:
    said = str(record.summary.get("status") or "")
    logs = [directory / name for name in names if is_log_file(name)]
    written = max((path.stat().st_mtime for path in logs if path.is_file()), default=0.0)
    if said:
        if not _goes_on_behind(record, directory):
            return said
    elif CONFIG_FILE not in names:
        return "unknown"
    seconds = record.curves.by_name.get("seconds", Curve()).finite()
    patience = max(_STILL_WARM_SECONDS, 3 * float(np.median(seconds.values)) if len(seconds) else 0.0)
    return "running" if time.time() - written < patience or not written else "broken off"


def _goes_on_behind(record: RunRecord, directory: Path) -> bool:
    """Whether a run was resumed: it writes into the same directory, and its summary comes last."""
    history, steps = directory / HISTORY_FILE, as_number(record.summary.get("steps"))
    if steps is None or not history.is_file():
        return False
    # a copy has times of its own, so that they only save the reading of a history that is older
    if history.stat().st_mtime <= (directory / SUMMARY_FILE).stat().st_mtime:
        return False
    reached = record.curves.steps.values
    return len(reached) > 0 and float(reached[-1]) > steps


def _read_curves(place: Path) -> Curves:
    """An epoch a point from the history, which is read in no time; else everything that logs hold."""
    directory = place.parent if place.is_file() else place
    history = directory / HISTORY_FILE
    log = RunLog(directory)
    problem = ""
    if place.is_dir() and history.is_file():
        try:
            read_json_lines(history, log)
        except (Unreadable, OSError) as error:
            problem, log = str(error), RunLog(directory)
    held = log.curves()
    epochs = held.get("epoch", Curve())
    if log.axis == "step" and len(epochs) >= _FEW_LINES:
        return _over_epochs(held, log)
    try:
        log = read_run(place)
    except Unreadable as error:
        if not held:
            nothing = (
                [problem or str(error)] if history.is_file() or place.is_file() else ["no history: nothing was logged."]
            )
            return Curves(remarks=nothing)
        return _over_epochs(held, log) if len(epochs) else Curves(held, log.axis, remarks=log.remarks)
    axis = "epoch" if log.axis == "epoch" else "optimizer step"
    curves = log.curves()
    if log.axis == "step" and len(epochs) and not any(name.startswith(EVENT_FILES) for name in log.sources):
        return _over_epochs(curves, log)
    # read_run has told of settings and findings what read_record tells too
    remarks = [remark for remark in log.remarks if not remark.startswith((HPARAMS_FILE, CONFIG_FILE, FINDINGS_FILE))]
    return Curves(curves, axis, remarks=remarks)


def _over_epochs(held: dict[str, Curve], log: RunLog) -> Curves:
    steps, epochs = held["epoch"].steps, held["epoch"].values
    by_name = {
        name: Curve(np.interp(curve.steps, steps, epochs), curve.values)
        for name, curve in held.items()
        if name not in ("epoch", "step")
    }
    return Curves(by_name, "epoch", Curve(epochs, steps), log.remarks)


def _read_json(path: Path, remarks: list[str]) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ValueError(f"{path.stat().st_size >> 20} MiB")
        held = from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        remarks.append(f"{path.name}: cannot be read: {str(error)[:120]}; left out.")
        return {}
    if isinstance(held, dict):
        return held
    remarks.append(f"{path.name}: not an object; left out.")
    return {}


def _read_findings(path: Path, remarks: list[str]) -> list[Finding]:
    """Line by line: one that is cut off does not take the others with it."""
    found, bad = [], 0
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        remarks.append(f"{path.name}: cannot be read: {error.strerror or error}.")
        return []
    for line in lines:
        try:
            finding = Finding(**from_json(line))
            step = int(finding.step)
        except (TypeError, ValueError, AttributeError, OverflowError):
            bad += bool(line.strip())
            continue
        found.append(finding if step == finding.step else Finding(finding.name, finding.severity, finding.message))
    if bad:
        remarks.append(f"{path.name}: {bad} lines that are no findings were left out.")
    return found


def _read_overrides(path: Path) -> list[str] | None:
    """What followed ``python -m stablelit.train``."""
    try:
        held = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    overrides = held.get("overrides") if isinstance(held, dict) else None
    if not isinstance(overrides, list):
        return None
    named = {"--config-dir": held.get("config_dir"), "--config-name": held.get("config_name")}
    options = [part for name, value in named.items() if value and value != "train" for part in (name, str(value))]
    return [*options, *(str(one) for one in overrides)]


def _pictures(root: Path) -> list[Path]:
    """The latest of each name: what the test drew stands for what training drew before; curves are drawn anew."""
    held: dict[str, Path] = {}
    for path in sorted(_walk(root), key=lambda path: path.stat().st_mtime) if root.is_dir() else ():
        held[path.stem] = path
    return [path for name, path in sorted(held.items()) if name not in _DRAWN_ANEW]


def _walk(root: Path) -> Iterator[Path]:
    try:
        yield from (path for path in root.rglob("*") if path.suffix.lower() in _PICTURES and path.is_file())
    except OSError:
        return
