"""Small modules that the callbacks are tried on, under either of Lightning's two names."""

from __future__ import annotations

import importlib
import logging
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from stablelit.data import ShuffleDataLoader, ShuffleSampler

NAMES = ("lightning.pytorch", "pytorch_lightning")
N_SAMPLES, BATCH_SIZE = 48, 8
BATCHES = N_SAMPLES // BATCH_SIZE


def framework(name: str) -> ModuleType:
    """`lightning.pytorch` or `pytorch_lightning`."""
    return importlib.import_module(name)


def samples() -> torch.Tensor:
    return torch.randn(N_SAMPLES, 6, generator=torch.Generator().manual_seed(3))


def train_loader(seed: int = 0, **kwargs: Any) -> ShuffleDataLoader:
    data = torch.utils.data.TensorDataset(samples())
    return ShuffleDataLoader(data, sampler=ShuffleSampler(data, seed=seed), batch_size=BATCH_SIZE, **kwargs)


def val_loader() -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(samples()[:16]), batch_size=8)


class WrittenEdges:
    """Somebody's own form of edges: the contract asks for these two methods."""

    def __init__(self, scores: torch.Tensor) -> None:
        self.scores = scores

    def to_csv(self, path: Any) -> None:
        Path(path).write_text("\n".join(",".join(map(repr, row)) for row in self.scores.tolist()))

    def to_graphml(self, path: Any) -> None:
        Path(path).write_text("<graphml/>")


@lru_cache
def module_classes(name: str) -> dict[str, type]:
    """Modules by kind: `automatic`, `manual` (two optimizers) and `logging` (returns nothing but a loss)."""
    base = framework(name).LightningModule

    class TinyVAE(base):
        """A VAE with everything that a callback may ask for."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(6, 6)
            self.decoder = nn.Linear(3, 6)
            self.register_buffer("kl_weight", torch.tensor(1.0), persistent=False)
            self.register_buffer("other_weight", torch.tensor(1.0), persistent=False)
            self.register_buffer("decision_threshold", torch.tensor(0.5), persistent=False)
            self.temperature = 1.0
            self.difficulty = 1.0

        def set_difficulty(self, difficulty):
            self.difficulty = difficulty

        def difficulty_info(self):
            return {"noise": self.difficulty}

        def trivial_loss(self, difficulty):
            return 3.0 + difficulty

        def terms(self, x):
            mean, logvar = self.encoder(x).chunk(2, -1)
            kl_per_dim = 0.5 * (mean**2 + logvar.exp() - 1 - logvar)
            z = mean + self.difficulty * torch.randn_like(mean) * (0.5 * logvar).exp()
            recon = 0.5 * ((self.decoder(z) - x) ** 2).sum(-1)
            return recon, kl_per_dim

        def training_step(self, batch, batch_idx):
            recon, kl_per_dim = self.terms(batch[0])
            kl = kl_per_dim.sum(-1)
            loss = (recon + self.kl_penalty(kl_per_dim)).mean()
            self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True, sync_dist=True)
            self.log("train_kl", kl.mean(), on_step=True, on_epoch=False)
            views = {"z0": kl_per_dim, "z1": kl_per_dim + 0.1 * self.decoder.weight.mean(dim=0)}
            terms = {"loss": loss, "recon": recon, "kl": kl, "kl_per_dim": kl_per_dim}
            return {**terms, **views, **self.labelled(batch[0])}

        def kl_penalty(self, kl_per_dim):
            return self.kl_weight * kl_per_dim.sum(-1)

        def validation_step(self, batch, batch_idx):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                recon, kl_per_dim = self.terms(batch[0])
            self.log("val/loss", (recon + kl_per_dim.sum(-1)).mean(), sync_dist=True)
            self.log("val/weight", float(self.kl_weight))
            return self.scored(batch[0])

        def test_step(self, batch, batch_idx):
            self.log("test/weight", float(self.kl_weight))
            return self.scored(batch[0])

        def scored(self, x):
            return {"scores": self.encoder(x)[:, 0], "targets": (x.sum(-1) > 0).long(), **self.labelled(x)}

        def labelled(self, x):
            return {"h": self.encoder(x), "label": (x[:, 0] > 0).long()}

        def edge_scores(self):
            return self.encoder.weight.abs()

        def edge_truth(self):
            return torch.ones(6, 6).triu(3)

        def edge_list(self):
            return WrittenEdges(self.edge_scores().detach())

        def generate_to_file(self, path, n, seed=0, temperature=1.0):
            torch.manual_seed(seed)
            drawn = self.decoder(temperature * torch.randn(n, 3))
            torch.save(drawn, path)
            return {"n": n, "spread": float(drawn.std())}

        def figures(self):
            from matplotlib.figure import Figure

            figure = Figure()
            figure.subplots().plot([0, 1])
            return {"line": figure}

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 1e-2)

    class ManualVAE(TinyVAE):
        """The same with manual optimisation and two optimizers."""

        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            outputs = super().training_step(batch, batch_idx)
            for optimizer in self.optimizers():
                optimizer.zero_grad()
            self.manual_backward(outputs["loss"])
            for optimizer in self.optimizers():
                optimizer.step()
            return outputs

        def configure_optimizers(self):
            return [torch.optim.Adam(self.encoder.parameters(), 1e-2), torch.optim.SGD(self.decoder.parameters(), 1e-2)]

    class LoggingVAE(base):
        """Somebody's module: a float weight, and the KL only in the log."""

        def __init__(self) -> None:
            super().__init__()
            self.kl_weight = 1.0
            self.layer = nn.Linear(6, 6)

        def training_step(self, batch, batch_idx):
            mean, logvar = self.layer(batch[0]).chunk(2, -1)
            kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(-1).mean()
            self.log("train_kl", kl)
            return (mean - batch[0][:, :3]).square().mean() + self.kl_weight * kl

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    return {"automatic": TinyVAE, "manual": ManualVAE, "logging": LoggingVAE}


def make_module(name: str = NAMES[0], kind: str = "automatic", seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return module_classes(name)[kind]()


@lru_cache
def memory_logger_class(name: str) -> type:
    base = importlib.import_module(f"{name}.loggers").Logger

    class MemoryLogger(base):
        """Keeps what was logged, in order."""

        def __init__(self, directory: str) -> None:
            super().__init__()
            self.directory = directory
            self.lines: list[tuple[int, dict[str, float]]] = []

        @property
        def name(self):
            return ""

        @property
        def version(self):
            return ""

        @property
        def save_dir(self):
            return self.directory

        @property
        def log_dir(self):
            return self.directory

        def log_metrics(self, metrics, step=None):
            self.lines.append((step, {k: v for k, v in metrics.items() if k != "epoch"}))

        def log_hyperparams(self, params, *args, **kwargs):
            pass

    return MemoryLogger


def make_trainer(directory: Any, callbacks: list[Any], name: str = NAMES[0], **kwargs: Any) -> Any:
    """A silent CPU Trainer; its logger is a MemoryLogger."""
    for noisy in ("lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 3,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 1,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "default_root_dir": str(directory),
        "logger": memory_logger_class(name)(str(directory)),
    }
    if any("ProgressBar" in type(callback).__name__ for callback in callbacks):
        defaults["enable_progress_bar"] = True
    return framework(name).Trainer(callbacks=callbacks, **{**defaults, **kwargs})


@lru_cache
def save_at_class(name: str) -> type:
    base = importlib.import_module(f"{name}.callbacks").Checkpoint

    class SaveAt(base):
        """Saves after optimizer step `step`; a Checkpoint, so that it comes last.

        After the last step of an epoch it saves where ModelCheckpoint does, at the epoch's end: of a checkpoint made
        between the last batch and its validation Lightning skips the validation.
        """

        def __init__(self, step: int, path: Any) -> None:
            self.step, self.path = step, str(path)

        def on_train_batch_end(self, trainer, pl_module, *args):
            if trainer.global_step == self.step and not trainer.is_last_batch:
                trainer.save_checkpoint(self.path)

        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.global_step == self.step:
                trainer.save_checkpoint(self.path)

    return SaveAt


def plain(state):
    """A state with tensors as lists, so that it compares."""
    if isinstance(state, torch.Tensor):
        return state.tolist()
    if isinstance(state, dict):
        return {k: plain(v) for k, v in state.items()}
    return [plain(v) for v in state] if isinstance(state, list | tuple) else repr(state)


def fit(directory, callbacks, name=NAMES[0], kind="automatic", ckpt_path=None, module=None, **kwargs):
    module = make_module(name, kind) if module is None else module
    kwargs.setdefault("enable_checkpointing", any(type(c).__name__ == "SaveAt" for c in callbacks))
    trainer = make_trainer(directory, callbacks, name, **kwargs)
    trainer.fit(module, train_loader(), val_loader(), ckpt_path=ckpt_path)
    return trainer, module
