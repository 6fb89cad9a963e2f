from __future__ import annotations

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from stablelit.functional.pacing import NAMES
from stablelit.functional.plateau_gate import PlateauGate
from stablelit.run.experiments import shipped_conf
from stablelit.run.train_job import check_configuration

SHIPPED = sorted(p.stem for p in (shipped_conf() / "pacing").glob("*.yaml"))


def shipped(*overrides):
    with initialize_config_module("stablelit.conf", version_base="1.3"):
        return compose("train", overrides=["+experiment=jets", "callbacks=[default,curriculum]", *overrides])


def built(*overrides):
    return instantiate(shipped(*overrides).callbacks.curriculum, _convert_="all")


def test_every_pacing_has_its_file():
    assert set(SHIPPED) == set(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_every_pacing_can_be_chosen_by_its_name(name):
    curriculum = built(f"pacing={name}")
    assert curriculum.pacing.name == name
    assert curriculum.pacing.value(0.0) == (1.0 if name == "constant" else 0.1)


@pytest.mark.slow
def test_the_ramp_is_linear_where_nothing_is_chosen_and_settings_go_over_the_file():
    assert built().pacing.name == "linear"
    assert built("pacing=root", "callbacks.curriculum.power=3").pacing.power == 3
    assert str(built("pacing=postmortem", "callbacks.curriculum.duration=200ba").clock.ramp.duration) == "200ba"


@pytest.mark.slow
def test_a_gate_can_be_written_down():
    gate = "{_target_:stablelit.functional.plateau_gate.PlateauGate,monitor:val/neg_elbo,patience:1}"
    curriculum = built(f"callbacks.curriculum.gate={gate}")
    check_configuration(shipped(f"callbacks.curriculum.gate={gate}", "pacing=step"))
    assert curriculum.clock.gate == PlateauGate("val/neg_elbo", patience=1)
