"""Kaggle's "IceCube - Neutrinos in Deep Ice": batch files of pulses, a table of events, and the detector.

::

    train/batch_1.parquet ...   event_id (a column, or the index of pandas), time (ns), sensor_id, charge, auxiliary
    train_meta.parquet          batch_id, event_id, first_pulse_index, last_pulse_index (inclusive), azimuth, zenith
    test/, test_meta.parquet    the same without azimuth and zenith
    sensor_geometry.csv         sensor_id, x, y, z (m)

Azimuth and zenith point to where the neutrino came from. Two more columns of the table are read where they are there:
energy (GeV) and is_track. Of the table only the rows of the wanted batches are read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.neutrinos.event_table import EventTable
from stablelit.families.neutrinos.geometry import DetectorGeometry, read_geometry
from stablelit.families.neutrinos.parquet_files import imported_arrow, numbers, opened_parquet
from stablelit.families.neutrinos.pulse_events import PulseEvents, rows_of
from stablelit.families.neutrinos.readers.source import EventSource, check_columns

PULSES = ("time", "sensor_id", "charge", "auxiliary")
EVENTS = ("batch_id", "event_id", "first_pulse_index", "last_pulse_index")
TRUTH = ("azimuth", "zenith")
EXTRA_TRUTH = ("energy", "is_track")
# the index of pandas, where it has no name
_NAMELESS_INDEX = "__index_level_0__"
_KINDS = {"charge": np.float32, "auxiliary": bool}
_BATCH_FILE = re.compile(r"batch_(\d+)\.parquet$")

Split = Literal["train", "test"]


class KaggleFolder(EventSource):
    """A folder in the competition's layout.

    Args:
        path: of the folder.
        batch_ids: which batch files; None takes all that are there.
        split: "train", or "test" (no truth).
        geometry: of the detector; None reads sensor_geometry.csv.

    Raises:
        DataError: a file or a column that is missing, a batch file that is truncated or shorter than the table says,
            an event whose last pulse lies before its first, an event twice, angles out of range. What only the pulses
            can show is raised by `read`.
        ConfigurationError: batch ids that are not there; which are is said.
    """

    def __init__(
        self,
        path: str | Path,
        batch_ids: Sequence[int] | None = None,
        split: Split = "train",
        geometry: DetectorGeometry | None = None,
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self.geometry = read_geometry(self.path / "sensor_geometry.csv") if geometry is None else geometry
        self._folder, self._meta = self.path / split, self.path / f"{split}_meta.parquet"
        self._with_truth = split == "train"
        there = self._batches_there()
        self.batch_ids = np.array(self._chosen(there, batch_ids), dtype=np.int64)
        self.files = tuple(there[int(b)].name for b in self.batch_ids)
        columns = self._read_meta(batch_ids)
        self._first = columns["first_pulse_index"].astype(np.int64)
        last = columns["last_pulse_index"].astype(np.int64)
        self._check_rows(columns["event_id"], columns["file"], last)
        self.table = EventTable(
            event_id=columns["event_id"].astype(np.int64),
            file=columns["file"],
            pulse_count=last - self._first + 1,
            azimuth=columns["azimuth"].astype(np.float64) if self._with_truth else None,
            zenith=columns["zenith"].astype(np.float64) if self._with_truth else None,
            energy=columns["energy"].astype(np.float32) if "energy" in columns else None,
            is_track=columns["is_track"].astype(bool) if "is_track" in columns else None,
        ).validate(str(self._meta))

    def read(self, file: int) -> PulseEvents:
        """The events of a batch file, in the table's order.

        Raises:
            DataError: a column that is missing, an event that is not in its rows, pulses that are not valid.
        """
        path = self._folder / self.files[file]
        mine = np.flatnonzero(self.table.file == file)
        event_id, first, counts = self.table.event_id[mine], self._first[mine], self.table.pulse_count[mine]
        begin = np.concatenate([[0], np.cumsum(counts)])
        columns = _read_pulses(path)
        in_place = bool((first == begin[:-1]).all()) and len(columns["event_id"]) == begin[-1]
        if not in_place:
            bounds = np.stack([first, first + counts], axis=1).reshape(-1)
            rows, _ = rows_of(bounds, 2 * np.arange(len(mine)))
            columns = {name: column[rows] for name, column in columns.items()}
        wrong = np.flatnonzero(columns["event_id"] != np.repeat(event_id, counts))
        if len(wrong):
            event = int(np.searchsorted(begin, wrong[0], side="right")) - 1
            row = int(first[event] + wrong[0] - begin[event])
            raise DataError(
                f"{path}: row {row} belongs to event {int(columns['event_id'][wrong[0]])}, but {self._meta.name} gives "
                f"rows {int(first[event])} to {int(first[event] + counts[event] - 1)} to event {int(event_id[event])} "
                f"({len(wrong)} rows are such). The two files do not belong together: fetch both again."
            )
        del columns["event_id"], wrong
        time, sensor, charge, auxiliary = (columns.pop(name) for name in PULSES)
        return self.events_of_rows(file, begin, time, charge, sensor, auxiliary, str(path))

    def _batches_there(self) -> dict[int, Path]:
        if not self._folder.is_dir():
            raise DataError(f"{self.path}: has no folder {self._folder.name}/ with batch_<number>.parquet files.")
        found = ((_BATCH_FILE.search(path.name), path) for path in self._folder.iterdir())
        there = {int(match[1]): path for match, path in found if match}
        if not there:
            raise DataError(f"{self._folder}: has no file batch_<number>.parquet. Put the batch files there.")
        return dict(sorted(there.items()))

    def _chosen(self, there: dict[int, Path], batch_ids: Sequence[int] | None) -> list[int]:
        if batch_ids is None:
            return list(there)
        missing = [b for b in batch_ids if b not in there]
        if missing:
            raise ConfigurationError(
                f"{self._folder}: has no batch_{missing[0]}.parquet ({len(missing)} of {len(batch_ids)} wanted files "
                f"are missing). There are: {in_words(there)}. Fetch the file, or name others."
            )
        return list(dict.fromkeys(int(b) for b in batch_ids))

    def _without_files(self, n: int, of: int) -> str:
        """That events of the table have no file, and which numbers are missing between those that are there."""
        between = np.setdiff1d(np.arange(self.batch_ids.min(), self.batch_ids.max()), self.batch_ids).tolist()
        missing = f" (between the first and the last, {in_words(between)} is missing)" if between else ""
        return f"{n} of {of} events of {self._meta.name} are left out: {self._folder.name}/ lacks their files{missing}"

    def _read_meta(self, wanted_ids: Sequence[int] | None) -> dict[str, NDArray[Any]]:
        """The table's rows of the chosen batches, grouped by file; `file` tells which."""
        arrow = imported_arrow()
        with opened_parquet(self._meta, "the table of events") as file:
            found, n_events = file.schema_arrow.names, file.metadata.num_rows
        wanted = EVENTS + (TRUTH if self._with_truth else ())
        check_columns(found, wanted, str(self._meta))
        names = [*wanted, *(name for name in EXTRA_TRUTH if name in found and self._with_truth)]
        with opened_parquet(self._meta, "the table of events"):
            table = arrow.parquet.read_table(
                self._meta, columns=names, filters=[("batch_id", "in", self.batch_ids.tolist())]
            )
        columns = {name: numbers(table.column(name), name, str(self._meta)) for name in names}
        by_id = np.argsort(self.batch_ids)
        batch = columns.pop("batch_id").astype(np.int64)
        place = by_id[np.searchsorted(self.batch_ids[by_id], batch)].astype(np.int32)
        empty = np.setdiff1d(np.arange(len(self.batch_ids)), place)
        if len(empty):
            raise DataError(
                f"{self._meta}: has no event of batch {int(self.batch_ids[empty[0]])} ({len(empty)} batch files are "
                f"such), though {self.files[empty[0]]} is there. The two do not belong together."
            )
        if wanted_ids is None and len(batch) < n_events:
            self.notes += (self._without_files(n_events - len(batch), n_events),)
        order = np.argsort(place, kind="stable")
        return {"file": place[order], **{name: column[order] for name, column in columns.items()}}

    def _check_rows(self, event_id: NDArray[Any], file: NDArray[np.int32], last: NDArray[np.int64]) -> None:
        bad = (self._first < 0) | (last < self._first)
        if bad.any():
            at = int(np.argmax(bad))
            raise DataError(
                f"{self._meta}: event {int(event_id[at])}: first_pulse_index {int(self._first[at])} and "
                f"last_pulse_index {int(last[at])} ({int(bad.sum())} events are such). Allowed: 0 <= first <= last; "
                f"the last row is the event's own. Drop events without a pulse from the table, or fetch it again."
            )
        n_rows = np.zeros(len(self.files), dtype=np.int64)
        for k, name in enumerate(self.files):
            with opened_parquet(self._folder / name, "pulses of events") as opened:
                n_rows[k] = opened.metadata.num_rows
        bad = last >= n_rows[file]
        if bad.any():
            at = int(np.argmax(bad))
            raise DataError(
                f"{self._meta}: event {int(event_id[at])}: last_pulse_index {int(last[at])} lies behind the end of "
                f"{self.files[file[at]]}, which has {int(n_rows[file[at]])} rows ({int(bad.sum())} events are such). "
                f"The file is cut short or another: fetch it again."
            )
        unused = int(n_rows.sum() - (last - self._first + 1).sum())
        if unused > 0:
            self.notes += (f"{unused} of {int(n_rows.sum())} rows of pulses belong to no event of {self._meta.name}",)


def in_words(numbers_there: Sequence[int] | dict[int, Any]) -> str:
    """Numbers for a message, many of them shortened."""
    there = sorted(numbers_there)
    shown = ", ".join(map(str, there[:8]))
    return shown if len(there) <= 8 else f"{shown}, ... {there[-1]} ({len(there)} in all)"


def _read_pulses(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of a batch file; a row group at a time, so that memory holds the table once."""
    with opened_parquet(path, "pulses of events") as file:
        found = file.schema_arrow.names
        index = "event_id" if "event_id" in found else _NAMELESS_INDEX if _NAMELESS_INDEX in found else "event_id"
        check_columns(found, (index, *PULSES), str(path))
        names = [index, *PULSES]
        columns: dict[str, NDArray[Any]] = {}
        at = 0
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=names)
            for name in names:
                part = numbers(table.column(name), name, str(path))
                if name not in columns:
                    kind = _KINDS.get(name, part.dtype)
                    columns[name] = np.empty(file.metadata.num_rows, dtype=kind)
                columns[name][at : at + len(part)] = part
            at += len(table)
    columns["event_id"] = columns.pop(index)
    return columns
