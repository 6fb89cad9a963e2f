"""`--help` of the doors that are no applications of Hydra's."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("door", ["evaluate", "generate", "predict", "prepare", "probe"])
def test_help_says_what_is_typed_and_is_no_mistake(door, option, capsys):
    assert importlib.import_module(f"stablelit.{door}").main([option]) == 0
    shown = capsys.readouterr()
    assert f"python -m stablelit.{door} " in shown.out
    assert shown.err == ""


@pytest.mark.slow
def test_the_help_of_training_does_not_wait_for_lightning(tmp_path):
    code = (
        "import sys; sys.argv = ['train']; from stablelit.train import main; main(['--help']);"
        "sys.exit('lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "experiment" in done.stdout
