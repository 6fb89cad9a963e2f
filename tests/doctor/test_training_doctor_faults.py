"""Faults of whole projects that the doctor once did not see: each beside the same project without it."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from stablelit.doctor import TrainingDoctor

STEPS = 80


def findings(
    module: pl.LightningModule, *rows: Tensor, batch_size: int = 8, every: int | None = 1, **trainer
) -> list[str]:
    doctor = TrainingDoctor(mode="observe", every_n_steps=every)
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_checkpointing", "enable_model_summary"), False)
    loader = DataLoader(TensorDataset(*rows), batch_size)
    pl.Trainer(accelerator="cpu", max_epochs=1, callbacks=[doctor], **quiet, **trainer).fit(module, loader)
    return [finding.name for finding in doctor.findings]


class Adversaries(pl.LightningModule):
    """A generator and a discriminator, stepped by hand and toggled, as tutorials write them."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.automatic_optimization, self.cut = False, cut
        self.generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
        self.discriminator = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        (real,) = batch
        of_generator, of_discriminator = self.optimizers()
        noise = torch.randn(len(real), 4)
        self.toggle_optimizer(of_discriminator)
        told = self.discriminator(real), self.discriminator(self.generator(noise).detach())
        loss = F.softplus(-told[0]).mean() + F.softplus(told[1]).mean()
        of_discriminator.zero_grad()
        self.manual_backward(loss)
        of_discriminator.step()
        self.untoggle_optimizer(of_discriminator)
        self.toggle_optimizer(of_generator)
        made = self.generator(noise)
        loss = F.softplus(-self.discriminator(made.detach().requires_grad_() if self.cut else made)).mean()
        of_generator.zero_grad()
        self.manual_backward(loss)
        of_generator.step()
        self.untoggle_optimizer(of_generator)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(part.parameters(), 1e-3) for part in (self.generator, self.discriminator)]


@pytest.mark.parametrize("every", [1, None], ids=["every-step", "by-the-budget"])
@pytest.mark.parametrize("cut", [False, True], ids=["sound", "cut"])
def test_a_generator_that_is_cut_off_by_hand_is_named(cut: bool, every: int | None) -> None:
    torch.manual_seed(0)
    steps = STEPS if every else 2 * STEPS
    assert findings(Adversaries(cut), torch.randn(8 * steps, 2), every=every) == (
        ["parameters-without-gradient"] if cut else []
    )


class Accumulates(pl.LightningModule):
    """Learns the sign of a sum; `clears` is whether `optimizer_zero_grad` does what its name says."""

    def __init__(self, clears: bool) -> None:
        super().__init__()
        self.clears = clears
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        (rows,) = batch
        return F.cross_entropy(self.layers(rows), (rows.sum(1) > 0).long())

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        if self.clears:
            optimizer.zero_grad()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-3)


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("clears", [True, False], ids=["cleared", "never"])
def test_gradients_that_stay_are_told_of_runs_that_accumulate_too(clears: bool, accumulated: int) -> None:
    torch.manual_seed(0)
    rows = torch.randn(8 * STEPS, 6)
    told = findings(Accumulates(clears), rows, accumulate_grad_batches=accumulated)
    assert told == ([] if clears else ["gradients-not-zeroed"])


class Regresses(pl.LightningModule):
    """Several numbers from several numbers, which no name and no shape tells apart."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        inputs, targets = batch
        return F.mse_loss(self.layers(inputs), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-3)


@pytest.mark.parametrize(("leaf", "told"), [(0, "input-not-finite"), (1, "target-not-finite")])
@pytest.mark.parametrize("row", [0, 8 * 7], ids=["first-batch", "later"])
def test_what_is_not_finite_is_named_by_its_part_in_the_very_first_batch_too(leaf: int, told: str, row: int) -> None:
    torch.manual_seed(0)
    rows = [torch.randn(8 * 12, 5), torch.randn(8 * 12, 3)]
    rows[leaf][row] = torch.nan
    assert findings(Regresses(), *rows) == [told]
