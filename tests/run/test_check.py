"""check(): every mistake of a configuration is found before anything is built, and nothing else is."""

from __future__ import annotations

import textwrap
from typing import Literal

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.utils import setup_globals
from omegaconf import OmegaConf

from stablelit.errors import ConfigurationError
from stablelit.run.check import NO_VALUE, Problem, allow_targets_from_overrides, check, raise_on_problems

USER_MODULE = """
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Optional

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nowhere import Mystery


class Net(torch.nn.Module):
    built = 0

    def __init__(
        self,
        width: int,
        depth: int = 2,
        dropout: float = 0.0,
        bias: bool = True,
        activation: Literal["relu", "gelu", "silu"] = "relu",
        sizes: Sequence[int] = (),
        shape: tuple[int, int] = (1, 1),
        weights: dict[str, float] | None = None,
        path: Path | None = None,
        label: str = "net",
        odd: Mystery | None = None,
        table: Mapping[str, int] | None = None,
        seed: int = None,
        body: torch.nn.Module | None = None,
        head=None,
        scale=1.0,
    ):
        super().__init__()
        type(self).built += 1


class Greedy(torch.nn.Module):
    def __init__(self, width: int, **kwargs):
        super().__init__()


class Many(torch.nn.Module):
    def __init__(self, *layers: int, last: float):
        super().__init__()


"""


@pytest.fixture(autouse=True)
def user_modules(tmp_path, monkeypatch):
    (tmp_path / "user_nets.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))


def checked(text: str, **kwargs) -> list[Problem]:
    return check(OmegaConf.create(textwrap.dedent(text)), **kwargs)


def net(**arguments) -> list[Problem]:
    return check({"model": {"_target_": "user_nets.Net", "width": 4, **arguments}})


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, [str(p) for p in problems]
    return problems[0]


# --- the tree ---------------------------------------------------------------------------------------------------------


def test_a_missing_mandatory_value_says_how_to_give_it():
    problem = only(checked("data: {path: '???'}"))
    assert (problem.key, problem.what) == ("data.path", "missing")
    assert "data.path=<value>" in problem.remedy


def test_a_reference_to_a_missing_value_is_reported_once_where_it_is_missing():
    assert only(checked("{width: '???', model: {_target_: user_nets.Net, width: '${width}'}}")).key == "width"


def test_an_interpolation_of_an_unknown_key_names_the_near_one():
    problem = only(checked("{model: {width: 3}, data: {width: '${model.widht}'}}"))
    assert problem.key == "data.width"
    assert problem.value == "${model.widht}"
    assert "model.widht" in problem.what
    assert "'model.width'" in problem.remedy


def test_an_unset_environment_variable_and_a_circle_are_reported():
    keys = [p.key for p in checked("{a: '${oc.env:STABLELIT_NOT_SET}', b: '${c}', c: '${b}'}")]
    assert keys == ["a", "b", "c"]


@pytest.mark.parametrize("resolver_known", [False, True])
def test_what_hydra_resolves_later_is_no_problem(resolver_known):
    if resolver_known:
        setup_globals()
    config = """
    root: ${hydra:runtime.output_dir}
    trainer: {_target_: lightning.pytorch.Trainer, default_root_dir: "${root}/x", max_epochs: 1}
    """
    assert checked(config) == []


def test_a_target_that_hydra_resolves_later_is_refused_for_it_would_be_built_unseen():
    assert only(checked("x: {_target_: '${hydra:job.name}'}")).key == "x._target_"


def test_the_hydra_section_is_not_read():
    assert checked("hydra: {launcher: {_target_: os.system, a: '???'}}") == []


def test_a_reference_into_the_hydra_section_is_read():
    config = "{hydra: {env: {_target_: os.system}}, x: '${hydra.env}'}"
    assert only(checked(config)).key == "x._target_"


def test_problems_inside_lists_carry_the_index():
    problem = only(
        checked("model: {layers: [{_target_: user_nets.Net, width: 1}, {_target_: user_nets.Net, width: a}]}")
    )
    assert problem.key == "model.layers[1].width"


def test_a_referenced_section_is_reported_once_under_its_own_key():
    config = "{b: '${a}', a: {_target_: user_nets.Net, widht: 3}}"
    assert {p.key for p in checked(config)} == {"a.widht", "a.width"}


def test_arguments_provided_at_a_reference_count_for_the_section_it_points_to():
    config = "{nets: {small: {_target_: user_nets.Net}}, model: '${nets.small}'}"
    assert only(checked(config)).key == "nets.small.width"
    assert checked(config, provided={"model": {"width"}}) == []


def test_a_section_made_by_a_resolver_is_read_too():
    assert only(check({"x": "${oc.create:{_target_: os.system}}"})).key == "x._target_"


def test_a_configuration_that_hydra_composed_is_read_with_its_overrides(tmp_path):
    (tmp_path / "main.yaml").write_text(
        "allow_targets: []\nout: ${hydra:runtime.output_dir}\n"
        "model: {_target_: user_nets.Net, width: 3, path: '${out}'}\n"
    )
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        overrides = ["model.width=abc", "+model.dropout=1e-3", "+model.dpeth=2", "allow_targets=[a.b]"]
        config = compose("main", overrides=overrides)
    OmegaConf.set_readonly(config, True)
    problems = check(config, allow_targets_from_overrides(overrides))
    assert [p.key for p in problems] == ["model.width", "model.dpeth"]


def test_plain_dicts_and_yaml_text_that_does_not_parse_are_taken():
    assert only(check({"model": {"_target_": "user_nets.Net", "width": "a"}})).key == "model.width"
    assert only(check({"a": "${"})).key == "a"
    assert check({}) == []


def test_a_root_with_a_target_has_keys_without_a_leading_dot():
    assert only(check({"_target_": "user_nets.Net"})).key == "width"


def test_a_misspelt_target_key_is_noticed():
    problem = only(checked("model: {_taget_: user_nets.Net, width: 3}"))
    assert problem.key == "model._taget_"
    assert "_target_" in problem.remedy


def test_problems_come_in_the_order_of_the_configuration_and_all_at_once():
    config = """
    seed: ???
    model: {_target_: user_nets.Net, widht: 3, dropout: abc, activation: gleu}
    trainer: {_target_: lightning.pytorch.Trainer, max_epoch: 3}
    callbacks:
      stop: {_target_: lightning.pytorch.callbacks.EarlyStoping, monitor: x}
      shell: {_target_: torch.utils.collect_env.run, command: ls}
    loss: ${model.weight}
    """
    problems = checked(config)
    assert [p.key for p in problems] == [
        "seed",
        "model.width",
        "model.widht",
        "model.dropout",
        "model.activation",
        "trainer.max_epoch",
        "callbacks.stop._target_",
        "callbacks.shell._target_",
        "loss",
    ]
    assert problems == checked(config)
    with pytest.raises(ConfigurationError, match="9 problems in the configuration") as caught:
        raise_on_problems(problems)
    assert all(str(p) in str(caught.value) for p in problems)


def test_nothing_is_raised_where_there_is_no_problem():
    raise_on_problems([])


def test_a_problem_reads_as_one_or_two_lines_and_long_values_are_cut():
    assert str(Problem("a.b", 3, "too much")) == "a.b=3: too much"
    assert str(Problem("a.b", NO_VALUE, "missing", "Give it.")) == "a.b: missing\n    Give it."
    assert len(str(Problem("a", "x" * 500, "w"))) < 100


def test_nothing_is_built():
    import user_nets

    assert net() == []
    assert user_nets.Net.built == 0


# --- keys and signatures ----------------------------------------------------------------------------------------------


def test_an_unknown_key_is_named_in_full_with_the_near_one_and_what_is_taken():
    problem = only(net(dropuot=0.1))
    assert problem.key == "model.dropuot"
    assert "'dropuot'" in problem.what
    assert "'dropout'" in problem.remedy
    assert "width, depth" in problem.remedy


def test_a_missing_argument_is_reported_unless_partial_or_provided():
    section = {"_target_": "user_nets.Net"}
    problem = only(check({"model": section}))
    assert (problem.key, problem.value) == ("model.width", NO_VALUE)
    assert "+model.width=<int>" in problem.remedy
    assert check({"model": {**section, "_partial_": True}}) == []
    assert check({"model": section}, provided={"model": {"width"}}) == []
    assert only(check({"model": section}, provided={"other": {"width"}})).key == "model.width"


def test_inside_a_list_the_remedy_is_no_override_for_hydra_has_none():
    remedies = [p.remedy for p in check({"nets": [{"_target_": "user_nets.Net"}, "???"]})]
    assert remedies == ["Write width: <int> there.", "Write its value there."]


def test_a_mandatory_value_that_the_program_provides_is_not_missing():
    assert checked("model: {_target_: user_nets.Net, width: '???'}", provided={"model": {"width"}}) == []


def test_a_target_without_a_name_is_one_problem_and_no_wrong_value():
    assert only(net(dropout={"_target_": "???"})).key == "model.dropout._target_"


def test_a_mandatory_value_is_not_reported_a_second_time_as_an_argument():
    assert only(checked("model: {_target_: user_nets.Net, width: '???'}")).what == "missing"


def test_under_recursive_false_the_program_may_complete_nested_targets_itself():
    config = """
    model:
      _target_: user_nets.Net
      _recursive_: false
      width: 2
      body: {_target_: user_nets.Net, depht: 3}
    """
    assert only(checked(config)).key == "model.body.depht"


def test_a_target_that_takes_any_keyword_has_no_unknown_key():
    assert checked("model: {_target_: user_nets.Greedy, width: 1, anything: 2}") == []


def test_positional_arguments_are_bound_and_checked():
    assert checked("model: {_target_: user_nets.Net, _args_: [4, 3]}") == []
    assert only(checked("model: {_target_: user_nets.Net, _args_: [four]}")).key == "model._args_[0]"
    assert only(checked("model: {_target_: user_nets.Net, _args_: [4], width: 4}")).key == "model.width"
    assert only(checked("model: {_target_: user_nets.Greedy, _args_: [4, 5]}")).key == "model._args_"
    assert only(checked("model: {_target_: user_nets.Many, _args_: [1, 2, x], last: 1}")).key == "model._args_[2]"


def test_lightnings_wrapped_trainer_shows_its_real_signature():
    problem = only(checked("trainer: {_target_: lightning.pytorch.Trainer, max_epoch: 3}"))
    assert "'max_epochs'" in problem.remedy


def test_the_signature_of_new_counts_where_there_is_no_init():
    keys = [p.key for p in checked("m: {_target_: torchmetrics.Accuracy, task: multiclas, num_classes: 3}")]
    assert keys == ["m.task"]


@pytest.mark.parametrize(("name", "value"), [("_partial_", "maybe"), ("_convert_", "alll"), ("_args_", 3)])
def test_hydras_own_keys_are_checked(name, value):
    assert only(net(**{name: value})).key == f"model.{name}"


def test_hydras_own_keys_are_no_arguments():
    assert net(_recursive_=False, _convert_="ALL", _partial_=False) == []


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("depth", "three", "text, where int is meant"),
        ("depth", 2.5, "a float, where int is meant"),
        ("depth", True, "a bool, where int is meant"),
        ("depth", None, "no value, where int is meant"),
        ("depth", [1], "where int is meant"),
        ("depth", {"a": 1}, "a section of keys, where int is meant"),
        ("dropout", "abc", "text, where float is meant"),
        ("dropout", False, "a bool, where float is meant"),
        ("bias", "maybe", "text, where bool is meant"),
        ("bias", 2, "an int, where bool is meant"),
        ("activation", "gleu", "not one of 'relu', 'gelu', 'silu'"),
        ("sizes", 3, "an int, where Sequence[int] is meant"),
        ("sizes", [1, "a"], "where Sequence[int] is meant"),
        ("shape", [1], "a list of 1, where tuple[int, int] is meant"),
        ("shape", [1, "a"], "where tuple[int, int] is meant"),
        ("weights", {"a": "b"}, "where dict[str, float] or null is meant"),
        ("weights", [1], "where dict[str, float] or null is meant"),
        ("path", 3, "where Path or null is meant"),
        ("label", 2024, "an int, where str is meant"),
        ("seed", "x", "text, where int is meant"),
        ("table", 3, "an int, where Mapping[str, int] or null is meant"),
        ("scale", "big", "text, where a number such as 1.0 is meant"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(name, value, said):
    problem = only(net(**{name: value}))
    assert problem.key == f"model.{name}"
    assert said in problem.what


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dropout", 0),
        ("dropout", float("inf")),
        ("bias", 1),
        ("activation", "silu"),
        ("sizes", [1, 2]),
        ("shape", [1, 2]),
        ("weights", None),
        ("weights", {"a": 1}),
        ("path", "/somewhere"),
        ("path", None),
        ("odd", "anything"),
        ("odd", [1]),
        ("seed", None),
        ("head", {"any": "thing"}),
        ("scale", "auto"),
        ("scale", None),
        ("body", {"_target_": "torch.nn.ReLU"}),
        ("dropout", {"_target_": "torch.nn.ReLU"}),
        ("sizes", [1, {"_target_": "torch.nn.ReLU"}]),
        ("sizes", "${oc.decode:'[1,2]'}"),
    ],
)
def test_a_value_that_fits_or_cannot_be_judged_passes(name, value):
    assert net(**{name: value}) == []


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("dropout", "1e-3", "Write 1.0e-3, without quotes: plain YAML reads 1e-3 as text."),
        ("dropout", "0.5", "Write 0.5, without quotes."),
        ("dropout", "inf", "Write .inf, without quotes."),
        ("depth", "3", "Write 3, without quotes."),
        ("depth", 1e3, "Write 1000."),
        ("bias", "yes", "Write true, without quotes."),
        ("path", 3, "Put it in quotes"),
        ("label", 3, "Put it in quotes"),
        ("weights", "None", "Write null, without quotes"),
        ("sizes", 3, "Write a list: [3]."),
        ("activation", "gleu", "Did you mean 'gelu'"),
    ],
)
def test_the_remedy_says_what_to_write(name, value, remedy):
    assert remedy in only(net(**{name: value})).remedy


def test_a_number_that_plain_yaml_reads_as_text_is_caught_and_omegaconf_reads_it_as_a_number():
    text = "{_target_: torch.optim.AdamW, _partial_: true, lr: 1e-3}"
    assert "1.0e-3" in only(check({"o": yaml.safe_load(text)})).remedy
    assert checked(f"o: {text}") == []


def test_text_for_the_learning_rate_of_a_torch_optimizer_is_caught():
    problem = only(checked("o: {_target_: torch.optim.AdamW, _partial_: true, lr: abc}"))
    assert problem.key == "o.lr"


def test_plain_values_are_held_against_a_schema():
    schema = {"seed": int | None, "name": str, "data.batch_size": int, "absent": int}
    assert checked("{seed: 3, name: x, data: {batch_size: 4}}", schema=schema) == []
    assert only(checked("level: true", schema={"level": Literal[1, 2]})).what == "not one of 1, 2"
    problems = checked("{seed: abc, name: 3, data: {batch_size: 4.5}}", schema=schema)
    assert [p.key for p in problems] == ["seed", "name", "data.batch_size"]
