from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stablelit.families.causal.readers.settings import PanelSettings
from stablelit.families.causal.readers.table import Request


@pytest.fixture
def file(tmp_path) -> Callable[..., Path]:
    """Writes a text (or bytes) and returns where."""

    def write(name: str, content: str | bytes, encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return write


@pytest.fixture
def request_for() -> Callable[..., Request]:
    """What a reader is asked for under settings."""
    return lambda **settings: PanelSettings(**settings).request
