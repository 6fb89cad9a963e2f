"""Trains one callback in one way of the matrix, and tells what the run came to."""

from __future__ import annotations

import importlib
import io
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from tests.contract import modules
from tests.contract.as_configuration import as_configuration
from tests.contract.matrix import COLUMNS
from tests.contract.registry import SETTINGS

EPOCHS = 2
RATE = 0.02
SCALARS = ("kl_weight", "other_weight", "temperature", "difficulty")


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        logged: values by step and name.
        state: the callback's, as `torch.load(weights_only=True)` gives it.
        path: how far the weights went, step by step: a bound on what an error of their gradients can come to.
        files: what the run left.
        part: what `PartWriter` wrote of the encoder.
        traced: graphs that were compiled.
    """

    weights: dict[str, torch.Tensor]
    scalars: dict[str, float]
    logged: dict[tuple[int, str], float]
    state: Any
    steps: int
    path: float
    files: set[str]
    part: dict[str, torch.Tensor]
    sharded: bool = False
    traced: int = 0

    @property
    def names(self) -> set[str]:
        return {name for _, name in self.logged}


class Layer(torch.nn.Linear):
    """A network with a forward of its own: torch compiles none of its own layers in place."""

    def forward(self, x):
        return super().forward(x)


def _left_in(directory: Path) -> set[str]:
    """The files below it; a checkpoint of shards, which is a folder, counts as the file of its name."""
    found = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return {str(next((p for p in (path, *path.parents) if p.suffix == ".ckpt"), path)) for path in found}


@lru_cache
def classes(name: str) -> dict[str, type]:
    """The contract's modules, whose noise is the same for every row and whose optimizers forget nothing."""
    known = modules.module_classes(name)

    def of(base: type, several: bool) -> type:
        class Alike(base):
            def __init__(self):
                super().__init__()
                self.encoder, self.decoder = Layer(6, 6), Layer(3, 6)

            def terms(self, x):
                mean, logvar = self.encoder(x).chunk(2, -1)
                kl_per_dim = 0.5 * (mean**2 + logvar.exp() - 1 - logvar)
                noise = torch.tensor([0.3, -0.5, 0.7]).to(mean).expand_as(mean)
                z = mean + self.difficulty * noise * (0.5 * logvar).exp()
                return 0.5 * ((self.decoder(z) - x) ** 2).sum(-1), kl_per_dim

            def optimizers(self, *args, **kwargs):
                found = super().optimizers(*args, **kwargs)
                return found if isinstance(found, list) else [found]

            def configure_optimizers(self):
                parts = [self.encoder, self.decoder] if several else [self]
                return [torch.optim.SGD(part.parameters(), RATE) for part in parts]

        return Alike

    automatic = of(known["automatic"], False)

    class Sharded(automatic):
        def configure_model(self):
            from torch.distributed.fsdp import fully_shard

            for part in (self.encoder, self.decoder):
                fully_shard(part, mesh=self.device_mesh["data_parallel"])

        def edge_scores(self):
            # behind an evaluation the parameters may still be whole, and no rank misses the others
            self.encoder.reshard()
            return whole(super().edge_scores())

        def figures(self):
            self.decoder.reshard()
            whole(self.decoder.weight)
            return super().figures()

    kinds = {"automatic": automatic, "manual": of(known["manual"], False), "several": of(known["manual"], True)}
    return {**kinds, "sharded": Sharded}


class Steps:
    """Measures the path of the weights; a callback of neither name, by its methods alone."""

    def __new__(cls, name: str) -> Any:
        base = modules.framework(name).Callback

        class Measured(base):
            path, before, sharded = 0.0, None, False

            def on_train_batch_end(self, trainer, pl_module, *args):
                self.sharded |= any(hasattr(p, "full_tensor") for p in pl_module.parameters())
                now = torch.cat([whole(p).float().flatten() for p in pl_module.parameters()])
                if self.before is not None:
                    self.path += float((now - self.before).abs().max())
                self.before = now

        return Measured()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor or all parts of one."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).clone()


def through_a_file(state: Any) -> Any:
    """The state as a checkpoint gives it back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def outcome(directory: Path, trainer: Any, module: Any, callback: Any, steps: Any, traced: int = 0) -> Outcome:
    part = directory / "encoder.pt"
    written = torch.load(part, weights_only=True) if part.exists() else {"state_dict": {}}
    return Outcome(
        {name.replace("_orig_mod.", ""): whole(p).float() for name, p in module.named_parameters()},
        {name: float(getattr(module, name)) for name in SCALARS},
        {(step, name): float(value) for step, line in trainer.logger.lines for name, value in line.items()},
        through_a_file(callback.state_dict()),
        trainer.global_step,
        steps.path,
        _left_in(directory),
        {f"encoder.{name}": value.float() for name, value in written["state_dict"].items()},
        steps.sharded,
        traced,
    )


def run(key: str, column: str, directory: Path) -> Outcome:
    """One cell, in this process."""
    how, callback = COLUMNS[column], SETTINGS[key].make()
    name = modules.NAMES[1] if column == "pytorch_lightning" else modules.NAMES[0]
    module, batch, steps = made(name, how.kind), modules.BATCH_SIZE, Steps(name)
    arguments = {"max_epochs": EPOCHS, **how.trainer}
    if column == "fp16-scaler":
        from lightning.pytorch.plugins.precision import MixedPrecision

        # precision="16-mixed" on a CPU silently becomes bf16: only the plugin has the scaler
        arguments["plugins"] = [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**8))]
    if column == "accumulation":
        batch //= 2
    if column == "LightningCLI":
        trainer = command_line(key, directory, type(module))
        callback = next(c for c in trainer.callbacks if type(c) is type(callback))
        trainer.callbacks.append(steps)
    else:
        trainer = modules.make_trainer(directory, [callback, steps], name, **arguments)
    fitted, traced = compiled(module, column)
    trainer.fit(fitted, batches_of(batch), modules.val_loader())
    return outcome(directory, trainer, module, callback, steps, len(traced))


def batches_of(size: int) -> Any:
    data = torch.utils.data.TensorDataset(modules.samples())
    return modules.ShuffleDataLoader(data, sampler=modules.ShuffleSampler(data), batch_size=size)


def compiled(module: Any, column: str) -> tuple[Any, list[Any]]:
    """What the Trainer is given, and a list that gets every graph that is compiled."""
    traced: list[Any] = []
    if "compile" not in column:
        return module, traced
    # graphs of other cells count against the limit of recompilations, behind which all is eager
    torch._dynamo.reset()

    def backend(graph, inputs):
        traced.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    if column == "compile(module)":
        for name in ("log", "log_dict"):
            setattr(module, name, torch.compiler.disable(getattr(module, name)))
        return torch.compile(module, backend=backend), traced
    for name in ("encoder", "decoder"):
        if column == "compile(net)":
            setattr(module, name, torch.compile(getattr(module, name), backend=backend))
        else:
            getattr(module, name).compile(backend=backend)
    return module, traced


def made(name: str, kind: str) -> Any:
    torch.manual_seed(0)
    return classes(name)[kind]()


def command_line(key: str, directory: Path, kind: type) -> Any:
    """The Trainer that LightningCLI builds around a callback given by its class and arguments."""
    from lightning.pytorch.cli import LightningCLI

    arguments = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": EPOCHS,
        "log_every_n_steps": 1,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "logger": False,
        "default_root_dir": str(directory),
        "enable_progress_bar": key == "progress_bar",
        "callbacks": [as_configuration(SETTINGS[key].make)],
    }
    cli = LightningCLI(
        kind, run=False, save_config_callback=None, seed_everything_default=False, args={"trainer": arguments}
    )
    cli.trainer.logger = modules.memory_logger_class(modules.NAMES[0])(str(directory))
    return cli.trainer


def sharded(key: str, directory: Path) -> Outcome:
    """The cell of the column `dtensor`, on one of two ranks."""
    from lightning.pytorch.plugins.environments import LightningEnvironment

    rank = torch.distributed.get_rank()
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", WORLD_SIZE="2")
    strategies = importlib.import_module("lightning.pytorch.strategies")
    strategy = strategies.ModelParallelStrategy(2, 1, process_group_backend="gloo")
    strategy.cluster_environment = LightningEnvironment()
    callback, steps, module = SETTINGS[key].make(), Steps(modules.NAMES[0]), made(modules.NAMES[0], "sharded")
    trainer = modules.make_trainer(directory, [callback, steps], max_epochs=EPOCHS, devices=2, strategy=strategy)
    trainer.fit(module, batches_of(modules.BATCH_SIZE // 2), modules.val_loader())
    torch.distributed.barrier()  # until rank zero has written
    return outcome(directory, trainer, module, callback, steps)
