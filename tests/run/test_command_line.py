from __future__ import annotations

import pytest

from stablelit.run.command_line import CommandLine, key_of, merge_overrides, quoted


def ordered(*argv: str) -> list[str]:
    return CommandLine.parse(argv).ordered().words()


def test_debug_is_appended_after_the_experiment_so_that_it_wins():
    assert ordered("debug=quick", "+experiment=jets") == ["+experiment=jets", "+debug=quick"]


def test_values_stay_behind_the_groups_in_their_order():
    argv = ["seed=1", "+debug=quick", "sweep=kl", "trainer=cpu", "experiment=jets", "seed=2"]
    assert ordered(*argv) == ["+experiment=jets", "+sweep=kl", "+debug=quick", "seed=1", "trainer=cpu", "seed=2"]


def test_ordering_twice_is_ordering_once():
    argv = ["-m", "debug=quick", "+experiment=jets", "seed=1,2", "--config-dir", "mine"]
    once = ordered(*argv)
    assert ordered(*once) == once


def test_options_keep_their_values():
    line = CommandLine.parse(["--config-dir", "mine", "-m", "--config-name=other", "a=1", "-c", "job"])
    assert line.option("--config-dir", "-cd") == "mine"
    assert line.option("--config-name", "-cn") == "other"
    assert line.is_multirun
    assert line.only_shows
    assert line.overrides == ("a=1",)


def test_a_deleted_key_is_an_override_and_no_option():
    assert CommandLine.parse(["~callbacks.figures"]).overrides == ("~callbacks.figures",)


@pytest.mark.parametrize(
    "argv", [["+experiment=jets"], ["experiment=jets"], ["data=jets", "model=jet_vae"], ["-cn", "x"]]
)
def test_something_to_run_is_recognised(argv):
    assert CommandLine.parse(argv).names_what_to_run


@pytest.mark.parametrize("argv", [[], ["seed=1"], ["data=jets"], ["debug=quick"]])
def test_nothing_to_run_is_recognised(argv):
    assert not CommandLine.parse(argv).names_what_to_run


@pytest.mark.parametrize("override", ["model.lr=1", "+model.lr=1", "++model.lr=1", "~model.lr", "~model.lr=1"])
def test_the_key_of_an_override_has_no_sign(override):
    assert key_of(override) == "model.lr"


def test_a_new_override_replaces_the_saved_one_of_the_same_key():
    assert merge_overrides(["seed=1", "trainer=cpu"], ["seed=2"]) == ["trainer=cpu", "seed=2"]


def test_a_key_that_was_added_is_given_anew_without_a_plus():
    merged = merge_overrides(["+experiment=a", "+trainer.x=1"], ["trainer.x=2", "+experiment=b"])
    assert merged == ["++trainer.x=2", "+experiment=b"]


def test_an_exchanged_experiment_stays_an_appended_group():
    assert merge_overrides(["+experiment=a"], ["experiment=b"]) == ["experiment=b"]


ODD = [
    "a b",
    "it's",
    "back\\",
    "x\\'y",
    "läuft",
    "a=b,c",
    "${home}",
    "\\${x}",
    "new\nline\n",
    "'",
    '"q"',
    "[a]",
    "null",
]


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_a_quoted_text_is_read_as_it_stands(text):
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    value = OverridesParser.create().parse_override(f"key={quoted(text)}").value()
    assert OmegaConf.create({"key": str(value)}).key == text


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("data.path=/home/jörg/a.csv", "data.path='/home/jörg/a.csv'"),
        ("data.path=~/a.csv", "data.path='~/a.csv'"),
        ("data.path=/ö.csv,/a.csv", "data.path='/ö.csv',/a.csv"),
        ("model.x=[ö]", "model.x=[ö]"),
        ("data.path='ö'", "data.path='ö'"),
        ("seed=3", "seed=3"),
        ("resume=runs/ö", "resume=runs/ö"),
        ("~callbacks.doctor", "~callbacks.doctor"),
    ],
)
def test_values_with_letters_that_hydra_does_not_take_are_quoted(typed, given):
    assert CommandLine.parse([typed]).overrides == (given,)
