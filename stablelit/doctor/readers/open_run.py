"""Reads whatever one run directory holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stablelit.doctor.readers.event_files import EVENT_FILES, read_event_file
from stablelit.doctor.readers.json_lines import read_json_lines, read_summary
from stablelit.doctor.readers.metrics_csv import read_metrics_csv
from stablelit.doctor.readers.run_directories import is_log_file
from stablelit.doctor.readers.run_log import RunLog, Unreadable
from stablelit.doctor.readers.yaml_settings import HPARAMS_FILE, read_yaml_settings
from stablelit.findings import FINDINGS_FILE, read_findings
from stablelit.run_files import CONFIG_FILE, HISTORY_FILE, SUMMARY_FILE


def read_run(place: Path) -> RunLog:
    """Everything in a directory, or in one file, as one run.

    Of a tag that two kinds of logs have, the one with more points is taken: steps rather than epochs.

    Raises:
        Unreadable: nothing could be read, or there is no number in it.
    """
    directory = place.parent if place.is_file() else place
    whole = RunLog(directory)
    problems: list[str] = []
    for kind in _kinds(place):
        log = RunLog(directory)
        for path in kind:
            if (problem := _tried(_reader_of(path), path, log)) is not None:
                problems.append(problem)
        _merge(whole, log)
    for name, read in (
        (HPARAMS_FILE, read_yaml_settings),
        (CONFIG_FILE, read_yaml_settings),
        (SUMMARY_FILE, read_summary),
    ):
        if (directory / name).is_file():
            read(directory / name, whole)
    _read_findings(directory, whole)
    if not whole.points:
        raise Unreadable("; ".join(problems) or f"{place}: no number was logged.")
    whole.remarks.extend(problems)
    return whole


def _kinds(place: Path) -> list[list[Path]]:
    """Files of one kind belong together; event files in the order of the time in their names."""
    if place.is_file():
        return [[place]]
    try:
        paths = [path for path in place.iterdir() if is_log_file(path.name)]
    except OSError as error:
        raise Unreadable(f"{place}: no permission to look into it.") from error
    events = sorted((path for path in paths if path.name.startswith(EVENT_FILES)), key=_written)
    return [kind for kind in (events, *([path] for path in paths if path not in events)) if kind]


def _written(path: Path) -> tuple[float, str]:
    stamp = path.name[len(EVENT_FILES) :].partition(".")[0]
    return (float(stamp) if stamp.isdigit() else path.stat().st_mtime, path.name)


def _reader_of(path: Path) -> Callable[[Path, RunLog], None]:
    if path.name.startswith(EVENT_FILES):
        return read_event_file
    return read_json_lines if path.name == HISTORY_FILE or path.suffix == ".jsonl" else read_metrics_csv


def _tried(read: Callable[[Path, RunLog], None], path: Path, log: RunLog) -> str | None:
    try:
        if not path.stat().st_size:
            return f"{path}: an empty file."
        read(path, log)
    except Unreadable as error:
        return str(error)
    except OSError as error:
        return f"{path}: cannot be read: {error.strerror or error}."
    return None


def _merge(whole: RunLog, log: RunLog) -> None:
    if not whole.points:
        whole.axis = log.axis
    elif log.points and log.axis != whole.axis:
        # two axes cannot be in one picture: steps win
        if log.axis == "epoch":
            log.points = {}
        else:
            whole.points, whole.axis = {}, log.axis
    for tag, points in log.points.items():
        if len(points.steps) > len(whole.points[tag].steps if tag in whole.points else ()):
            whole.points[tag] = points
    whole.sources.extend(log.sources)
    whole.remarks.extend(log.remarks)


def _read_findings(directory: Path, log: RunLog) -> None:
    try:
        log.findings = read_findings(directory)
    except (ValueError, OSError) as error:
        log.remarks.append(f"{FINDINGS_FILE}: {str(error)[:160]}; left out.")
    else:
        log.sources.extend([FINDINGS_FILE] if log.findings else [])
