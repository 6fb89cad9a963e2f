"""The door that packs data, as the README shows it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stablelit.families.neutrinos.readers import PackedFolder
from stablelit.prepare import main as prepare
from tests.families.neutrinos.kaggle_files import KaggleFiles

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path) -> Path:
    return KaggleFiles(tmp_path / "data").write()


def test_events_are_packed_and_it_is_said_where(door, folder):
    done = door(prepare, "neutrinos", f"path={folder}", "output=packed", "seed=3", "batch_ids=[1,3]")
    assert done.code == 0, done.err
    assert "prepared" in done.out
    assert "packed" in done.out
    packed = PackedFolder("packed")
    assert packed.batch_ids.tolist() == [1, 3]
    assert packed.header["seed"] == 3
    assert packed.shuffled


def test_the_order_of_the_files_can_be_kept(door, folder):
    done = door(prepare, "neutrinos", f"path={folder}", "output=packed", "shuffle=false", "max_events=4")
    assert done.code == 0, done.err
    assert PackedFolder("packed").table.event_id.tolist() == [1000, 1003, 1006, 1009]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "prepare: of what?"),
        (["neutrino", "path=x", "output=y"], "'neutrino' has no preparation Did you mean 'neutrinos'"),
        (["neutrinos", "output=y"], "give path=..."),
        (["neutrinos", "path=x"], "give output=..."),
        (["neutrinos", "path=x", "output=y", "sed=1"], "unknown argument sed=1. Did you mean 'seed'"),
        (["neutrinos", "path=x", "output=y", "seed=one"], "seed='one'"),
        (["neutrinos", "path=x", "output=y"], "x: there is no such file or folder"),
        (["neutrinos", "path=data", "output=y", "batch_ids=[9]"], "no batch_9.parquet"),
        (["neutrinos", "path=data", "output=data"], "data: is there already"),
    ],
)
def test_mistakes_are_told_and_leave_nothing(door, folder, argv, message):
    done = door(prepare, *argv)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert [path.name for path in Path.cwd().iterdir()] == ["data"]


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(tmp_path):
    KaggleFiles(tmp_path / "data", sizes=(300,) * 8).write()
    argv = [sys.executable, "-m", "stablelit.prepare", "neutrinos", "path=data", "output=packed", "pulses_a_shard=5"]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    process = subprocess.Popen(argv, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(path.name.startswith(".packed-") for path in tmp_path.iterdir()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Interrupted" in told
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
