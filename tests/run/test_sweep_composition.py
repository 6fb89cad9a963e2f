from __future__ import annotations

import pytest
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from stablelit.run.sweep.composition import JobComposer

from .conftest import CONF

BASE = ("+experiment=tiny",)
JOBS = [
    (*BASE, "seed=3", "model.latent_dim=4"),
    (*BASE, "optimizer=sgd", "optimizer.momentum=0.5", "seed=1"),
    (*BASE, "+model.optimizer=null", "+trainer.min_epochs=1"),
    (*BASE, "~callbacks.doctor", "callbacks.checkpoint.save_top_k=3"),
    (*BASE, "++trainer.max_epochs=7", "data={batch_size: 8}", "callbacks=[history]"),
    ("+experiment=tiny_too", "trainer=cpu"),
]


@pytest.fixture(scope="module")
def sweep():
    with initialize_config_module("stablelit.conf", version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        overrides = [f"hydra.searchpath=[file://{CONF}]", *BASE]
        config = hydra.compose_config("train", overrides, run_mode=RunMode.MULTIRUN, from_shell=False)
        yield hydra.config_loader, config


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS, ids=lambda job: " ".join(job[1:]))
def test_a_job_is_composed_as_hydra_itself_composes_it(sweep, job):
    loader, config = sweep
    mine = JobComposer(loader, config).compose(job)
    theirs = loader.load_sweep_config(config, list(job))
    plain = OmegaConf.to_container(theirs, resolve=False)
    del plain["hydra"]
    assert mine.problems == []
    assert OmegaConf.to_container(mine.config, resolve=False) == {**plain, "run_dir": "runs"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.latent_dimm=3", ["model.latent_dimm=3", "+model.latent_dimm"]),
        ("model_summary.depth=3", ["model_summary"]),
        ("callbacks.ema.half_life=1st", ["there is no callbacks.ema", "checkpoint"]),
        ("optimizer=sgdd", ["sgdd", "sgd"]),
        ("~callbacks.nobody", ["does not exist"]),
        ("+seed=3", ["already"]),
    ],
)
def test_what_hydra_would_refuse_is_a_problem_with_a_remedy(sweep, override, told):
    problems = JobComposer(*sweep).compose((*BASE, override)).problems
    assert problems
    text = "\n".join(map(str, problems))
    assert all(part in text for part in told), text


@pytest.mark.slow
def test_jobs_that_are_made_of_the_same_files_share_no_state(sweep):
    composer = JobComposer(*sweep)
    first = composer.compose((*BASE, "model.latent_dim=9")).config
    second = composer.compose(BASE).config
    assert (first.model.latent_dim, second.model.latent_dim) == (9, 2)
