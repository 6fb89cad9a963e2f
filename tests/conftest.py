from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import torch

os.environ.setdefault("STABLELIT_TEST_DATA", str(Path(__file__).resolve().parents[2] / "shared" / "data"))
torch.set_num_threads(1)
for name in ("lightning.pytorch", "pytorch_lightning", "lightning.fabric", "lightning_fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path, monkeypatch):
    """Nothing that a test leaves behind lands in the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def test_data() -> Path:
    """The folder of small real samples; a test that needs it is skipped where it is absent."""
    folder = Path(os.environ["STABLELIT_TEST_DATA"])
    if not folder.is_dir():
        pytest.skip(f"no sample data at {folder} (set STABLELIT_TEST_DATA)")
    return folder
