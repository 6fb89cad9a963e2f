from __future__ import annotations

import pytest

from stablelit.callbacks import _fetching, input_pipeline_monitor
from tests.callbacks.slow_data import FakeTime


@pytest.fixture
def clock(monkeypatch):
    fake = FakeTime()
    monkeypatch.setattr(_fetching, "time", fake)
    monkeypatch.setattr(input_pipeline_monitor, "time", fake)
    return fake
