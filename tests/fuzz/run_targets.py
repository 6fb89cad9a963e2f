"""What the doors read of a run's directory and of a command line, up to where something would be built."""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch
import urllib3.util.connection  # noqa: F401  a target may import it, and it binds a socket to see if there is IPv6
from omegaconf import DictConfig, OmegaConf
from torch import nn

from stablelit.errors import ConfigurationError
from stablelit.families.sketches.pretrained import load_encoder
from stablelit.run.check import check
from stablelit.run.checkpoint import read_checkpoint
from stablelit.run.command_line import CommandLine
from stablelit.run.compose import compose_saved_run, read_command
from stablelit.run.door import users_mistake
from stablelit.run.hydra_section import refuse_untrusted
from stablelit.run.misspelt import composer, telling_misspelt_keys
from stablelit.run.saved_yaml import check_yaml
from stablelit.run.train_job import check_configuration
from stablelit.run.weights import read_weights_record
from tests.fuzz.mutators import BYTES, JSON, YAML, Mutator, inserting, within_zip
from tests.fuzz.target import Target, one_file

_CONFIG = b"""name: tiny
seed: 0
objective: {metric: val/loss, mode: min}
model: {_target_: torch.nn.Linear, in_features: 3, out_features: '${width}'}
width: 2
optimizer: {_target_: torch.optim.AdamW, lr: 1e-3, betas: [0.9, 0.99]}
lr_schedule: {_target_: stablelit.optim.warmup_schedule, warmup: '0.1', _partial_: true}
trainer: {_target_: lightning.pytorch.Trainer, max_epochs: 2, accelerator: cpu}
callbacks:
  stop: {_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/loss}
  print: {_target_: stablelit.callbacks.EpochPrinter}
allow_targets: []
"""
_SAVED = b"defaults:\n  - run_settings\n  - override hydra/job_logging: stdout\n  - _self_\n\n" + _CONFIG
_COMMAND = b"config_name: train\nconfig_dir: null\noverrides:\n- +experiment=causal\n- trainer.max_epochs=1\n- seed=2\n"
_RECORD = b'{"checkpoint": "/runs/a/checkpoints/best.ckpt", "bytes": 3, "sha256": "ab", "step": 1, "epoch": 0}\n'
_TARGETS = (
    *(
        "os.system",
        "torch.utils.collect_env.run",
        "builtins.eval",
        "subprocess.Popen",
        "stablelit.predict.main",
        "torch.load",
    ),
    *(
        "hydra.utils.call",
        "torch.hub.load",
        "torch_geometric.datasets.Planetoid",
        "a.b",
        "torch.nn.Linear",
        "pathlib.Path",
    ),
    *(
        "stablelit.families.proteins.fasta_writer.write_fasta",
        "torch",
        "",
        "torch.nn.Module.load_state_dict",
        "..",
        "this.s",
    ),
)
_YAML_OF_HYDRA = tuple(
    [f"{{_target_: {name}, _args_: ['touch acted']}}" for name in _TARGETS]
    + [
        "_partial_: true",
        "_partial_: 3",
        "_recursive_: x",
        "_convert_: al",
        "_args_: {a: b}",
        "_target_: [a]",
        "_target_:",
    ]
    + [
        "${width}",
        "${a}",
        "${seed}",
        "${oc.env:HOME}",
        "${oc.decode:'[1'}",
        "${oc.create:{a: b}}",
        "${hydra:run.dir}",
        "${${seed}}",
    ]
    + [
        "'${model}'",
        "${model.out_features}",
        "${..seed}",
        "???",
        "allow_targets: [os.system]",
        "hydra: {run: {dir: x}}",
    ]
    + ["hydra: {callbacks: {x: {_target_: os.system}}}", "hydra: {job: {env_set: {LD_PRELOAD: x}}}", "hydra: 3", "~"]
)
_WORDS = (
    *(
        "+experiment=causal",
        "+experiment=jets",
        "seed=3",
        "model.lr=1e-3",
        "+x={a:1,b:[2]}",
        "++a.b.c=d",
        "~callbacks",
        "-m",
    ),
    *(
        "trainer.max_epochs=2",
        "data=causal",
        "callbacks@a=b",
        "model=null",
        "seed=[1,2]",
        "seed=1,2",
        "seed=range(3)",
        "a==b",
    ),
    *(
        "model._target_=os.system",
        "callbacks.x={_target_:torch.utils.collect_env.run,command:ls}",
        "allow_targets=[os.system]",
    ),
    *(
        "hydra.run.dir=x",
        "hydra.callbacks.x._target_=os.system",
        "hydra.job.env_set.A=b",
        "'a b'=c",
        "a='",
        "a=\\",
        "${x}=3",
    ),
    *(
        "+hydra.x=1",
        "--config-name",
        "--config-dir=/nowhere",
        "--cfg",
        "job",
        "-",
        "--",
        "=",
        "a=${b}",
        "seed=${seed}",
        "x" * 500,
    ),
    *(
        "resume=null",
        "run_dir=x",
        "name=../x",
        "name='\x1b[31m'",
        "\0",
        "seed=\0",
        "a=glob(*)",
        "a=choice(1,2)",
        "+a=" + "[" * 200,
    ),
)


def is_mistake(error: BaseException) -> bool:
    """Whether a door would tell it as a mistake, without a traceback."""
    return users_mistake(error) is not None


def _check_config(path: Path) -> object:
    check_yaml(path)
    config = OmegaConf.load(path)
    if not isinstance(config, DictConfig):
        raise ConfigurationError("a list is no configuration")
    return check(config, provided={"lr_schedule": {"optimizer", "total_steps"}, "optimizer": {"params"}})


def _compose(path: Path) -> object:
    config = compose_saved_run(path.parent, [])
    refuse_untrusted(config)
    check_configuration(config)
    return config


def _command_line(path: Path) -> object:
    line = CommandLine.parse(path.read_text(encoding="utf-8", errors="replace").split("\n"))
    line.ordered()
    if line.only_shows:
        return None
    compose_with, overrides = composer(line)
    with telling_misspelt_keys(compose_with, overrides):
        config = compose_with(line.ordered().overrides)
    refuse_untrusted(config)
    check_configuration(config)
    return config


def _checkpoint(folder: Path) -> list[Path]:
    content = {
        "state_dict": nn.Linear(3, 2).state_dict(),
        "epoch": 1,
        "loops": {"fit_loop": {"epoch_progress": {"current": {"processed": 1}}}},
        "hyper_parameters": {"lr": 0.1, "layers": [1, 2]},
        "pytorch-lightning_version": "2.6.6",
    }
    torch.save(content, folder / "a.ckpt")
    torch.save(content, folder / "b.ckpt", _use_new_zipfile_serialization=False)
    return [folder / "a.ckpt", folder / "b.ckpt"]


def _encoder(folder: Path) -> list[Path]:
    torch.save({"state_dict": nn.Linear(3, 2).state_dict()}, folder / "encoder.pt")
    return [folder / "encoder.pt"]


def _another_word(data: bytes, random: Random) -> bytes:
    lines = data.decode("utf-8", "replace").split("\n")
    lines.insert(random.randrange(len(lines) + 1), random.choice(_WORDS))
    return "\n".join(lines).encode("utf-8", "replace")


_LINES: tuple[Mutator, ...] = (*[_another_word] * 6, *YAML)
_CONFIGS: tuple[Mutator, ...] = (*[inserting(_YAML_OF_HYDRA)] * 6, *YAML)

TARGETS = (
    Target("checkpoint", _checkpoint, read_checkpoint, within_zip(BYTES)),
    Target("encoder", _encoder, lambda p: load_encoder(nn.Linear(3, 2), p), within_zip(BYTES), quick=20),
    Target("weights-record", one_file("weights.json", _RECORD), lambda p: read_weights_record(p.parent), JSON),
    Target("overrides", one_file("overrides.yaml", _COMMAND), lambda p: read_command(p.parent), YAML, 35, is_mistake),
    Target("config-check", one_file("a.yaml", _CONFIG), _check_config, _CONFIGS, 25, is_mistake),
    Target("config-saved", one_file("config.yaml", _SAVED), _compose, _CONFIGS, 4, is_mistake, 2.0),
    Target(
        "command-line", one_file("line.txt", b"+experiment=causal\nseed=3"), _command_line, _LINES, 1, is_mistake, 3.0
    ),
)
