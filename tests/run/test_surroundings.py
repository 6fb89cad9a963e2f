from __future__ import annotations

import errno
import os

import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.run.surroundings import in_short, of_a_worker, told_by_the_machine

IN_WORKER = """Caught {kind} in DataLoader worker process 3.
Original Traceback (most recent call last):
  File "worker.py", line 1, in _worker_loop
    data = fetcher.fetch(index)
{name}: {message}
"""


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


def full(path: str | None = "run/x.npy") -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def test_a_full_disk_is_told_with_file_reason_place_and_remedy():
    told = told_by_the_machine(raised(full()))
    assert told is not None
    assert told.startswith("run/x.npy could not be read or written: No space left on device (test_surroundings.py:")
    assert "df -h" in told


def test_a_checkpoint_that_cannot_be_written_is_told_as_one():
    def save_checkpoint() -> None:
        raise full("last.ckpt")

    with pytest.raises(OSError, match="last") as caught:
        save_checkpoint()
    assert str(told_by_the_machine(caught.value)).startswith("The checkpoint last.ckpt could not be written: No space")


def test_an_error_of_ours_that_a_full_disk_caused_says_itself_what_to_do():
    ours = raised(ConfigurationError("The checkpoint could not be written. Make room."), full())
    assert told_by_the_machine(ours) == "The checkpoint could not be written. Make room."
    assert told_by_the_machine(raised(ConfigurationError("a typing mistake"))) is None


def test_a_file_that_is_not_what_its_reader_expects_is_no_failure_of_the_machine():
    # as h5py says it: an OSError that is the reader's, without a number of the system's
    ours = raised(DataError("jets.hdf5: cannot be read as HDF5."), OSError("file signature not found"))
    assert told_by_the_machine(ours) is None


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader worker (pid 12) is killed by signal: Killed. ",
        "DataLoader worker (pid(s) 12, 13) exited unexpectedly",
        "DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that dataloader's workers are out "
        "of shared memory.",
    ],
    ids=["killed", "exited", "bus"],
)
def test_a_worker_that_is_gone_is_told_with_what_to_try(text):
    told = str(told_by_the_machine(raised(RuntimeError(text))))
    assert told.startswith("A data worker was killed")
    assert "data.num_workers=0" in told


def test_the_error_of_a_worker_is_shown_without_its_traceback():
    ours = DataError(
        IN_WORKER.format(kind="DataError", name="stablelit.errors.DataError", message="a.csv: row 3: empty")
    )
    assert in_short(ours) == "a.csv: row 3: empty (in data worker 3)"
    assert of_a_worker(DataError("a.csv: row 3: empty")) is None
    assert in_short(DataError("a.csv: row 3: empty")) == "a.csv: row 3: empty"


def test_a_file_that_a_worker_did_not_find_is_the_machines():
    gone = FileNotFoundError(
        IN_WORKER.format(kind="FileNotFoundError", name="FileNotFoundError", message="[Errno 2] No such file: 'x.png'")
    )
    assert told_by_the_machine(gone) == "FileNotFoundError: [Errno 2] No such file: 'x.png' (in data worker 3)"


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError("x"), RuntimeError("mat1 and mat2 shapes cannot be multiplied"), OSError("no number")],
    ids=lambda error: type(error).__name__,
)
def test_defects_are_no_machines(error):
    assert told_by_the_machine(raised(error)) is None


def test_a_defect_that_comes_while_a_full_disk_is_handled_stays_a_defect():
    defect = NameError("a defect")
    defect.__context__ = full()
    assert told_by_the_machine(defect) is None


class ProcessExitedException(Exception):
    """As torch's launcher raises it, in what is read of it."""

    def __init__(self, exit_code: int, signal_name: str | None = None) -> None:
        super().__init__(f"process 2 terminated with {signal_name or exit_code}")
        self.error_index, self.exit_code, self.signal_name = 2, exit_code, signal_name


class ProcessRaisedException(Exception):
    """Likewise: the text is a traceback."""


GLOO = "[../third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:39046."
NCCL = "NCCL error: remote process exited or there was a network error, NCCL version 2.21"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ProcessExitedException(3), "Rank 2 ended with exit code 3, without an error of its own"),
        (ProcessExitedException(-9, "SIGKILL"), "Rank 2 was killed (SIGKILL), without"),
        (ProcessRaisedException(f"\n-- Process 0\nTraceback:\n  File x\nRuntimeError: {GLOO}\n"), "A rank is gone"),
        (RuntimeError(GLOO), "A rank is gone"),
        (RuntimeError(NCCL), "A rank is gone"),
    ],
    ids=["exit", "signal", "forked", "gloo", "nccl"],
)
def test_a_rank_that_is_gone_is_told_with_what_to_try(error, said):
    told = told_by_the_machine(raised(error))
    assert told is not None
    assert told.startswith(said)
    assert "trainer.devices" in told


@pytest.mark.parametrize(
    "error",
    [
        ProcessRaisedException(f"RuntimeError: {GLOO}\nDuring handling:\nKeyError: 'loss'"),
        RuntimeError("Connection closed by peer"),
        ValueError(GLOO),
    ],
    ids=["another", "database", "value"],
)
def test_other_errors_of_ranks_and_connections_stay_what_they_are(error):
    assert told_by_the_machine(raised(error)) is None
