from __future__ import annotations

import pytest

from stablelit.check import main as check
from stablelit.run.misspelt import forced


def complaint(capsys, *overrides):
    assert check(["+experiment=jets", *overrides]) == 2
    return capsys.readouterr().err


def test_all_misspelt_keys_are_listed_with_the_nearest_right_names(capsys):
    text = complaint(
        capsys, "model.latent_dimm=8", "trainer.max_epoch=3", "model.learning_rate=abc", "dat.path=x", "seeed=3"
    )
    assert "5 problems" in text
    for near in ("latent_dim", "max_epochs", "data", "seed"):
        assert f"Did you mean '{near}'" in text
    assert "model.learning_rate='abc'" in text
    assert "+model.latent_dimm" not in text


@pytest.mark.slow
def test_a_sweep_over_a_misspelt_key_is_told_too(capsys):
    assert "Did you mean 'latent_dim'" in complaint(capsys, "-m", "model.latent_dimm=4,8")


@pytest.mark.slow
@pytest.mark.parametrize("key", ["objective.metrc=x", "+objective.metrc=x", "+tune.lr=true"])
def test_plain_sections_are_read_too(key, capsys):
    assert "unknown key" in complaint(capsys, key)


@pytest.mark.slow
def test_a_key_that_nothing_reads_is_told_and_a_variable_is_not(capsys):
    assert "Nothing reads this key" in complaint(capsys, "+my_width=8")
    assert check(["+experiment=jets", "+my_width=8", "model.latent_dim=${my_width}"]) == 0


@pytest.mark.slow
def test_a_section_without_a_signature_says_which_keys_it_has(capsys):
    text = complaint(capsys, "model.decoder.n_component=3", "model.latent_dimm=8", "model.decoder.n_components=9")
    assert "2 problems" in text
    assert "model.decoder.n_component=3: model.decoder has no key 'n_component'" in text
    assert "Did you mean 'n_components'" in text
    assert "hardest_hidden" in text
    # what was added on purpose is left to the decoder
    assert check(["+experiment=jets", "+model.decoder.n_component=3"]) == 0


def test_groups_additions_and_hydras_own_keys_are_not_forced():
    given = ["+experiment=jets", "data=jets", "~callbacks.figures", "hydra.sweep.dir=x", "++a=1", "seed=1"]
    assert forced(given) == [*given[:-1], "++seed=1"]
