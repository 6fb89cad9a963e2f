"""Events written as the files of Kaggle's competition "IceCube - Neutrinos in Deep Ice".

`train/batch_N.parquet` has one row a pulse: sensor_id, time (ns), charge (photoelectrons), auxiliary, and event_id as
the index that pandas finds again. `train_meta.parquet` has one row an event: batch_id, event_id, first_pulse_index and
last_pulse_index (rows of its batch's file, the last one INCLUDED), azimuth and zenith where the neutrino came from; and
of ours, where they are known, energy (GeV) and is_track. `sensor_geometry.csv` has sensor_id, x, y, z (m).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from stablelit.errors import ConfigurationError, missing_extra
from stablelit.families.neutrinos.geometry import DetectorGeometry
from stablelit.families.neutrinos.pulse_events import PulseEvents
from stablelit.functional.schedules import check_count

# a row group is what is read at once: some 1.6 million pulses
EVENTS_PER_ROW_GROUP = 10_000
_PANDAS_TYPES = {"double": "float64"}


def write_kaggle_files(
    folder: str | Path,
    parts: Iterable[PulseEvents],
    n_events: int,
    geometry: DetectorGeometry,
    events_per_file: int,
    progress: bool = True,
) -> dict[str, int]:
    """Writes `n_events` events of a stream in Kaggle's form into a folder that is there whole or not at all.

    All is written into a hidden folder beside it, which takes its name at the end; memory holds one row group.

    Args:
        folder: the folder, new or empty.
        parts: the events, in parts of any size.
        n_events: how many of them.
        geometry: their detector.
        events_per_file: events of each `batch_N.parquet`; the last one has the rest.
        progress: show a bar, where stderr is a terminal.

    Returns:
        How many events, pulses and files were written.

    Raises:
        ConfigurationError: a count below 1, the folder is there and not empty, the stream has fewer events.
        DataError: what `PulseEvents.validate` refuses: a sensor that the detector has not, a charge of 0, ...
        MissingDependencyError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise missing_extra("pyarrow", "parquet", "Writing events to parquet files") from error
    check_count("write_kaggle_files", "n_events", n_events, least=1)
    check_count("write_kaggle_files", "events_per_file", events_per_file, least=1)
    rows, sizes = [], list(_row_groups(n_events, events_per_file))
    pulses = 0
    with new_folder(folder) as temporary, _bar(n_events, progress) as bar:
        (temporary / "train").mkdir()
        groups = _regrouped(_counted(parts, bar), [size for file in sizes for size in file], str(folder))
        for batch_id, file in enumerate(sizes, start=1):
            path, first = temporary / "train" / f"batch_{batch_id}.parquet", 0
            schema = _pulse_schema(geometry)
            with pq.ParquetWriter(path, schema) as writer:
                for _ in file:
                    events = next(groups).validate(len(geometry), str(folder))
                    writer.write_table(_pulse_table(events, schema), row_group_size=max(len(events.time), 1))
                    rows.append(_meta_columns(events, batch_id, first))
                    first += len(events.time)
            pulses += first
        pq.write_table(_meta_table(rows), temporary / "train_meta.parquet")
        geometry.write_csv(temporary / "sensor_geometry.csv")
    return {"events": n_events, "pulses": pulses, "files": len(sizes)}


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """A hidden folder beside `folder` that takes its name when the block ends well, and vanishes when it does not.

    Raises:
        ConfigurationError: `folder` is there and not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(
            f"{folder}: is there already. Allowed: a folder that is new or empty. Name another one, or delete it."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield temporary
        # mkdtemp makes folders that only their owner can read
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)
        if folder.is_dir():
            folder.rmdir()
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _row_groups(n_events: int, events_per_file: int) -> Iterator[list[int]]:
    for begin in range(0, n_events, events_per_file):
        left = min(events_per_file, n_events - begin)
        yield [min(EVENTS_PER_ROW_GROUP, left - at) for at in range(0, left, EVENTS_PER_ROW_GROUP)]


def _counted(parts: Iterable[PulseEvents], bar: Any) -> Iterator[PulseEvents]:
    for part in parts:
        yield part
        bar.update(len(part))


def _regrouped(parts: Iterable[PulseEvents], sizes: Sequence[int], where: str) -> Iterator[PulseEvents]:
    """The events of the stream in groups of the given sizes."""
    stream, held, count = iter(parts), [], 0
    for size in sizes:
        while count < size:
            part = next(stream, None)
            if part is None:
                raise ConfigurationError(f"{where}: n_events={sum(sizes)} is more than the stream of events has.")
            held.append(part)
            count += len(part)
        whole = PulseEvents.concatenate(held)
        yield whole.take(np.arange(size)) if count > size else whole
        held, count = ([whole.take(np.arange(size, count))], count - size) if count > size else ([], 0)


def _pulse_schema(geometry: DetectorGeometry) -> Any:
    import pyarrow as pa

    columns = {
        "sensor_id": pa.int16() if len(geometry) <= 2**15 else pa.int32(),
        "time": pa.int64(),
        "charge": pa.float64(),
        "auxiliary": pa.bool_(),
        "event_id": pa.int64(),
    }
    # what pandas needs to make event_id the index again
    described = [
        {
            "name": name,
            "field_name": name,
            "pandas_type": _PANDAS_TYPES.get(str(kind), str(kind)),
            "numpy_type": _PANDAS_TYPES.get(str(kind), str(kind)),
            "metadata": None,
        }
        for name, kind in columns.items()
    ]
    no_names = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    pandas = {
        "index_columns": ["event_id"],
        "column_indexes": [no_names],
        "columns": described,
        "creator": {"library": "pyarrow", "version": pa.__version__},
    }
    return pa.schema(list(columns.items()), metadata={"pandas": json.dumps(pandas)})


def _pulse_table(events: PulseEvents, schema: Any) -> Any:
    import pyarrow as pa

    columns = {
        "sensor_id": events.sensor,
        "time": np.rint(events.time),
        "charge": events.charge,
        "auxiliary": events.auxiliary,
        "event_id": np.repeat(events.event_id, events.pulse_count),
    }
    arrays = [pa.array(columns[field.name].astype(field.type.to_pandas_dtype()), field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _meta_columns(events: PulseEvents, batch_id: int, first: int) -> dict[str, Any]:
    columns = {
        "batch_id": np.full(len(events), batch_id, dtype=np.int64),
        "event_id": events.event_id,
        "first_pulse_index": first + events.begin[:-1],
        "last_pulse_index": first + events.begin[1:] - 1,
    }
    truth = {name: getattr(events, name) for name in ("azimuth", "zenith", "energy", "is_track")}
    return columns | {name: column for name, column in truth.items() if column is not None}


def _meta_table(rows: Sequence[Mapping[str, Any]]) -> Any:
    import pyarrow as pa

    return pa.table({name: np.concatenate([row[name] for row in rows]) for name in rows[0]})


@contextmanager
def _bar(n_events: int, progress: bool) -> Iterator[Any]:
    from tqdm import tqdm

    is_shown = progress and sys.stderr.isatty()
    with tqdm(total=n_events, unit="event", desc="events", disable=not is_shown) as bar:
        yield bar
