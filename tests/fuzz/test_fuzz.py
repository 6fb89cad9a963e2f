"""Some hostile inputs for each reader by default, ten times as many in the slow tests; `python -m tests.fuzz` has more.

Here they are read in the test's own process: a fault in a library's C would end it. That is looked for in processes of
their own, by the command.
"""

from __future__ import annotations

import pytest

from tests.fuzz.guard import guarded
from tests.fuzz.registry import targets
from tests.fuzz.target import is_stablelit_error
from tests.fuzz.trying import Trying

NAMES = list(targets())


@pytest.mark.parametrize("name", NAMES)
def test_hostile_inputs_end_in_data_or_in_an_error_of_ours(name, tmp_path):
    trying = Trying(targets()[name], tmp_path)
    assert [outcome.told for outcome in trying.valid() if outcome.kind != "data"] == []
    _assert_all_end_well(trying, trying.target.quick)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_ten_times_as_many_end_well(name, tmp_path):
    trying = Trying(targets()[name], tmp_path, seed=1)
    _assert_all_end_well(trying, 10 * trying.target.quick)


def _assert_all_end_well(trying: Trying, inputs: int) -> None:
    for number in range(inputs):
        outcome = trying.try_input(trying.input(number))
        assert not outcome.is_failure, f"input {number} of seed {trying.seed}: {outcome.kind}: {outcome.told}"


def test_inputs_are_decided_by_seed_target_and_number(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = (Trying(targets()["causal-text"], tmp_path / name, seed=3) for name in "ab")
    assert [one.input(i) for i in range(20)] == [other.input(i) for i in range(20)]
    assert len({one.input(i) for i in range(20)}) > 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (lambda: 1, "data"),
        (lambda: (_ for _ in ()).throw(KeyError("x")), "foreign"),
        (lambda: __import__("subprocess").run(["true"]), "acted"),
        (lambda: open("/tmp/stablelit-fuzz-outside", "w"), "acted"),  # noqa: SIM115
        (lambda: bytearray(600 << 20).count(b"\1"), "memory"),
        (lambda: [i for i in iter(int, 1)], "slow"),
    ],
    ids=["data", "foreign", "process", "file", "memory", "endless"],
)
def test_the_guard_sees_what_it_is_there_for(act, kind, tmp_path):
    seconds = 0.05 if kind == "slow" else 5.0
    assert guarded(act, is_stablelit_error, tmp_path, seconds).kind == kind
