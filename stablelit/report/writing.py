"""From runs to the file: reads, chooses the page, writes it in one piece."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stablelit.doctor.readers import Unreadable
from stablelit.errors import ConfigurationError
from stablelit.report.comparison_page import comparison_page
from stablelit.report.run_reading import find_records, read_record
from stablelit.report.run_record import RunRecord
from stablelit.report.single_page import single_page

REPORT_FILE = "report.html"


@dataclass(frozen=True)
class Written:
    """What became of it.

    Args:
        path: of the file.
        runs: that are in it.
        unread: a sentence for each place that could not be read.
    """

    path: Path
    runs: int
    unread: tuple[str, ...]


def write_report(places: Sequence[str | Path], out: str | Path | None = None) -> Written:
    """Writes the page of a run, or of several side by side.

    Args:
        places: runs, directories that hold runs, or files of logs; one that is given twice is there once.
        out: the file; None is `report.html` in the one directory that was given, else where one stands.

    Raises:
        Unreadable: not one of them is a run.
        ConfigurationError: the file cannot be written.
    """
    records, unread = _read_all([Path(place) for place in places])
    if not records:
        raise Unreadable("\n".join(unread))
    target = Path(out) if out is not None else _default_target([Path(place) for place in places])
    html = single_page(records[0]) if len(records) == 1 and not unread else comparison_page(records, unread)
    write_whole(target, html)
    return Written(target, len(records), tuple(unread))


def write_run_report(run_dir: Path) -> Path:
    """Writes the page of a run that has just ended, into its directory; its own doctor has spoken already.

    Raises:
        Exception: whatever goes wrong; a training must not end with it.
    """
    target = run_dir / REPORT_FILE
    write_whole(target, single_page(read_record(run_dir), judged=False))
    return target


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is there wholly or not at all.

    Raises:
        ConfigurationError: it cannot be written.
    """
    fresh = ""
    try:
        handle, fresh = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        # mkstemp makes files that only their owner can read
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(fresh, 0o666 & ~mask)
        os.replace(fresh, path)
    except BaseException as error:
        if fresh:
            with suppress(OSError):
                os.unlink(fresh)
        if not isinstance(error, OSError):
            raise
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror or error}. Name a place that can: --out FILE."
        ) from error


def _read_all(places: Sequence[Path]) -> tuple[list[RunRecord], list[str]]:
    records, unread, seen = [], [], set()
    for place in places:
        try:
            for found in find_records(place):
                where = found.resolve()
                if where not in seen:
                    seen.add(where)
                    records.append(read_record(found))
        except (Unreadable, OSError) as error:
            unread.append(str(error))
    return records, unread


def _default_target(places: Sequence[Path]) -> Path:
    if len({place.resolve() for place in places}) > 1:
        return Path(REPORT_FILE)
    return (places[0].parent if places[0].is_file() else places[0]) / REPORT_FILE
