"""Data workers that are killed, that raise, and that find a file gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import tests.run.tiny
from stablelit.errors import DataError
from stablelit.train import main
from tests.run.conftest import tiny
from tests.run.misfortune import Ended, in_child

pytestmark = pytest.mark.slow


class Points(Dataset):
    """What happens, happens in a worker at one of its rows."""

    def __init__(self, points: torch.Tensor, happens: Callable[[], object]) -> None:
        self.points, self.happens = points, happens

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> tuple[torch.Tensor]:
        if index == 13:
            self.happens()
        return (self.points[index],)


def train(happens: Callable[[], object], **loader: object) -> Ended:
    def train_dataloader(self: tests.run.tiny.TinyDataModule) -> DataLoader:
        data = Points(self.points[self.split_indices["train"]], happens)
        return DataLoader(data, batch_size=self.batch_size, num_workers=1, shuffle=True, **loader)

    def work() -> int:
        tests.run.tiny.TinyDataModule.train_dataloader = train_dataloader
        return main(tiny("run_dir=run"))

    return in_child(work)


def raises(error: Exception) -> Callable[[], object]:
    def happens() -> None:
        raise error

    return happens


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGBUS, signal.SIGSEGV], ids=["kill", "bus", "segv"])
def test_a_worker_that_was_killed_is_told_with_what_to_try(how):
    done = train(lambda: os.kill(os.getpid(), how))
    assert done.code == 1
    assert "A data worker was killed" in done.err
    assert "data.num_workers=0" in done.err
    assert "/dev/shm" in done.err
    assert "Traceback" not in done.err


def test_an_error_of_ours_from_a_worker_is_told_without_its_traceback():
    done = train(raises(DataError("points.csv: row 13: gone")))
    assert done.code == 2
    assert "DataError: points.csv: row 13: gone (in data worker 0)" in done.err
    assert "Traceback" not in done.err


def test_a_file_that_a_worker_does_not_find_is_named():
    done = train(Path("pictures/13.png").read_bytes)
    assert done.code == 1
    assert "FileNotFoundError: [Errno 2] No such file or directory: 'pictures/13.png' (in data worker 0)" in done.err
    assert "Traceback" not in done.err


def test_a_defect_in_a_worker_keeps_its_traceback():
    done = train(raises(ZeroDivisionError("a defect")))
    assert done.code == 1
    assert "Traceback" in done.err
    assert "ZeroDivisionError: a defect" in done.err
