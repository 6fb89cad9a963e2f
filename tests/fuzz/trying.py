"""Inputs of a target, each decided by the seed, the target and its number alone; and a session of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from tests.fuzz.guard import Outcome, guarded
from tests.fuzz.mutators import mutated
from tests.fuzz.target import Target


class Trying:
    """A target with its seeds written into a folder.

    Args:
        target: what is tried.
        folder: empty; nothing is read or written outside it.
        seed: of all inputs.
    """

    def __init__(self, target: Target, folder: Path, seed: int = 0) -> None:
        self.target, self.folder, self.seed = target, folder, seed
        paths = target.write(folder)
        self.path, self.seeds = paths[0], [path.read_bytes() for path in paths]
        for path in paths[1:]:
            path.unlink()

    def input(self, number: int) -> bytes:
        """The input of this number."""
        return mutated(self.seeds, self.target.mutators, Random(f"{self.seed}/{self.target.name}/{number}"))

    def try_input(self, data: bytes) -> Outcome:
        """Reads an input under guard."""
        self.path.write_bytes(data)
        with _inside(self.folder):
            return guarded(lambda: self.target.read(self.path), self.target.is_ours, self.folder, self.target.seconds)

    def valid(self) -> list[Outcome]:
        """What comes of the seeds themselves."""
        return [self.try_input(seed) for seed in self.seeds]


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
