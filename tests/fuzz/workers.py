"""Thousands of inputs, each in a process that may die: by a fault in a library's C, or because it hangs there."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fuzz.guard import Outcome, limit_address_space
from tests.fuzz.registry import targets
from tests.fuzz.trying import Trying

# of the clock on the wall: a call in C that Python cannot interrupt
PATIENCE = 60.0


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


def tally(name: str, inputs: int, seed: int, scratch: Path, kept: Path) -> Tally:
    """Tries the inputs 0 to `inputs` - 1 of a target; those that fail are kept as files."""
    result, number, life = Tally(name), 0, 0
    while number < inputs:
        ours, theirs = multiprocessing.get_context("fork").Pipe(duplex=False)
        folder = scratch / f"{name}-{life}"
        folder.mkdir(parents=True)
        process = multiprocessing.get_context("fork").Process(
            target=_work, args=(name, seed, number, inputs, folder, theirs)
        )
        process.start()
        theirs.close()
        number = _listen(ours, process, result, number, inputs)
        shutil.rmtree(folder, ignore_errors=True)
        life += 1
    if result.failures:
        _keep(result, seed, scratch / f"{name}-kept", kept)
    return result


def _listen(ours: Connection, process: multiprocessing.Process, result: Tally, number: int, inputs: int) -> int:  # type: ignore[name-defined]
    """Takes what a worker tells, until it ends; returns the number that the next one begins with."""
    while number < inputs:
        how = "slow" if not ours.poll(PATIENCE) else ""
        if not how:
            try:
                result.add(number, ours.recv())
                number += 1
                continue
            except EOFError:
                how = "crash"
        process.kill() if how == "slow" else None
        process.join()
        code = -(process.exitcode or 0)
        told = (
            f"more than {PATIENCE:g} s of the clock"
            if how == "slow"
            else f"ended by {signal.Signals(code).name if code > 0 else code}"
        )
        result.add(number, Outcome(how, told, PATIENCE if how == "slow" else 0.0, 0.0))
        return number + 1
    process.join()
    return number


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
