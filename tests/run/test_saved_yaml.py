"""The YAML of a run that came from somewhere: neither memory nor Hydra's options are at its disposal."""

from __future__ import annotations

import pytest

from stablelit.errors import ConfigurationError
from stablelit.run.compose import compose_saved_run, read_command
from stablelit.run.saved_yaml import LARGEST_BYTES, check_yaml

COMMAND = "config_name: train\nconfig_dir: null\noverrides:\n- +experiment=causal\n- seed=${a}\n"


def test_what_was_typed_comes_back_as_it_was_typed(tmp_path):
    (tmp_path / "overrides.yaml").write_text(COMMAND)
    assert read_command(tmp_path).overrides == ("+experiment=causal", "seed=${a}")


@pytest.mark.parametrize(
    "text",
    [
        COMMAND + "- --experimental-rerun=job.pickle\n",
        COMMAND + "- '  -m'\n",
        COMMAND.replace("train", "--cfg"),
        COMMAND.replace("null", "[a]"),
        COMMAND + "- {a: b}\n",
        COMMAND.replace("overrides", "others"),
        "- a\n",
        "a",
        "",
        "{",
        "[" * 5000,
        "[" * 60 + "]" * 60,
        COMMAND + "a: !!bool x\n",
        COMMAND + "a: 1\na: 2\n",
        "config_name: !!python/object/apply:os.system [touch acted]\n",
        "a: &a [x]\nb: [" + "*a, " * 9 + "]\n",
    ],
    ids=[
        *(
            "rerun",
            "multirun",
            "name",
            "directory",
            "mapping",
            "no-overrides",
            "list",
            "word",
            "empty",
            "open",
            "deep",
            "levels",
            "no-flag",
            "twice",
        ),
        *("object", "aliases"),
    ],
)
def test_a_command_that_is_none_is_refused_and_does_nothing(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "overrides.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"overrides\.yaml"):
        read_command(tmp_path)
    assert not (tmp_path / "acted").exists()


def test_a_configuration_that_stands_for_a_billion_others_is_refused_at_once(tmp_path):
    levels = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10)]
    (tmp_path / "config.yaml").write_text("\n".join(levels))
    with pytest.raises(ConfigurationError, match=r"config\.yaml: has 81 aliases"):
        compose_saved_run(tmp_path, [])


def test_a_file_of_settings_that_is_larger_than_any_is_not_read(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 1\n" + "#" * LARGEST_BYTES)
    with pytest.raises(ConfigurationError, match=r"a\.yaml: has 262149 bytes"):
        check_yaml(tmp_path / "a.yaml")
