from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig

CONF = Path(__file__).parent / "conf"


class Done(NamedTuple):
    code: int
    out: str
    err: str
    runs: list[Path]

    @property
    def run_dir(self) -> Path:
        """The directory of the newest run."""
        return self.runs[-1]

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.run_dir / "summary.json").read_text())


@pytest.fixture
def door(capfd) -> Callable[..., Done]:
    """Runs the `main` of a door in this process."""

    def run(main: Callable[[list[str]], int], *argv: str) -> Done:
        capfd.readouterr()
        code = main(list(argv))
        return Done(code, *capfd.readouterr(), sorted(Path.cwd().glob("runs/tiny/*")))

    return run


def tiny(*argv: str) -> list[str]:
    """The command line that trains the tiny experiment."""
    experiment = [] if any(a.startswith("experiment=") for a in argv) else ["+experiment=tiny"]
    return ["--config-dir", str(CONF), *experiment, *argv]


@pytest.fixture
def train(door) -> Callable[..., Done]:
    """Trains the tiny experiment in this process."""
    from stablelit.train import main

    def run(*argv: str) -> Done:
        if any(a.startswith("resume=") for a in argv):
            return door(main, *argv)
        return door(main, *tiny(*argv))

    return run


@pytest.fixture(scope="session")
def kept_runs() -> dict[tuple[str, ...], Path]:
    """Where the runs lie that `trained` has trained once, by their command line."""
    return {}


@pytest.fixture
def trained(train, kept_runs, tmp_path_factory) -> Callable[..., Done]:
    """A finished run of the tiny experiment in this test's directory: a copy, for what is tried is what comes after."""

    def run(*argv: str) -> Done:
        if argv not in kept_runs:
            folder = tmp_path_factory.mktemp("kept")
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                done = train(*argv)
            assert done.code == 0, done.err
            kept_runs[argv] = done.run_dir
        kept = kept_runs[argv]
        mine = Path.cwd() / "runs/tiny" / kept.name
        shutil.copytree(kept, mine, symlinks=True)
        return Done(0, "", "", [mine])

    return run


@pytest.fixture
def composed() -> Iterator[Callable[..., DictConfig]]:
    """Composes the tiny experiment with overrides, as a program of somebody's own would."""
    with initialize_config_module("stablelit.conf", version_base="1.3"):
        yield lambda *overrides: compose(
            "train", overrides=[f"hydra.searchpath=[file://{CONF}]", "+experiment=tiny", *overrides]
        )
