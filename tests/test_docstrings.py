"""Examples in docstrings are run, each module's in a case of its own."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import stablelit

ROOT = Path(stablelit.__file__).parent
MODULES = sorted(
    ".".join(("stablelit", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    # what needs a file of the reader's own is marked to be skipped
    if any(
        line.lstrip().startswith(">>> ") and "+SKIP" not in line
        for line in path.read_text(encoding="utf-8").splitlines()
    )
)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.filterwarnings("default::UserWarning:stablelit")
def test_examples_say_what_they_give(name):
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert found.attempted, "the examples are of no docstring that doctest finds"
    assert found.failed == 0
