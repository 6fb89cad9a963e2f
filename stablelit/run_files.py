"""What a run leaves for others to read: the names of its files, and how numbers that JSON lacks stand in them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

HISTORY_FILE = "history.jsonl"
SUMMARY_FILE = "summary.json"
CONFIG_FILE = "config.yaml"


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
