"""What the carrying of probes and rules is tried with: little modules, probes that write down what is called, rules."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from stablelit.doctor import Rank, Rule, TrainingDoctor, examination, verdicts
from stablelit.doctor.probes import Probe
from stablelit.findings import Finding


class Rows(Dataset):
    """Samples (3,) with the value 1 + their index."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((3,), 1.0 + index)


class Stream(torch.utils.data.IterableDataset):
    """The same, without a length."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Any:
        return (torch.full((3,), 1.0 + i) for i in range(self.n))


class Little(pl.LightningModule):
    """Its loss in batch i of an epoch is ``loss_of(i)``, whatever the weights; their gradient is that of a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)

    def value(self, batch: Any, batch_idx: int) -> torch.Tensor:
        mean = self.layer(batch).mean()
        return mean - mean.detach() + float(loss_of(batch_idx))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.value(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("val_loss", self.value(batch, batch_idx))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.125)


class Manual(Little):
    """Manual optimisation; `plan` says in which order optimizers step after backward passes with which losses."""

    def __init__(self, plan: Any, returns: Any = None, optimizers: int = 1) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.plan, self.returns, self.number = plan, returns, optimizers

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        for optimizer in optimizers:
            optimizer.zero_grad()
        for what in self.plan(batch_idx):
            if isinstance(what, int):
                optimizers[what].step()
            else:
                self.manual_backward(self.value(batch, 0) - loss_of(0) + what)
        return None if self.returns is None else self.returns(batch_idx)

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.parameters(), 0.125 * (1 + i)) for i in range(self.number)]


def loss_of(batch_idx: int) -> float:
    """A number that floats hold exactly."""
    return 2.0 + 0.25 * batch_idx


class Recorder(Probe):
    """Writes down every call, and hooks itself on the first layer in a look, as probes do."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.handles: list[Any] = []
        self.told = 0

    def begin(self, trainer, pl_module, evidence):
        self.calls.append(("begin", evidence.step))

    def batch_start(self, trainer, pl_module, batch, step):
        self.calls.append(("batch_start", step))
        self.handles.append(pl_module.layer.register_forward_hook(lambda *_: self.calls.append(("forward", step))))

    def before_backward(self, trainer, pl_module, loss, step):
        self.calls.append(("before_backward", step))

    def after_backward(self, trainer, pl_module, step):
        self.calls.append(("after_backward", step))

    def before_step(self, trainer, pl_module, optimizer, step):
        self.calls.append(("before_step", step))

    def batch_end(self, trainer, pl_module, outputs, batch, step):
        self.calls.append(("batch_end", step))
        self.leave(pl_module)

    def validation_batch_start(self, trainer, pl_module, batch, step):
        self.calls.append(("validation_batch_start", step))
        self.handles.append(pl_module.layer.register_forward_hook(lambda *_: self.calls.append(("forward", step))))

    def validation_batch_end(self, trainer, pl_module, outputs, batch, step):
        self.calls.append(("validation_batch_end", step))
        self.leave(pl_module)

    def tell(self, evidence):
        self.told += 1
        self.calls.append(("tell", evidence.step))

    def leave(self, pl_module):
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def state_dict(self):
        return {"told": self.told}

    def load_state_dict(self, state):
        self.told = state.get("told", 0)

    def steps(self, name: str) -> list[int]:
        return [call[1] for call in self.calls if call[0] == name]


@dataclass
class Says:
    """A rule's check: finds from a step on; counts how often it was asked, and at which steps."""

    name: str
    since: int = 0
    severity: Any = "warning"
    until: int = 10**9

    def __post_init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, evidence: Any) -> Finding | None:
        self.asked.append(evidence.step)
        if self.since <= evidence.step < self.until:
            return Finding(self.name, self.severity, "it is so.", {"step": evidence.step}, "learning_rate=1e-3")
        return None


def says(name: str, kind: Any = "structural", rank: Rank = Rank.SETTINGS, since: int = 0, **kwargs: Any) -> Rule:
    """A rule that finds something from a step on."""
    check = Says(name, since, kwargs.pop("severity", "warning"), kwargs.pop("until", 10**9))
    return Rule(name, rank, kwargs.pop("needs", ()), check, kind=kind, **kwargs)


def alone(monkeypatch: Any, *probes: type[Probe]) -> None:
    """The doctor has no rules but those it is given, and only these probes."""
    monkeypatch.setattr(verdicts, "RULES", ())
    monkeypatch.setattr(examination, "all_probes", lambda: [kind() for kind in probes])


def probe_of(doctor: TrainingDoctor, kind: type[Probe] = Recorder) -> Any:
    """The doctor's probe of this class."""
    return next(probe for probe in doctor._examination._probes._probes if type(probe) is kind)


def make_trainer(callbacks: list[Any], **kwargs: Any) -> pl.Trainer:
    """A silent Trainer on the CPU, which writes nothing by itself."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "num_sanity_val_steps": 0,
    }
    return pl.Trainer(callbacks=callbacks, **{**defaults, **kwargs})


def fit(
    doctor: TrainingDoctor | list[Any],
    module: Any = None,
    batches: int = 6,
    data: Any = None,
    validation: Any = None,
    ckpt_path: Any = None,
    **kwargs: Any,
) -> pl.Trainer:
    """Fits with what a doctor says not shown."""
    callbacks = doctor if isinstance(doctor, list) else [doctor]
    trainer = make_trainer(callbacks, **kwargs)
    data = DataLoader(Rows(2 * batches), 2) if data is None else data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module or Little(), data, validation, ckpt_path=ckpt_path)
    return trainer


def curve(doctor: TrainingDoctor, name: str) -> list[tuple[float, float]]:
    """A curve as pairs."""
    held = doctor.evidence.curve(name)
    return list(zip(held.steps.tolist(), held.values.tolist(), strict=True))
