"""Projects on graphs: classes of nodes by messages, a batch that is an object or a dictionary; and learning a DAG."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor_projects import Project, Stranger, batches_of, initialise, loaders_of, project
from benchmarks.doctor_settings import Config

NODES = 12


@dataclass
class GraphBatch:
    """Several graphs as one: nodes (N, F), edges (2, E), the class of every node (N,)."""

    x: Tensor
    edge_index: Tensor
    y: Tensor


class Messages(nn.Module):
    """Twice: a node's own part, and the mean over its neighbours."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        sizes = [c["features"]] + [c["width"]] * c["depth"]
        pairs = list(itertools.pairwise(sizes))
        self.own = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.of_neighbours = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairs)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        source, target = edge_index
        degree = torch.zeros(len(x), 1).index_add_(0, target, torch.ones(len(target), 1)).clamp(min=1)
        for own, of_neighbours in zip(self.own, self.of_neighbours, strict=True):
            gathered = torch.zeros_like(x).index_add_(0, target, x[source]) / degree
            x = F.relu(own(x) + of_neighbours(gathered))
        return x


class NodeClassifier(Stranger):
    def parts(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        if isinstance(batch, dict):
            return batch["x"], batch["edge_index"], batch["y"]
        return batch.x, batch.edge_index, batch.y

    def logits(self, batch: Any) -> Tensor:
        x, edge_index, _ = self.parts(batch)
        return self.head(self.encode(x, edge_index))

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self.logits(batch), self.parts(batch)[2])

    def score(self, batch: Any) -> Tensor:
        right = (self.logits(batch).argmax(-1) == self.parts(batch)[2]).float().mean()
        return (right - 0.25) / 0.75


@project("graph", features=8, as_dict=False, edges="right", input_scale=1.0)
def graph(c: Config) -> Project:
    """Graphs of twelve nodes: neighbours mostly share a class, of which each node's own features say little."""
    n = c["n_train"] + c["n_val"]
    y = torch.randint(4, (n, NODES))
    x = c["input_scale"] * (0.7 * torch.randn(4, c["features"])[y] + torch.randn(n, NODES, c["features"]))
    alike = y[:, :, None] == y[:, None, :]
    near = torch.rand(n, NODES, NODES) < torch.where(alike, 0.6, 0.06)
    near = (near | near.transpose(1, 2)) & ~torch.eye(NODES, dtype=torch.bool)
    if c["edges"] == "none":
        near = torch.zeros_like(near)
    elif c["edges"] == "loops":
        near = torch.eye(NODES, dtype=torch.bool).expand_as(near)

    def collate(samples: list[Any]) -> Any:
        xs, ys, nears = (torch.stack(column) for column in zip(*samples, strict=True))
        at, source, target = nears.nonzero().T
        edge_index = torch.stack([source + NODES * at, target + NODES * at])
        fields = {"x": xs.flatten(0, 1), "edge_index": edge_index, "y": ys.flatten()}
        return fields if c["as_dict"] else GraphBatch(**fields)

    module = NodeClassifier(c)
    module.encoder, module.head = Messages(c), nn.Linear(c["width"], 4)
    initialise(module, c)
    k = c["n_train"]
    train, val = (tuple(part[chosen] for part in (x, y, near)) for chosen in (slice(k), slice(k, n)))
    return Project(module, *loaders_of(train, val, c, collate), batches_of(val, collate))


class DagLearner(Stranger):
    """NOTEARS: x_j is a linear function of its parents; sparsity, and the trace that is zero for a DAG."""

    def __init__(self, c: Config, truth: Tensor) -> None:
        super().__init__(c)
        self.encoder, self.head = nn.Identity(), nn.Identity()
        self.adjacency = nn.Parameter(1e-2 * torch.randn(truth.shape))
        self.register_buffer("truth", truth)
        self.lambda_sparse, self.lambda_acyclic, self.threshold = c["lambda_sparse"], 1.0, c["threshold"]

    def weights(self) -> Tensor:
        return self.adjacency * (1 - torch.eye(len(self.adjacency)))

    def loss(self, batch: Any) -> Tensor:
        (x,) = batch
        w = self.weights()
        fit = 0.5 * ((x - x @ w) ** 2).sum(-1).mean()
        acyclic = torch.matrix_exp(w * w).trace() - len(w)
        return fit + self.lambda_sparse * w.abs().sum() + self.lambda_acyclic * acyclic

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        found = self.weights().abs() > self.threshold
        self.log("edges", found.sum().float())
        self.log("shd", (found != (self.truth != 0)).sum().float())
        self.log("true_edges", (self.truth != 0).sum().float())
        self.log("val_f1", self.score(batch))

    def score(self, batch: Any) -> Tensor:
        """F1 of the edges."""
        found, true = self.weights().abs() > self.threshold, self.truth != 0
        return 2 * (found & true).sum() / (found.sum() + true.sum()).clamp(min=1)


@project("dag", nodes=8, lambda_sparse=0.05, threshold=0.3)
def dag(c: Config) -> Project:
    n, d = c["n_train"] + c["n_val"], c["nodes"]
    sign = torch.randint(2, (d, d)) * 2 - 1
    drawn = (torch.rand(d, d).triu(1) > 0.65).float()
    drawn[0, 1] = 1.0
    truth = drawn * sign * (0.7 + 0.8 * torch.rand(d, d))
    x = torch.randn(n, d) @ torch.linalg.inv(torch.eye(d) - truth)
    module = DagLearner(c, truth)
    k = c["n_train"]
    return Project(module, *loaders_of((x[:k],), (x[k:],), c), batches_of((x[k:],)))
