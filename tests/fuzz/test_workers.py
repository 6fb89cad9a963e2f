"""A process that a fault of a library's ends costs one input, and no other is lost."""

from __future__ import annotations

import os
import signal
from random import Random

import pytest

from tests.fuzz import registry, workers
from tests.fuzz.target import Target, one_file


def _read(path):
    number = path.read_bytes()[0]
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 9:
        raise KeyError("no error of ours")
    return number


def _numbered(data, random: Random):
    return bytes([random.randrange(1, 12)])


@pytest.fixture
def dying(monkeypatch):
    target = Target("dying", one_file("a.bin", b"\0"), _read, (_numbered,))
    monkeypatch.setattr(workers, "targets", lambda *_: {"dying": target})
    monkeypatch.setattr(workers, "PIECE", 25)
    assert "dying" not in registry.targets("log")
    return target


@pytest.mark.slow
def test_every_input_is_counted_and_those_that_kill_are_kept(dying, tmp_path):
    (tmp_path / "scratch").mkdir()
    (result,) = workers.tallies(["dying"], 60, 0, tmp_path / "scratch", tmp_path / "kept", jobs=2)
    # a second way to the same: what each input is, without a process
    last = {n: _last_of(dying, n) for n in range(60)}
    kills, raises = ([n for n, byte in last.items() if byte == which] for which in (7, 9))
    assert kills
    assert raises
    assert [(n, outcome.kind) for n, outcome in result.failures] == sorted(
        [*((n, "crash") for n in kills), *((n, "foreign") for n in raises)]
    )
    assert result.row()["inputs"] == 60
    assert result.ends["data"] == 60 - len(kills) - len(raises)
    assert sorted(path.name for path in (tmp_path / "kept" / "dying").glob("*.bin")) == sorted(
        f"0-{n}.bin" for n in (*kills, *raises)
    )


def _last_of(target, number):
    random = Random(f"0/{target.name}/{number}")
    random.choice([b"\0"])
    data = b""
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        random.choice(target.mutators)
        data = _numbered(data, random)
    return data[0]
