"""The trainers and launchers that are shipped: each is right as configured, and one that this machine lacks is told."""

from __future__ import annotations

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
from omegaconf import OmegaConf

from stablelit.errors import ConfigurationError
from stablelit.run.build import build_trainer
from stablelit.run.experiments import shipped_conf
from stablelit.run.train_job import check_configuration

TRAINERS = sorted(path.stem for path in (shipped_conf() / "trainer").glob("*.yaml"))
ON_GPUS = ("gpu", "ddp", "fsdp", "multi_node")


@pytest.fixture(scope="module")
def composed():
    with initialize_config_module("stablelit.conf", version_base="1.3"):
        yield lambda trainer: compose("train", ["+experiment=jets", f"trainer={trainer}", "logger=none"])


def test_every_trainer_of_a_cluster_is_there():
    assert {"cpu", "ddp_cpu", *ON_GPUS} <= set(TRAINERS)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainer_is_right_as_configured(name, composed):
    check_configuration(composed(name))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_processes_on_the_cpu_are_forked_so_that_a_sweep_is_not_repeated(composed, tmp_path):
    config = composed("ddp_cpu")
    config.callbacks = None
    trainer = build_trainer(config, tmp_path, [])
    assert trainer.num_devices == 2
    assert trainer.strategy.launcher._start_method == "fork"


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="what is told where there is no GPU")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ON_GPUS)
def test_a_trainer_for_gpus_says_that_there_are_none(name, composed, tmp_path):
    config = composed(name)
    config.callbacks = None
    with pytest.raises(ConfigurationError, match=r"trainer.accelerator=gpu.*no GPU.*trainer=cpu"):
        build_trainer(config, tmp_path, [])


@pytest.mark.slow
def test_gradients_of_a_model_in_parts_are_not_clipped_by_their_norm(composed):
    # Lightning refuses it, in the first step
    assert compose("train", ["+experiment=sketches", "trainer=fsdp"]).trainer.gradient_clip_val is None


def test_the_launcher_for_slurm_changes_what_submitit_has_and_nothing_else():
    ours = OmegaConf.load(shipped_conf() / "hydra/launcher/slurm.yaml")
    assert set(ours) - {"defaults"} <= set(SlurmQueueConf.__dataclass_fields__)
