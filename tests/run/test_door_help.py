"""`--help` of the doors that are no applications of Hydra's."""

from __future__ import annotations

import importlib

import pytest


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("door", ["evaluate", "generate", "predict", "prepare", "probe"])
def test_help_says_what_is_typed_and_is_no_mistake(door, option, capsys):
    assert importlib.import_module(f"stablelit.{door}").main([option]) == 0
    shown = capsys.readouterr()
    assert f"python -m stablelit.{door} " in shown.out
    assert shown.err == ""
