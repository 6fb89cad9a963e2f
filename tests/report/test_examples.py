"""The examples in the docstrings, which say how numbers and names are written."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import stablelit.report

MODULES = sorted(m.name for m in pkgutil.iter_modules(stablelit.report.__path__) if m.name != "__main__")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_are_true(name):
    module = importlib.import_module(f"stablelit.report.{name}")
    assert doctest.testmod(module).failed == 0
