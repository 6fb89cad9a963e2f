"""Every callback in every way of training, held against what it comes to in fp32.

The module draws nothing and its optimizer remembers nothing, so that all ways are the same training but for rounding.
A step's gradient comes of at most 16 roundings in a row (two linear layers, an exponential, squares and sums, forward
and back), and moves the weights by an error of no more than that share of the step; the weights themselves are rounded
once a step. So weights may differ by eps (16 path + steps max|w|), with the path that fp32's weights took; scheduled
scalars, which one rounding reaches a step, by eps steps of their size.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.contract import modules
from tests.contract.as_configuration import as_configuration
from tests.contract.by_hand import clipped_one_by_one, floored_half_by_half
from tests.contract.cells import EPOCHS, Outcome, made, run, sharded
from tests.contract.matrix import COLUMNS, EPS, NAMES_DIFFER, REFUSES, cells, table
from tests.contract.registry import SETTINGS
from tests.ranks.two_ranks import on_ranks

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = EPOCHS * modules.BATCHES
# cheap, and what has broken before
BY_DEFAULT = {("kl_cap_target", "bf16-mixed"), ("adaptive_grad_clip", "several"), ("grad_clip_monitor", "several")}
IN_THIS_PROCESS = [cell for cell in cells() if cell[1] not in ("fp32", "dtensor")]
# of the clock and of the machine
NOT_OF_THE_TRAINING = ("perf/", "memory/")


@pytest.fixture(scope="module")
def in_fp32(tmp_path_factory):
    known = {}

    def found(key):
        if key not in known:
            known[key] = run(key, "fp32", tmp_path_factory.mktemp("fp32"))
        return known[key]

    return found


def hold(found, reference, column, share=0.0):
    eps, weights = EPS[COLUMNS[column].rounding], reference.weights
    largest = max(float(w.abs().max()) for w in weights.values())
    allowed = eps * (16 * reference.path + STEPS * largest) + share * reference.path
    # or training not at all would do
    start = dict(made(modules.NAMES[0], "automatic").named_parameters())
    assert allowed < 0.5 * max(float((w - start[name]).abs().max()) for name, w in weights.items())
    for name, weight in weights.items():
        assert torch.isfinite(found.weights[name]).all()
        assert float((found.weights[name] - weight).abs().max()) <= allowed, name
    assert found.files == reference.files
    # a file that whoever has the class can load
    assert set(found.part) == set(reference.part)
    for name, weight in found.part.items():
        assert torch.equal(weight, found.weights[name])
    for name, value in reference.scalars.items():
        assert found.scalars[name] == pytest.approx(value, rel=STEPS * eps, abs=STEPS * eps), name


@pytest.mark.parametrize(
    ("key", "column"),
    [
        pytest.param(*cell, id="-".join(cell), marks=[] if cell in BY_DEFAULT else [pytest.mark.slow])
        for cell in IN_THIS_PROCESS
    ],
)
def test_it_comes_to_what_it_comes_to_in_fp32(key, column, in_fp32, tmp_path):
    if (key, column) in REFUSES:
        with pytest.raises(Exception, match=REFUSES[key, column]):
            run(key, column, tmp_path)
        return
    reference, found = in_fp32(key), run(key, column, tmp_path)
    assert found.steps == STEPS * COLUMNS[column].steps_per_batch
    assert bool(found.traced) == ("compile" in column)
    if (key, column) == ("adaptive_grad_clip", "several"):
        # two norms in the place of one; a bin of its histogram is 0.54 % wide
        hold(found, replace(reference, weights=clipped_one_by_one()), column, 0.0054)
    elif (key, column) == ("kl_cap_free_bits", "accumulation"):
        # the floor is held against the mean of each half
        weights = [value for (_, name), value in sorted(reference.logged.items()) if name == "kl/weight"]
        hold(found, replace(reference, weights=floored_half_by_half(weights, 0.1)), column)
    else:
        hold(found, reference, column)
    assert type(found.state) is type(reference.state)
    assert set(found.state) == set(reference.state)
    if column != "several":  # which has a name for each optimizer
        differ = tuple(start for place in (column, (key, column)) for start in NAMES_DIFFER.get(place, ()))
        assert {n for n in found.names ^ reference.names if not n.startswith(differ)} == set()
    if COLUMNS[column].logs_alike:
        for (step, name), value in reference.logged.items():
            if not name.startswith(NOT_OF_THE_TRAINING):
                assert found.logged[step, name] == pytest.approx(value, rel=1e-4, abs=1e-5, nan_ok=True), (step, name)


@pytest.mark.slow
@pytest.mark.parametrize("key", SETTINGS)
def test_it_works_on_shards_or_says_that_it_does_not(key, in_fp32, tmp_path):
    def of_a_rank(rank):
        found = vars(sharded(key, tmp_path / "run"))
        weights = {name: weight.tolist() for name, weight in found["weights"].items()}
        part = {name: weight.tolist() for name, weight in found["part"].items()}
        return {**found, "weights": weights, "part": part, "state": None}

    if (key, "dtensor") in REFUSES:
        with pytest.raises(RuntimeError, match=REFUSES[key, "dtensor"]) as caught:
            on_ranks(of_a_rank, tmp_path / "store", seconds=60)
        assert "ConfigurationError" in str(caught.value)
        assert "in setup" in str(caught.value)
        return
    first, second = on_ranks(of_a_rank, tmp_path / "store", seconds=60)
    assert first["sharded"], "no parameter was a DTensor"
    assert first["weights"] == second["weights"]
    reference = in_fp32(key)
    tensors = {what: {name: torch.tensor(w) for name, w in first[what].items()} for what in ("weights", "part")}
    found = Outcome(**first | tensors)
    assert found.steps == STEPS
    assert found.names == reference.names
    hold(found, reference, "dtensor")


def test_no_cell_is_left_open():
    tried = {*IN_THIS_PROCESS, *((key, column) for key in SETTINGS for column in ("fp32", "dtensor"))}
    assert tried == set(cells())
    assert set(REFUSES) <= tried
    assert table().count("| yes") + table().count("| refuses") == len(SETTINGS) * len(COLUMNS)


def test_the_page_has_the_table():
    page = Path(__file__).parents[2] / "docs" / "matrix.md"
    assert table() in page.read_text(), "write the page anew: python -m tests.contract"


@pytest.mark.parametrize("key", SETTINGS)
def test_a_configuration_file_can_say_what_the_registry_builds(key):
    described = as_configuration(SETTINGS[key].make)
    kind = type(SETTINGS[key].make())
    assert described["class_path"] == f"{kind.__module__}.{kind.__qualname__}"
    assert "init_args" in described
