"""Small projects as strangers write them: a plain configuration, a LightningModule, loaders, arguments of the Trainer.

None of them knows stablelit. All data are generated, anew for every seed. Every way to get a project wrong is a key of
its configuration with a healthy default, so that a fault is one override, and so is its repair.

    project = build({"project": "table", "lr": 0.1}, seed=0)
    pl.Trainer(**project.trainer).fit(project.module, project.train_loader, project.val_loader)
    project.true_score()    # on validation data that no fault has touched; 1 is perfect, about 0 is nothing learnt
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from benchmarks.doctor_settings import COMMON, Config, optimizer_of, schedule_of, trainer_arguments

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}


@dataclass
class Project:
    """What a person would hand to Lightning, and the validation batches that no fault has touched."""

    module: Stranger
    train_loader: Any
    val_loader: Any
    clean: list[Any]
    trainer: Config = field(default_factory=dict)

    def true_score(self) -> float:
        """In evaluation mode, on clean batches; NaN counts as nothing learnt."""
        self.module.eval()
        with torch.no_grad():
            scores = [float(self.module.score(batch)) for batch in self.clean]
        score = sum(scores) / len(scores)
        return score if math.isfinite(score) else 0.0


class Stranger(pl.LightningModule):
    """The parts that every project has: an encoder, a head, one loss, one score."""

    encoder: nn.Module
    head: nn.Module

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.save_hyperparameters({key: c[key] for key in ("lr", "batch_size", "weight_decay", "optimizer")})

    def loss(self, batch: Any) -> Tensor | dict[str, Tensor]:
        raise NotImplementedError

    def score(self, batch: Any) -> Tensor:
        raise NotImplementedError

    def encode(self, *inputs: Tensor) -> Tensor:
        """The encoder, with the three ways to cut its gradient off, and dropout that nobody switches off."""
        if self.c["encoder"] == "no_grad":
            with torch.no_grad():
                h = self.encoder(*inputs)
        else:
            h = self.encoder(*inputs)
        if self.c["encoder"] == "detached":
            h = h.detach()
        if self.c["dropout_always"]:
            h = nn.functional.dropout(h, self.c["dropout_always"])
        if self.c["pool"] == "batch":
            h = h.mean(0, keepdim=True).expand_as(h)
        return h

    def on_train_epoch_start(self) -> None:
        if self.c["training_mode"] == "eval":
            self.eval()
        elif self.c["training_mode"] == "encoder_eval":
            self.encoder.eval()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("train_loss", loss["loss"] if isinstance(loss, dict) else loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if self.c["validation_mode"] == "train":
            self.train()
        loss = self.loss(batch)
        self.log("val_loss", loss["loss"] if isinstance(loss, dict) else loss)
        self.log("val_score", self.score(batch))

    def parameters_to_train(self) -> Iterator[nn.Parameter]:
        if self.c["optimizer_takes"] == "head":
            return self.head.parameters()
        if self.c["optimizer_takes"] == "stale":
            return copy.deepcopy(self).parameters()
        if self.c["optimizer_takes"] == "trainable":
            return (parameter for parameter in self.parameters() if parameter.requires_grad)
        return self.parameters()

    def configure_optimizers(self) -> Any:
        optimizer = optimizer_of(self.c, self.parameters_to_train())
        factor = schedule_of(self.c)
        if factor is None:
            return optimizer
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class KeepsGradients:
    """Somebody's optimisation of `optimizer_zero_grad`."""

    def optimizer_zero_grad(self, *args: Any) -> None:
        pass


def layers(sizes: Sequence[int], c: Config) -> nn.Sequential:
    """Linear, norm, activation, dropout, as often as there are sizes but one."""
    built: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        built.append(nn.Linear(a, b))
        if c["norm"] == "batch":
            built.append(nn.BatchNorm1d(b, momentum=c["momentum_of_norm"]))
        elif c["norm"] == "layer":
            built.append(nn.LayerNorm(b))
        built.append(ACTIVATIONS[c["activation"]]())
        if c["dropout"]:
            built.append(nn.Dropout(c["dropout"]))
    return nn.Sequential(*built)


def initialise(module: Stranger, c: Config) -> None:
    """default; constant (all weights alike); scaled (all times a number); bias (of hidden layers at `init_scale`)."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if c["init"] == "constant":
                parameter.fill_(c["init_scale"] if parameter.ndim > 1 else 0.0)
            elif c["init"] == "scaled" and parameter.ndim > 1:
                parameter.mul_(c["init_scale"])
            elif c["init"] == "bias" and name.startswith("encoder") and name.endswith("bias"):
                parameter.fill_(c["init_scale"])
    if c["encoder"] == "frozen":
        module.encoder.requires_grad_(False)


class RepeatsItsBatch(Dataset[Any]):
    """An index taken modulo the batch, by mistake."""

    def __init__(self, data: TensorDataset, batch_size: int) -> None:
        self.data, self.batch_size = data, batch_size

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        return self.data[index % self.batch_size]


class Stream(IterableDataset[Any]):
    """Samples in a random order, of no known length."""

    def __init__(self, data: TensorDataset) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Any]:
        return (self.data[int(i)] for i in torch.randperm(len(self.data)))


def loaders_of(
    train: Sequence[Tensor], val: Sequence[Tensor], c: Config, collate: Callable[[Any], Any] | None = None
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    data: Any = TensorDataset(*train)
    if c["repeat_batch"]:
        data = RepeatsItsBatch(data, c["batch_size"])
    if c["stream"]:
        data = Stream(data)
    shuffle = c["shuffle"] and not c["repeat_batch"] and not c["stream"]
    train_loader = DataLoader(
        data, c["batch_size"], shuffle=shuffle, collate_fn=collate, drop_last=c["norm"] == "batch"
    )
    return train_loader, DataLoader(TensorDataset(*val), 256, collate_fn=collate)


def batches_of(tensors: Sequence[Tensor], collate: Callable[[Any], Any] | None = None) -> list[Any]:
    return list(DataLoader(TensorDataset(*tensors), 256, collate_fn=collate))


Maker = Callable[[Config], Project]
MAKERS: dict[str, tuple[Maker, Config]] = {}


def project(name: str, **own: Any) -> Callable[[Maker], Maker]:
    """Enters a project, with what its configuration has beyond `COMMON`."""

    def enter(maker: Maker) -> Maker:
        MAKERS[name] = (maker, own)
        return maker

    return enter


def full_config(overrides: Config) -> Config:
    """With every default; a key that the project does not have is an error."""
    from benchmarks import doctor_generative, doctor_graphs, doctor_sequences, doctor_tables  # noqa: F401

    _, own = MAKERS[overrides["project"]]
    known = COMMON | own | {"project": ""}
    if unknown := set(overrides) - set(known):
        raise KeyError(f"{overrides['project']} has no {sorted(unknown)}")
    return known | overrides


def build(overrides: Config, seed: int) -> Project:
    """The project of a configuration; weights and data are those of the seed."""
    c = full_config(overrides)
    torch.manual_seed(seed)
    made = MAKERS[c["project"]][0](c)
    if not c["zero_grad"]:
        kind = type(made.module)
        made.module.__class__ = type(kind.__name__, (KeepsGradients, kind), {})
    made.trainer = trainer_arguments(c) | made.trainer
    return made
