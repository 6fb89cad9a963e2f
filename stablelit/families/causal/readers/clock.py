"""Columns of time as numbers: seconds since 1970 of dates, numbers as they are."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError
from stablelit.families.causal.panel import Floats, Ints

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# how many steps that differ from the usual one by more than a hundredth make time irregular
_TOLERANCE = 0.01


def seconds_of(cells: NDArray[Any], source: str, called: Callable[[int], str], time_format: str | None) -> Floats:
    """``(T,)`` seconds since 1970 (UTC where a date says no zone), or the numbers of a numeric column as they are.

    Args:
        cells: ``(T,)`` numbers, `datetime64`, datetimes, or texts.
        source: for messages.
        called: what messages call a row.
        time_format: of texts, as `datetime.strptime` takes it; None is a number or ISO 8601.

    Raises:
        DataError: a cell that is no time; its row and value are named.
    """
    if cells.dtype.kind == "M":
        missing = np.isnat(cells)
        seconds = (cells.astype("datetime64[us]") - np.datetime64(0, "us")) / np.timedelta64(1, "s")
        return _complete(np.where(missing, np.nan, seconds), cells, source, called)
    if cells.dtype.kind in "fiu":
        return _complete(cells.astype(np.float64), cells, source, called)
    texts = [str(cell).strip() if isinstance(cell, str) else cell for cell in cells]
    if time_format is None:
        for quick in (_as_numbers, _as_dates):
            if (found := quick(texts)) is not None:
                return _complete(found, cells, source, called)
    seconds = np.empty(len(texts))
    for row, cell in enumerate(texts):
        try:
            seconds[row] = (_moment(cell, time_format) - _EPOCH).total_seconds()
        except (AttributeError, TypeError, ValueError) as error:
            allowed = "a number or an ISO date such as 2004-03-10T18:00:00" if time_format is None else time_format
            raise DataError(
                f"{source}: {called(row)} has time {cell!r}. Allowed: {allowed} in every row. Another form is told by "
                f"time_format, e.g. '%d/%m/%Y %H.%M.%S'. ({error})"
            ) from error
    return seconds


def irregularity(time: Floats, recording: Ints) -> str:
    """What is uneven about the steps between rows of one recording, in words; empty where they are even.

    Steps count as uneven that differ from the median by more than a hundredth of it.
    """
    steps = np.diff(time)[np.diff(recording) == 0]
    if not len(steps):
        return ""
    usual = float(np.median(steps))
    uneven = np.abs(steps - usual) > _TOLERANCE * usual
    if not uneven.any():
        return ""
    return (
        f"{int(uneven.sum())} of {len(steps)} steps between rows are not {usual:g} (the median) but {steps.min():g} to "
        f"{steps.max():g}"
    )


def _complete(seconds: Floats, cells: NDArray[Any], source: str, called: Callable[[int], str]) -> Floats:
    wrong = np.flatnonzero(~np.isfinite(seconds))
    if len(wrong):
        raise DataError(f"{source}: {called(wrong[0])} has time {cells[wrong[0]]}. Allowed: a time in every row.")
    return seconds


def _as_numbers(texts: list[Any]) -> Floats | None:
    try:
        return np.array([float(text) for text in texts])
    except (TypeError, ValueError):
        return None


def _as_dates(texts: list[Any]) -> Floats | None:
    # numpy reads ISO dates a hundred times faster; it knows no zones and warns of them
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            moments = np.array(texts, dtype="datetime64[us]")
    except (TypeError, ValueError, DeprecationWarning, UserWarning):
        return None
    return None if np.isnat(moments).any() else (moments - np.datetime64(0, "us")) / np.timedelta64(1, "s")


def _moment(cell: Any, time_format: str | None) -> datetime:
    if isinstance(cell, datetime):
        moment = cell
    elif time_format is not None:
        moment = datetime.strptime(cell, time_format)
    else:
        # Python 3.10 knows no Z
        moment = datetime.fromisoformat(cell[:-1] + "+00:00" if cell.endswith(("Z", "z")) else cell)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
