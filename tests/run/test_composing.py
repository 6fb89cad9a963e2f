"""Files that are no configuration, at the doors and in a run's directory: one mistake that names the file."""

from __future__ import annotations

import re

import pytest

from stablelit.check import main as check
from stablelit.errors import ConfigurationError
from stablelit.run.compose import compose_saved_run
from stablelit.run.saved_yaml import check_yaml

BAD = {
    "bracket": ("seed: [3\n", r"mine\.yaml: cannot be read as YAML: while parsing a flow sequence"),
    "bytes": (b"seed: 3\n# \xff\n", r"mine\.yaml: cannot be read as YAML: 'utf-8'"),
    "circle": ("seed: 3\nx: &a [1, *a]\n", r"mine\.yaml: line 3: \*a stands inside of what it stands for"),
    "mapping": ("defaults: {data: jets}\n", r"Invalid defaults list in 'experiment/mine'"),
    "two-keys": ("defaults:\n  - {data: jets, model: x}\n", r"In experiment/mine: Too many keys .*~group"),
    "nothing": ("defaults:\n  -\n", r"Unsupported type in defaults : NoneType"),
    "nested": ("defaults:\n  - data: {jets: 1}\n", r"Unsupported item value in defaults : dict"),
    "long-name": (f"defaults:\n  - /data: {'x' * 300}\n", r"names a file that cannot be.*xxx"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("content", "told"), BAD.values(), ids=BAD)
def test_a_recipe_of_ones_own_that_is_none_is_a_mistake_without_a_traceback(tmp_path, door, content, told):
    path = tmp_path / "experiment" / "mine.yaml"
    path.parent.mkdir()
    text = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(b"# @package _global_\n" + text)
    done = door(check, "--config-dir", str(tmp_path), "+experiment=mine")
    assert done.code == 2
    assert "Traceback" not in done.err
    assert re.search(told, done.err.replace("\n", " ")), done.err


def test_a_group_that_is_null_on_the_command_line_is_a_mistake(door):
    done = door(check, "+experiment=jets", "data=null")
    assert done.code == 2
    assert "Got NoneType" in done.err
    assert "~group to leave it out" in done.err
    assert "Traceback" not in done.err


def test_an_alias_inside_of_what_it_stands_for_is_refused_with_its_line(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 1\nb:\n  - &x {c: [2, *x]}\n")
    with pytest.raises(ConfigurationError, match=r"a\.yaml: line 3: \*x stands inside"):
        check_yaml(tmp_path / "a.yaml")


def test_an_alias_beside_what_it_stands_for_is_taken(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &x {c: [2]}\nb: *x\nc: [&y [1], *y]\n")
    check_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    "defaults", ["", " {}", "\n  - 3", "\n  - a: {b: c}"], ids=["null", "mapping", "int", "nested"]
)
def test_a_saved_run_whose_defaults_list_is_none_is_refused(tmp_path, defaults):
    (tmp_path / "config.yaml").write_text(f"defaults:{defaults}\nseed: 3\n")
    with pytest.raises(ConfigurationError, match="cannot be composed"):
        compose_saved_run(tmp_path, [])
