from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# several tests run side by side, and threads of one would wait for cores that the other has: NumPy and torch read it
# when they are imported, which this file leaves to the tests, for the process that only hands them out needs neither
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("STABLELIT_TEST_DATA", str(Path(__file__).resolve().parents[2] / "shared" / "data"))
for name in ("lightning.pytorch", "pytorch_lightning", "lightning.fabric", "lightning_fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _in_an_empty_directory(request) -> Iterator[None]:
    """Nothing that a test leaves behind lands in the checkout."""
    before = Path.cwd()
    # pytest's own folders cost several times more and are kept: only tests that ask for one get one
    if "tmp_path" in request.fixturenames:
        os.chdir(request.getfixturevalue("tmp_path"))
        yield
        os.chdir(before)
        return
    with tempfile.TemporaryDirectory(prefix="stablelit-") as folder:
        os.chdir(folder)
        yield
        os.chdir(before)


@pytest.fixture
def test_data() -> Path:
    """The folder of small real samples; a test that needs it is skipped where it is absent."""
    folder = Path(os.environ["STABLELIT_TEST_DATA"])
    if not folder.is_dir():
        pytest.skip(f"no sample data at {folder} (set STABLELIT_TEST_DATA)")
    return folder
