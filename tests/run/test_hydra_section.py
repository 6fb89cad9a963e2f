from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from stablelit.check import main as check
from stablelit.errors import ConfigurationError
from stablelit.run.hydra_section import refuse_untrusted
from stablelit.train import main as train

RECIPE = """\
# @package _global_
defaults: [/experiment/jets]
hydra: {section}
"""
SHELL = "torch.utils.collect_env.run"
EVIL = {
    "callbacks": f"{{callbacks: {{x: {{_target_: {SHELL}, command: touch made}}}}}}",
    "handler": f'{{job_logging: {{handlers: {{x: {{"()": {SHELL}, command: touch made}}}}}}}}',
    "class": f"{{job_logging: {{handlers: {{x: {{class: {SHELL}, command: touch made}}}}}}}}",
    "re-export": "{callbacks: {x: {_target_: hydra._internal.core_plugins.basic_launcher.configure_log}}}",
    "instantiate": "{callbacks: {x: {_target_: hydra._internal.instantiate._instantiate2.instantiate}}}",
    "fileConfig": '{job_logging: {handlers: {x: {"()": logging.config.fileConfig, fname: evil.ini}}}}',
    "launcher": f"{{launcher: {{_target_: {SHELL}}}}}",
    "ext": '{job_logging: {handlers: {x: {class: logging.StreamHandler, stream: "ext://antigravity.x"}}}}',
    "environment": "{job: {env_set: {LD_PRELOAD: evil.so}}}",
}


@pytest.mark.parametrize("section", EVIL.values(), ids=EVIL)
def test_what_hydra_would_call_is_refused_by_the_key_that_names_it(section):
    with pytest.raises(ConfigurationError, match="^hydra[.]"):
        refuse_untrusted(OmegaConf.create(f"hydra: {section}"))


# one section of each kind of call and of the variables: the doors look at all of them alike, at the same place
AT_EVERY_DOOR = {("run", "callbacks"), ("run", "handler"), ("run", "environment"), ("sweep", "launcher")}


@pytest.mark.parametrize(
    ("sweep", "section"),
    [
        pytest.param(
            flags, section, id=f"{how}-{kind}", marks=[] if (how, kind) in AT_EVERY_DOOR else [pytest.mark.slow]
        )
        for how, flags in (("run", []), ("sweep", ["-m"]))
        for kind, section in EVIL.items()
    ],
)
def test_a_strangers_recipe_cannot_have_hydra_call_anything(section, sweep, tmp_path, capsys):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "theirs.yaml").write_text(RECIPE.format(section=section))
    line = ["--config-dir", str(tmp_path / "conf"), *sweep, "+experiment=theirs"]
    for door in (check, train):
        assert door(line) == 2
        assert "ConfigurationError: hydra." in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "section",
    [
        {"callbacks": {"x": {"_target_": "stablelit.run.sweep.callback.SweepCallback"}}},
        {"callbacks": {"x": {"_target_": "hydra.experimental.callbacks.LogJobReturnCallback"}}},
        {"launcher": {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}},
        {"job_logging": {"handlers": {"x": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}}}},
    ],
)
def test_hydras_own_classes_and_loggings_are_let_through(section):
    refuse_untrusted(OmegaConf.create({"hydra": section}))


def test_the_command_line_can_allow_more(monkeypatch):
    config = OmegaConf.create({"hydra": {"callbacks": {"x": {"_target_": SHELL}}}})
    with pytest.raises(ConfigurationError, match="allow_targets="):
        refuse_untrusted(config)
    monkeypatch.setenv("STABLELIT_ALLOW_TARGETS", f'["{SHELL}"]')
    refuse_untrusted(config)
