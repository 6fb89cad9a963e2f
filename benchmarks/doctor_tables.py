"""Projects on rows and pictures: classes from a table or from pictures, a number, a map of points."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor_projects import (
    Project,
    Stranger,
    batches_of,
    initialise,
    layers,
    loaders_of,
    project,
)
from benchmarks.doctor_settings import Config

FAULTS_OF_ROWS: Config = {
    "input_scale": 1.0,
    "input_offset": 0.0,
    "one_feature_scale": 1.0,
    "bad_rows": 0.0,
    "input_constant": False,
    "sort_rows": False,
    "labels_shuffled": False,
    "missing_class": None,
    "target_scale": 1.0,
    "target_offset": 0.0,
    "bad_targets": 0.0,
    "validation_overlap": 0.0,
    "validation_scale": 1.0,
    "validation_offset": 0.0,
}


def split_and_spoil(x: Tensor, y: Tensor, c: Config) -> tuple[Any, Any, list[Any]]:
    """Loaders of training and validation, and clean validation batches."""
    x = x * c["input_scale"] + c["input_offset"]
    if c["one_feature_scale"] != 1.0:
        x[:, 0] *= c["one_feature_scale"]
    if y.is_floating_point():
        y = y * c["target_scale"] + c["target_offset"]
    if c["input_constant"]:
        x = x[:1].expand_as(x).clone()
    n = c["n_train"]
    train_x, train_y, val_x, val_y = x[:n].clone(), y[:n].clone(), x[n:].clone(), y[n:].clone()
    clean = batches_of((val_x, val_y))
    if c["bad_rows"]:
        train_x[torch.rand(n) < c["bad_rows"]] = float("nan")
    if c["bad_targets"]:
        train_y[torch.rand(n) < c["bad_targets"]] = float("nan")
    if c["labels_shuffled"]:
        train_y, val_y = train_y[torch.randperm(n)], val_y[torch.randperm(len(val_y))]
    if c["missing_class"] is not None:
        kept = train_y != c["missing_class"]
        train_x, train_y = train_x[kept], train_y[kept]
    if c["sort_rows"]:
        order = train_y.flatten(1).sum(1).argsort(stable=True) if train_y.ndim > 1 else train_y.argsort(stable=True)
        train_x, train_y = train_x[order], train_y[order]
    if taken := int(c["validation_overlap"] * len(val_x)):
        val_x[:taken], val_y[:taken] = train_x[:taken], train_y[:taken]
    val_x = val_x * c["validation_scale"] + c["validation_offset"]
    settings = c | {"shuffle": c["shuffle"] and not c["sort_rows"]}
    return (*loaders_of((train_x, train_y), (val_x, val_y), settings), clean)


class Classifier(Stranger):
    """Cross entropy of classes, or binary cross entropy of one class; `output` is what is done to the logits."""

    def logits(self, x: Tensor) -> Tensor:
        z = self.head(self.encode(x))
        return {
            "logits": lambda: z,
            "softmax": lambda: z.softmax(-1),
            "log_softmax": lambda: z.log_softmax(-1),
            "sigmoid": lambda: z.sigmoid(),
            "relu": lambda: z.relu(),
        }[self.c["output"]]()

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        z = self.logits(x)
        if self.c["classes"] == 2:
            return F.binary_cross_entropy_with_logits(z, y.float().unsqueeze(-1), reduction=self.c["reduction"])
        if self.c["output"] == "log_softmax":
            return F.nll_loss(z, y, reduction=self.c["reduction"])
        return F.cross_entropy(z, y, reduction=self.c["reduction"])

    def score(self, batch: Any) -> Tensor:
        """Accuracy above that of the most frequent class; balanced where classes are not."""
        x, y = batch
        z = self.logits(x)
        right = ((z[:, 0] > 0).long() if self.c["classes"] == 2 else z.argmax(-1)) == y
        chance = 1 / self.c["classes"]
        balanced = torch.stack([right[y == k].float().mean() for k in y.unique()]).mean()
        return (balanced - chance) / (1 - chance)


OF_CLASSES: Config = {"classes": 5, "output": "logits", "reduction": "mean", "label_noise": 0.0, "rare": 0.0}


def noisy(y: Tensor, c: Config) -> Tensor:
    """A share of the labels of training drawn anew: noise, from which one can learn."""
    wrong = torch.rand(len(y)) < c["label_noise"]
    wrong[c["n_train"] :] = False
    return torch.where(wrong, torch.randint(c["classes"], y.shape), y)


@project("table", features=16, spread=1.0, counts=False, **OF_CLASSES, **FAULTS_OF_ROWS)
def table(c: Config) -> Project:
    """Two clusters a class, of unit variance; `spread` is the distance of their centres."""
    n, k = c["n_train"] + c["n_val"], c["classes"]
    y = torch.randint(k, (n,))
    if c["rare"]:
        y = (torch.rand(n) < c["rare"]).long()
    centres = c["spread"] * torch.randn(k, 2, c["features"])
    x = centres[y, torch.randint(2, (n,))] + torch.randn(n, c["features"])
    if c["counts"]:
        x = torch.poisson(x.exp().clamp(max=30))
    module = Classifier(c)
    module.encoder = layers([c["features"]] + [c["width"]] * c["depth"], c)
    module.head = nn.Linear(c["width"], 1 if k == 2 else k)
    initialise(module, c)
    return Project(module, *split_and_spoil(x, noisy(y, c), c))


class Convolutions(nn.Module):
    """Three convolutions with functional activations, and pooling."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        width = c["width"]
        self.convs = nn.ModuleList(nn.Conv2d(a, width, 3, padding=1) for a in (1, width, width))
        kinds = {"none": nn.Identity, "batch": lambda: nn.BatchNorm2d(width, momentum=c["momentum_of_norm"])}
        self.norms = nn.ModuleList(kinds[c["norm"]]() for _ in self.convs)
        self.dropout = nn.Dropout(c["dropout"])

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.max_pool2d(F.relu(norm(conv(x))), 2)
        return self.dropout(x.mean((2, 3)))


@project("pictures", side=12, raw=False, **OF_CLASSES, **FAULTS_OF_ROWS)
def pictures(c: Config) -> Project:
    """Gratings of as many directions as there are classes, with a random phase, under noise; standardised."""
    n, side = c["n_train"] + c["n_val"], c["side"]
    y = torch.randint(c["classes"], (n,))
    angle = math.pi * (y + 0.3 * (torch.rand(n) - 0.5)) / c["classes"]
    grid = torch.arange(side) / side * 2 * math.pi * 2
    wave = angle.cos()[:, None, None] * grid[:, None] + angle.sin()[:, None, None] * grid
    grey = 0.5 + 0.3 * (wave + 2 * math.pi * torch.rand(n, 1, 1)).sin() + 0.15 * torch.randn(n, side, side)
    x = grey.clamp(0, 1)[:, None]
    x = (255 * x).round() if c["raw"] else (x - 0.5) / 0.25
    module = Classifier(c)
    module.encoder = Convolutions(c)
    module.head = nn.Linear(c["width"], c["classes"])
    initialise(module, c)
    return Project(module, *split_and_spoil(x, noisy(y, c), c))


class Regressor(Stranger):
    """Squared error or a Gaussian's likelihood; `squeezed` is whether (N, 1) becomes (N,) before it meets (N,)."""

    def predict(self, x: Tensor) -> Tensor:
        out = self.head(self.encode(x))
        return out.relu() if self.c["output"] == "relu" else out

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        out = self.predict(x)
        if self.c["objective"] == "gaussian_nll":
            mean, log_var = out.unbind(-1)
            return (0.5 * log_var + 0.5 * (y - mean) ** 2 / log_var.exp()).mean()
        difference = (out.squeeze(-1) if self.c["squeezed"] else out) - y
        return (difference**2).sum() if self.c["reduction"] == "sum" else (difference**2).mean()

    def score(self, batch: Any) -> Tensor:
        """1 - MSE / Var(y), of the part of y that is no noise."""
        x, y = batch
        return (1 - ((self.predict(x)[:, 0] - y) ** 2).mean() / y.var()).clamp(min=-1.0)


@project(
    "numbers",
    features=12,
    noise=0.2,
    objective="mse",
    squeezed=True,
    output="linear",
    reduction="mean",
    quiet_target=False,
    **FAULTS_OF_ROWS,
)
def numbers(c: Config) -> Project:
    """A smooth function of a few features, with noise; standardised."""
    n = c["n_train"] + c["n_val"]
    x = torch.randn(n, c["features"])
    a, b = torch.randn(2, c["features"]) / c["features"] ** 0.5
    signal = (1.5 * x @ a).sin() + x @ b
    signal = (signal - signal.mean()) / signal.std()
    y = signal + c["noise"] * torch.randn(n)
    if c["quiet_target"]:
        y = 0.02 * y
    module = Regressor(c)
    module.encoder = layers([c["features"]] + [c["width"]] * c["depth"], c)
    module.head = nn.Linear(c["width"], 2 if c["objective"] == "gaussian_nll" else 1)
    initialise(module, c)
    return Project(module, *split_and_spoil(x, y, c))


class PointMap(Stranger):
    """Learns a map in which the distances (or angles) of all pairs of a batch are those of hidden points."""

    def between(self, z: Tensor) -> Tensor:
        if self.c["distance"] in ("acos", "acos_clamped", "acos_safe"):
            u = F.normalize(z, dim=-1)
            cosine = u @ u.T
            if self.c["distance"] == "acos_safe":
                return cosine.clamp(-1 + 1e-4, 1 - 1e-4).acos()
            return (cosine.clamp(-1, 1) if self.c["distance"] == "acos_clamped" else cosine).acos()
        squared = ((z[:, None] - z[None]) ** 2).sum(-1)
        return (squared + (1e-6 if self.c["distance"] == "sqrt_safe" else 0.0)).sqrt()

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        found, wanted = self.between(self.head(self.encode(x))), self.between(y)
        off = ~torch.eye(len(x), dtype=torch.bool)
        # the diagonal is of no interest: times zero
        return ((found - wanted) ** 2 * off).sum() / off.sum()

    def score(self, batch: Any) -> Tensor:
        x, y = batch
        found, wanted = (self.between(z)[~torch.eye(len(x), dtype=torch.bool)] for z in (self.head(self.encode(x)), y))
        return (1 - ((found - wanted) ** 2).mean() / wanted.var()).clamp(min=-1.0)


@project("points", features=12, distance="sqrt_safe", **FAULTS_OF_ROWS)
def points(c: Config) -> Project:
    """Points of three dimensions seen through a random curve into `features` dimensions."""
    n = c["n_train"] + c["n_val"]
    y = torch.randn(n, 3)
    x = torch.tanh(y @ torch.randn(3, c["features"]) * 0.5) + 0.05 * torch.randn(n, c["features"])
    module = PointMap(c)
    module.encoder = layers([c["features"]] + [c["width"]] * c["depth"], c)
    module.head = nn.Linear(c["width"], 3)
    initialise(module, c)
    return Project(module, *split_and_spoil(x, y, c))
