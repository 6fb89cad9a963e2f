"""Thousands of inputs, each in a process that may die: by a fault in a library's C, or because it hangs there."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fuzz.guard import Outcome, limit_address_space
from tests.fuzz.registry import targets
from tests.fuzz.trying import Trying

# of the clock on the wall: a call in C that Python cannot interrupt
PATIENCE = 60.0
# inputs of a target that one process after the other tries, so that a slow target has more than one
PIECE = 2500
# between two looks at what a worker tells: to be woken for each input would take half of the processor
_GLANCE_SECONDS = 0.02


@dataclass
class Tally:
    """What came of the inputs of a target.

    Args:
        name: of the target.
        ends: how many ended how.
        failures: number of the input, how it ended.
        seconds: of the slowest.
        megabytes: of the largest.
    """

    name: str
    ends: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, Outcome]] = field(default_factory=list)
    seconds: float = 0.0
    megabytes: float = 0.0

    def add(self, number: int, outcome: Outcome) -> None:
        self.ends[outcome.kind] += 1
        self.seconds, self.megabytes = max(self.seconds, outcome.seconds), max(self.megabytes, outcome.megabytes)
        if outcome.is_failure:
            self.failures.append((number, outcome))

    def take(self, other: Tally) -> None:
        """Takes in what came of other inputs of the target."""
        self.ends += other.ends
        self.seconds, self.megabytes = max(self.seconds, other.seconds), max(self.megabytes, other.megabytes)
        self.failures = sorted([*self.failures, *other.failures], key=lambda failure: failure[0])

    def row(self) -> dict[str, object]:
        """As data."""
        return {
            "target": self.name,
            "inputs": sum(self.ends.values()),
            "data": self.ends["data"],
            "our_errors": self.ends["ours"],
            "failures": len(self.failures),
            "worst_seconds": round(self.seconds, 2),
            "worst_megabytes": round(self.megabytes),
        }


def tallies(names: Sequence[str], inputs: int, seed: int, scratch: Path, kept: Path, jobs: int = 1) -> Iterator[Tally]:
    """What comes of each target, as soon as it is known; inputs that fail are kept.

    Args:
        names: of the targets, the slowest first.
        inputs: of each target.
        seed: of all inputs.
        scratch: an empty folder.
        kept: the folder for inputs that fail.
        jobs: processes beside each other.
    """
    targets()  # imported once, before there are processes to import them
    pieces = [(name, begin, min(begin + PIECE, inputs)) for name in names for begin in range(0, inputs, PIECE)]
    results = {name: Tally(name) for name in names}
    open_pieces = Counter(name for name, _, _ in pieces)
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        for done in as_completed([pool.submit(tally, *piece, seed, scratch) for piece in pieces]):
            result = results[done.result().name]
            result.take(done.result())
            open_pieces[result.name] -= 1
            if not open_pieces[result.name]:
                if result.failures:
                    _keep(result, seed, scratch / f"{result.name}-kept", kept)
                yield result


def tally(name: str, begin: int, end: int, seed: int, scratch: Path) -> Tally:
    """What comes of the inputs of these numbers; each time that a process ends on one, another goes on behind it."""
    result, number = Tally(name), begin
    while number < end:
        ours, theirs = multiprocessing.get_context("fork").Pipe(duplex=False)
        folder = scratch / f"{name}-{number}"
        folder.mkdir(parents=True)
        process = multiprocessing.get_context("fork").Process(
            target=_work, args=(name, seed, number, end, folder, theirs)
        )
        process.start()
        theirs.close()
        number = _listen(ours, process, result, number, end)
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _listen(ours: Connection, process: multiprocessing.Process, result: Tally, number: int, end: int) -> int:  # type: ignore[name-defined]
    """Takes what a worker tells, until it ends; returns the number that the next one begins with."""
    heard = time.monotonic()
    how = ""
    while number < end and not how:
        if not ours.poll(0):
            how = "slow" if time.monotonic() - heard > PATIENCE else ""
            time.sleep(_GLANCE_SECONDS)
            continue
        try:
            result.add(number, ours.recv())
            number, heard = number + 1, time.monotonic()
        except EOFError:
            how = "crash"
    if how == "slow":
        process.kill()
    process.join()
    if not how:
        return number
    code = -(process.exitcode or 0)
    told = (
        f"more than {PATIENCE:g} s of the clock"
        if how == "slow"
        else f"ended by {signal.Signals(code).name if code > 0 else code}"
    )
    result.add(number, Outcome(how, told, PATIENCE if how == "slow" else 0.0, 0.0))
    return number + 1


def _work(name: str, seed: int, begin: int, end: int, folder: Path, told: Connection) -> None:
    # the workers' own library threads would be more than the machine has
    import torch

    torch.set_num_threads(1)
    trying = Trying(targets()[name], folder, seed)
    trying.valid()
    limit_address_space()
    for number in range(begin, end):
        told.send(trying.try_input(trying.input(number)))


def _keep(result: Tally, seed: int, scratch: Path, kept: Path) -> None:
    scratch.mkdir(parents=True)
    trying = Trying(targets()[result.name], scratch, seed)
    folder = kept / result.name
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, outcome in result.failures:
        (folder / f"{seed}-{number}{trying.path.suffix}").write_bytes(trying.input(number))
        lines.append(f"{seed}-{number}{trying.path.suffix}\t{outcome.kind}\t{outcome.seconds:.2f} s\t{outcome.told}\n")
    (folder / "failures.txt").write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
