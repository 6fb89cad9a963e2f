from __future__ import annotations

import re

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from lightning.pytorch import Trainer
from PIL import Image

from stablelit.families.proteins import decode
from stablelit.families.proteins.fasta_writer import FastaRecord, write_fasta
from stablelit.run.build import build_trainer
from stablelit.run.experiments import find_experiments, shipped_conf
from stablelit.run.train_job import check_configuration
from stablelit.train import main

EXPERIMENTS = [e.name for e in find_experiments()]
DEBUG = sorted(p.stem for p in (shipped_conf() / "debug").glob("*.yaml"))


def names(group: str) -> list[str]:
    return sorted(p.stem for p in (shipped_conf() / group).glob("*.yaml"))


# generated data are as many as one batch takes
FEW = {"jets": ["data.n_jets=1800"]}


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    """Where generated events are kept: their first user makes them, and none of them the user's own cache."""
    return tmp_path_factory.mktemp("generated")


def characters(folder):
    """Five alphabets of four characters by six hands, in Omniglot's layout."""
    rng = np.random.default_rng(0)
    for alphabet in ("Aa", "Bb", "Cc", "Dd", "Ee"):
        for character in range(1, 5):
            place = folder / "images_background" / alphabet / f"character{character:02d}"
            place.mkdir(parents=True)
            for hand in range(1, 7):
                page = np.full((105, 105), True)
                x, y = rng.integers(10, 50, 2)
                page[y : y + 8 * character, x : x + 40] = False
                Image.fromarray(page).save(place / f"{character:04d}_{hand:02d}.png")
    return folder / "images_background"


@pytest.fixture
def recipe(request, tmp_path, generated):
    """The command line of an experiment, with a file of the user's where it is for one, and little data."""
    if request.param.startswith("neutrinos"):
        # four files of events, two of them to train on
        few = ["data.n_events=1600", "data.batch_size=8"]
        return [f"+experiment={request.param}", f"data.cache_dir={generated}", *few]
    if request.param == "proteins_uniref50":
        # the model is made for a GPU, the data for a prepared folder
        path = tmp_path / "some.fasta"
        codes = np.random.default_rng(0).integers(20, size=(300, 30))
        write_fasta(path, (FastaRecord(f"UniRef50_{i}", decode(one)) for i, one in enumerate(codes)))
        small = ["model/network=ddit_tiny", "data.max_tokens=600", "data.train=0.8", "data.val=0.1", "data.test=0.1"]
        small += ["callbacks.sample_writer.n=2", "data.max_length=64", f"++data.cache_dir={tmp_path}"]
        return [f"+experiment={request.param}", f"data.path={path}", *small]
    if request.param.startswith("sketches"):
        few = ["data.n_classes=40", "data.per_class=8", "data.size=16", "data.batch_size=16"]
        few += ["data.n_episodes=2", "data.n_val_episodes=4", "data.n_test_episodes=4"]
        if request.param != "sketches_fewshot":
            few.append("model.few_shot=[[3,1]]")
        if request.param == "sketches_omniglot":
            few.append(f"data.path={characters(tmp_path)}")
        return [f"+experiment={request.param}", *few]
    if request.param != "causal_sachs":
        return [f"+experiment={request.param}", *FEW.get(request.param, [])]
    cells = np.random.default_rng(0).lognormal(size=(60, 3))
    lines = ["raf\tmek\terk", *("\t".join(f"{value:.4f}" for value in cell) for cell in cells)]
    path = tmp_path / "cells.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [f"+experiment={request.param}", f"data.path={path}"]


def shipped(*overrides: str):
    with initialize_config_module("stablelit.conf", version_base="1.3"):
        return compose("train", overrides=list(overrides))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", EXPERIMENTS, indirect=True)
def test_every_experiment_is_free_of_mistakes(recipe):
    check_configuration(shipped(*recipe))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_says_what_it_is(experiment):
    assert next(e for e in find_experiments() if e.name == experiment).about.endswith(".")


# what the trainings of post-mortems are warned of in their first step; one batch is shorter than a warm-up in epochs
COUNT_TERM = {"constant-loss-term", "warmup-never-finishes"}
# and of a graph that stands beside its model
FINDINGS = {
    "sketches_accumulated": {"accumulation-adds-no-negatives"},
    "jets_before": COUNT_TERM,
    "jets_after": COUNT_TERM,
    "causal_before": {"gradient-does-not-reach"},
    "causal_after": {"gradient-does-not-reach"},
    # equal variances are what its data have and real units have not
    "causal_er2": {"scale-dependent"},
    "neutrinos_before": {"cache-below-window"},
    "neutrinos_after": {"train-not-shuffled"},
    "proteins_before": {"noise-leaves-residues"},
    "proteins_after": {"noise-leaves-residues"},
}


@pytest.mark.filterwarnings("default::stablelit.findings.FindingWarning")
@pytest.mark.parametrize(
    ("recipe", "experiment"),
    # one of each family here, all of them where there is more time
    [pytest.param(e, e, marks=[pytest.mark.slow] if "_" in e else []) for e in EXPERIMENTS],
    indirect=["recipe"],
)
def test_every_experiment_runs_one_batch_and_is_warned_of_what_is_known(recipe, experiment, capfd):
    arguments = ["trainer.fast_dev_run=true", "trainer=cpu", "model_summary=null"]
    assert main([*recipe, *arguments]) == 0
    printed = "\n".join(capfd.readouterr())
    assert set(re.findall(r"\[(?:warning|critical)\] ([a-z-]+):", printed)) == FINDINGS.get(experiment, set())


@pytest.mark.slow
@pytest.mark.parametrize("debug", DEBUG)
def test_every_debug_file_fits_an_experiment(debug):
    check_configuration(shipped("+experiment=jets", f"+debug={debug}"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "name"),
    [(g, n) for g in ("trainer", "optimizer", "lr_schedule", "logger", "callbacks") for n in names(g)],
)
def test_every_file_of_a_group_is_free_of_mistakes(group, name):
    if (group, name) == ("logger", "wandb"):
        pytest.importorskip("wandb", reason="wandb is an optional dependency: stablelit[wandb]")
    chosen = f"[default,{name}]" if group == "callbacks" and name != "none" else name
    check_configuration(shipped("+experiment=jets", f"{group}={chosen}"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpu", "ddp_cpu", "default"])  # those for GPUs: tests/run/test_trainer_group.py
def test_every_trainer_is_a_trainer(name, tmp_path):
    config = shipped("+experiment=jets", f"trainer={name}", f"run_dir='{tmp_path}'")
    assert isinstance(build_trainer(config, tmp_path, []), Trainer)


@pytest.mark.slow
def test_an_averaging_callback_comes_after_those_that_look_at_the_model(tmp_path):
    config = shipped("+experiment=jets", "callbacks=[ema,default]", f"run_dir='{tmp_path}'")
    order = [type(c).__name__ for c in build_trainer(config, tmp_path, []).callbacks]
    assert order.index("EMACallback") > order.index("HistoryWriter")
    assert order.index("EMACallback") < order.index("ModelCheckpoint")
