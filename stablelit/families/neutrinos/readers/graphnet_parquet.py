"""GraphNeT's parquet folders: merged/<table>/<table>_<number>.parquet, one row a pulse or an event.

Part k of the pulses goes with part k of the truth. See `graphnet_columns` for what the columns are called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.neutrinos.geometry import DetectorGeometry
from stablelit.families.neutrinos.parquet_files import numbers, opened_parquet
from stablelit.families.neutrinos.pulse_events import PulseEvents
from stablelit.families.neutrinos.readers.graphnet_columns import INDEX, Pointing
from stablelit.families.neutrinos.readers.graphnet_tables import GraphnetTables
from stablelit.families.neutrinos.readers.kaggle import in_words
from stablelit.families.neutrinos.readers.sensor_places import distinct

_PART = re.compile(r"_(\d+)\.parquet$")
_HOLDS = "a table of GraphNeT's"


def tables_of(path: str | Path) -> dict[str, dict[int, Path]]:
    """The parts of each table in a folder, or in its folder `merged`, by their numbers; empty where there is none."""
    folder = Path(path)
    folder = folder / "merged" if (folder / "merged").is_dir() else folder
    tables: dict[str, dict[int, Path]] = {}
    for inner in sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else ():
        parts = {int(m[1]): p for p in inner.glob(f"{inner.name}_*.parquet") if (m := _PART.search(p.name))}
        if parts:
            tables[inner.name] = dict(sorted(parts.items()))
    return tables


class GraphnetFolder(GraphnetTables):
    """A folder of GraphNeT's ParquetWriter, after merging.

    Args:
        path: of the folder, or of the one with `merged` in it.
        batch_ids: numbers of the parts; None takes all.
        pulse_table: the table of pulses; None finds it.
        truth_table: the table of truth; None finds it.
        columns: names of columns that are not the usual ones.
        pointing: what the angles point to; "auto" goes by their names.
        geometry: of the detector; None takes the positions that occur.

    Raises:
        DataError: no tables, parts without their counterpart, a column that is missing or holds lists, a null.
        ConfigurationError: tables or parts that are not there, or several tables that could be meant.
    """

    def __init__(
        self,
        path: str | Path,
        batch_ids: Sequence[int] | None = None,
        pulse_table: str | None = None,
        truth_table: str | None = None,
        columns: Mapping[str, str] | None = None,
        pointing: Pointing = "auto",
        geometry: DetectorGeometry | None = None,
    ) -> None:
        super().__init__()
        self.path = Path(path)
        tables = tables_of(path)
        if not tables:
            raise DataError(f"{self.path}: has no <table>/<table>_<number>.parquet, also not in merged/.")
        names = {}
        for table, parts in tables.items():
            with opened_parquet(next(iter(parts.values())), _HOLDS) as file:
                names[table] = list(file.schema_arrow.names)
        self._choose_columns(names, pulse_table, truth_table, columns, pointing)
        self._pulses = tables[self.columns.pulses]
        truth = {} if self.columns.truth is None else tables[self.columns.truth]
        chosen = list(self._pulses) if batch_ids is None else list(dict.fromkeys(int(b) for b in batch_ids))
        self._check_parts(chosen, truth)
        self.batch_ids = np.array(chosen, dtype=np.int64)
        self.files = tuple(self._pulses[k].name for k in chosen)
        self._make_table(*self._counted(), self._truth(truth) if truth else None)
        if geometry is None:
            axes = [self.columns.of_pulses[axis] for axis in "xyz"]
            places = []
            for k in chosen:
                found = _read(self._pulses[k], axes)
                places.append(distinct(np.stack([found[a] for a in axes], axis=1), str(self._pulses[k])))
            self._take_sensors_of_file(np.concatenate(places))
        else:
            self._take_sensors_of(geometry)

    def read(self, file: int) -> PulseEvents:
        """The events of a part, by event_no.

        Raises:
            DataError: pulses that are not valid.
        """
        path = self._pulses[int(self.batch_ids[file])]
        return self._events(file, _read(path, [INDEX, *self.columns.of_pulses.values()]), str(path))

    def _check_parts(self, chosen: Sequence[int], truth: Mapping[int, Path]) -> None:
        for k in chosen:
            if k not in self._pulses:
                raise ConfigurationError(
                    f"{self.path}: has no part {k} of {self.columns.pulses!r}. There are: {in_words(self._pulses)}."
                )
            if self.columns.truth is not None and k not in truth:
                raise DataError(
                    f"{self.path}: part {k} of {self.columns.pulses!r} has no counterpart in {self.columns.truth!r}, "
                    f"which has: {in_words(truth)}."
                )

    def _counted(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
        """The events that have a pulse, how many, and in which part; by part and event_no."""
        ids, counts = [], []
        for k in self.batch_ids.tolist():
            event_no, count = np.unique(_read(self._pulses[k], [INDEX])[INDEX].astype(np.int64), return_counts=True)
            ids.append(event_no)
            counts.append(count.astype(np.int64))
        file = np.repeat(np.arange(len(ids), dtype=np.int32), [len(part) for part in ids])
        return np.concatenate(ids), np.concatenate(counts), file

    def _truth(self, truth: Mapping[int, Path]) -> dict[str, NDArray[Any]]:
        names = [INDEX, *self.columns.of_truth.values()]
        parts = [_read(truth[k], names) for k in self.batch_ids.tolist()]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _read(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    with opened_parquet(path, _HOLDS) as file:
        missing = [name for name in names if name not in file.schema_arrow.names]
        if missing:
            raise DataError(f"{path}: has no column {missing[0]!r}, which other parts of the table have.")
        table = file.read(columns=list(dict.fromkeys(names)))
    return {name: numbers(table.column(name), name, str(path)) for name in names}
