"""What a run leaves for others to read: the names of its files, and how numbers that JSON lacks stand in them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HISTORY_FILE = "history.jsonl"
SUMMARY_FILE = "summary.json"
CONFIG_FILE = "config.yaml"


def append_line(path: Path, *lines: str) -> None:
    """Appends whole lines to a text file, all or none: a disk that fills up in the middle leaves no half of one.

    Raises:
        OSError: they could not be written.
    """
    data = "".join(f"{line}\n" for line in lines).encode("utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        before = os.fstat(file.fileno()).st_size
        try:
            written = 0
            while written < len(data):
                written += file.write(data[written:]) or 0
        except OSError:
            file.truncate(before)
            raise


def from_json(text: str | bytes) -> Any:
    """What a text of JSON says.

    Raises:
        ValueError: it is none, or is nested more deeply than Python's parser goes.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("brackets in brackets, more deeply than anything that is logged") from error


def float_of(value: float | int | str) -> float:
    """A number or its name as a float; an integer that no float holds is infinite.

    >>> float_of("nan"), float_of(10**400), float_of(-(10**400))
    (nan, inf, -inf)
    """
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, 1 if int(value) > 0 else -1)


def plain(value: Any) -> Any:
    """Plain data for JSON: a number that is not finite becomes its name.

    >>> plain({"loss": float("nan"), "sizes": (1, 2)})
    {'loss': 'nan', 'sizes': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)
