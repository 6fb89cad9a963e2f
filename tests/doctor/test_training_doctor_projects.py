"""Whatever a project looks like, the doctor with all it has neither ends its training nor changes a bit of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from lightning.pytorch.callbacks import BaseFinetuning
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.utilities import CombinedLoader
from torch import nn
from torch.utils.data import DataLoader
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader as GraphLoader

from stablelit.doctor import TrainingDoctor, probe_set, trainer_settings
from tests.doctor.carrying import Little, Manual, Rows, Stream, curve, fit


@dataclass
class Record:
    x: torch.Tensor
    name: str = "a"


class Pair(NamedTuple):
    x: torch.Tensor
    more: tuple


def batches(wrap):
    """A loader whose batches have this form."""
    return DataLoader(Rows(12), 2, collate_fn=lambda rows: wrap(torch.stack(rows)))


class Takes(Little):
    """Finds its rows in a batch of any form."""

    def __init__(self, find=lambda batch: batch):
        super().__init__()
        self.find = find

    def training_step(self, batch, batch_idx):
        x = self.find(batch)
        loss = (self.layer(x) - 1.0).square().mean()
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("never", float("nan"))
        return loss

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("val_loss", self.layer(self.find(batch)).square().mean())
        self.log("val_odd", float("inf"))


class Returns(Takes):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def training_step(self, batch, batch_idx):
        return self.change(super().training_step(batch, batch_idx), batch_idx)


class Optimizes(Takes):
    def __init__(self, optimizer):
        super().__init__()
        self.optimizer = optimizer

    def configure_optimizers(self):
        return self.optimizer(self)


class NoRate(torch.optim.Optimizer):
    """Its groups have no learning rate."""

    def __init__(self, parameters):
        super().__init__(parameters, {})

    def step(self, closure=None):
        loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter -= 0.1 * parameter.grad
        return loss


class Unfreezes(BaseFinetuning):
    def freeze_before_training(self, pl_module):
        self.freeze(pl_module.backbone)

    def finetune_function(self, pl_module, epoch, optimizer):
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.backbone, optimizer)


class Backbone(Takes):
    def __init__(self, find=lambda batch: batch):
        super().__init__(find)
        self.backbone = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))

    def training_step(self, batch, batch_idx):
        return super().training_step(self.backbone(batch), batch_idx)

    def configure_optimizers(self):
        return torch.optim.Adam(filter(lambda p: p.requires_grad, self.parameters()), 1e-2)


def with_schedule(module):
    optimizer = torch.optim.AdamW(module.parameters(), 1e-2)
    return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2), "interval": "step"}]


def on_plateau(module):
    optimizer = torch.optim.SGD(module.parameters(), 1e-2, momentum=0.9)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val_loss"}}


def rate_as_tensor(module):
    return torch.optim.Adam(module.parameters(), torch.tensor(1e-2))


def graphs():
    edges = torch.tensor([[0, 1], [1, 0]])
    return GraphLoader([Data(x=torch.randn(2, 3), edge_index=edges) for _ in range(12)], 2)


def scaler(**_):
    return [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**16))]


def gan(i):
    return [1.0, 0, 2.0, 1]


# by name: a module, its data, its validation data, and switches of the Trainer
PROJECTS = {
    "tensor": (Takes, None, True, {}),
    "dict": (lambda: Takes(lambda b: b["x"]), lambda: batches(lambda x: {"x": x, "id": ["a", "b"], "n": 2}), True, {}),
    "dataclass": (lambda: Takes(lambda b: b.x), lambda: batches(Record), True, {}),
    "named-tuple": (lambda: Takes(lambda b: b.x), lambda: batches(lambda x: Pair(x, (x, {"y": x}))), True, {}),
    "nested": (lambda: Takes(lambda b: b[1][0]["x"]), lambda: batches(lambda x: (None, [{"x": x}, 3.0])), True, {}),
    "graphs": (lambda: Takes(lambda b: b.x), graphs, True, {}),
    "stream": (Takes, lambda: DataLoader(Stream(12), 2), True, {"max_steps": 9, "max_epochs": -1}),
    "stream-epochs": (Takes, lambda: DataLoader(Stream(11), 2), False, {"accumulate_grad_batches": 4}),
    "loaders": (lambda: Takes(lambda b: b[0]), lambda: CombinedLoader([batches(lambda x: x)] * 2), False, {}),
    "loaders-cycled": (
        lambda: Takes(lambda b: b["a"]),
        lambda: CombinedLoader({"a": batches(lambda x: x), "b": batches(lambda x: [x])}, "max_size_cycle"),
        False,
        {},
    ),
    "no-validation": (Takes, None, False, {}),
    "accumulation-odd": (Takes, None, True, {"accumulate_grad_batches": 4}),
    "clipping": (Takes, None, True, {"gradient_clip_val": 0.1}),
    "bf16": (Takes, None, True, {"precision": "bf16-mixed"}),
    "bf16-true": (lambda: Takes(lambda b: b.bfloat16()), None, True, {"precision": "bf16-true"}),
    "double": (lambda: Takes(lambda b: b.double()), None, True, {"precision": "64-true"}),
    "fp16-scaler": (Takes, None, True, {"plugins": scaler}),
    "inference-off": (Takes, None, True, {"inference_mode": False}),
    "anomaly": (Takes, None, True, {"detect_anomaly": True}),
    "barebones": (Little, None, False, {"barebones": True}),
    "validation-in-the-middle": (Takes, None, True, {"val_check_interval": 0.5}),
    "loss-of-one-element": (lambda: Returns(lambda loss, i: loss.reshape(1)), None, False, {}),
    "none-at-times": (lambda: Returns(lambda loss, i: None if i % 2 else loss), None, False, {}),
    "never-a-loss": (lambda: Returns(lambda loss, i: None), None, False, {}),
    "dict-with-more": (lambda: Returns(lambda loss, i: {"loss": loss, "y": [1], "z": {"a": None}}), None, False, {}),
    "negative-loss": (lambda: Returns(lambda loss, i: loss - 100.0), None, True, {}),
    "lbfgs": (lambda: Optimizes(lambda m: torch.optim.LBFGS(m.parameters(), max_iter=3)), None, True, {}),
    "no-optimizer": (lambda: Optimizes(lambda m: None), None, True, {}),
    "no-rate": (lambda: Optimizes(lambda m: NoRate(m.parameters())), None, True, {}),
    "schedule": (lambda: Optimizes(with_schedule), None, True, {}),
    "schedule-on-plateau": (lambda: Optimizes(on_plateau), None, True, {}),
    "rate-as-tensor": (
        lambda: Optimizes(lambda m: torch.optim.Adam(m.parameters(), torch.tensor(1e-2))),
        None,
        True,
        {},
    ),
    "unfreezing": (Backbone, None, False, {"callbacks": Unfreezes}),
    "manual": (lambda: Manual(lambda i: [1.0, 0]), None, True, {}),
    "manual-returns-predictions": (lambda: Manual(lambda i: [1.0, 0], lambda i: torch.zeros(2, 3)), None, True, {}),
    "manual-without-a-step": (lambda: Manual(lambda i: []), None, True, {}),
    "manual-two": (lambda: Manual(gan, optimizers=2), None, True, {}),
    "manual-two-max-steps": (lambda: Manual(gan, optimizers=2), None, True, {"max_steps": 8, "max_epochs": -1}),
    "manual-in-turns": (lambda: Manual(lambda i: [[1.0, 0], [2.0, 1]][i % 2], optimizers=2), None, True, {}),
    "manual-fp16-scaler": (lambda: Manual(gan, optimizers=2), None, True, {"plugins": scaler}),
}


def run(project, with_doctor):
    make, data, validates, switches = project
    torch.manual_seed(0)
    module = make()
    loader = DataLoader(Rows(12), 2) if data is None else data()
    doctor = TrainingDoctor(every_n_steps=1)
    switches = {name: value() if callable(value) else value for name, value in switches.items()}
    callbacks = [switches.pop("callbacks")] if "callbacks" in switches else []
    switches = {"max_epochs": 2, "num_sanity_val_steps": 2, **switches}
    if switches.pop("barebones", False):
        switches = {"max_epochs": 2, "barebones": True, "num_sanity_val_steps": None}
        switches |= dict.fromkeys(["enable_checkpointing", "logger", "enable_progress_bar", "enable_model_summary"])
    trainer = fit(
        [*callbacks, doctor] if with_doctor else callbacks,
        module,
        data=loader,
        validation=loader if validates else None,
        **switches,
    )
    return trainer, module, doctor


# what goes the same way as another
SLOW = {"named-tuple", "double", "bf16-true", "inference-off", "anomaly", "dict-with-more", "schedule-on-plateau"}
SLOW |= {"stream-epochs", "loaders", "barebones", "rate-as-tensor", "negative-loss", "manual-without-a-step", "tensor"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in PROJECTS])
def test_it_neither_fails_nor_changes_anything(name, monkeypatch):
    said = []
    for room in (probe_set, trainer_settings):
        monkeypatch.setattr(room, "rank_zero_info", said.append)
    trainer, module, doctor = run(PROJECTS[name], True)
    without, plain, _ = run(PROJECTS[name], False)
    assert trainer.global_step == without.global_step
    for (key, a), b in zip(module.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    for part, other in zip(module.modules(), plain.modules(), strict=True):
        # no hook, no attribute, no mode is left behind
        assert {k: len(v) for k, v in vars(part).items() if k.endswith("_hooks")} == {
            k: len(v) for k, v in vars(other).items() if k.endswith("_hooks")
        }
        assert set(vars(part)) == set(vars(other))
        assert part.training == other.training
    # nobody had to be left out, and every rule had an answer
    assert said == []
    assert not {n: why for n, why in doctor.diagnosis.unchecked.items() if why[0].startswith("an answer")}


def test_groups_without_a_rate_have_no_curve_of_it():
    doctor = TrainingDoctor()
    fit(doctor, Optimizes(lambda m: NoRate(m.parameters())))
    assert not doctor.evidence.has("curves.lr")
    assert doctor.evidence.settings.learning_rate is None


def test_the_rate_is_that_of_the_step_and_not_of_the_next():
    doctor = TrainingDoctor()
    fit(doctor, Optimizes(with_schedule), batches=5)
    expected = [1e-2, 1e-2, 1e-3, 1e-3, 1e-4]
    assert [rate for _, rate in curve(doctor, "lr")] == pytest.approx(expected)


def test_of_several_optimizers_the_largest_rate_counts():
    doctor = TrainingDoctor()
    fit(doctor, Manual(lambda i: [1.0, 0, 2.0, 1], optimizers=2))
    assert curve(doctor, "lr") == [(step, 0.25) for step in range(6)]
