"""The tap changes nothing of what Lightning reads from a training_step."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch.utils.data import DataLoader, TensorDataset

from stablelit.callbacks._first_step import FirstStepTap


class Plain(pl.LightningModule):
    """Takes no index, as many do."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(3, 1)

    def training_step(self, batch):
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Indexed(Plain):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch) + 0.0 * batch_idx


@pytest.mark.parametrize("kind", [Plain, Indexed])
def test_a_tapped_step_gets_what_an_untapped_one_gets(kind, tmp_path):
    module, seen = kind(), []
    taps = [FirstStepTap(module, seen.append) for _ in range(2)]
    assert is_param_in_hook_signature(module.training_step, "batch_idx", min_args=2) == (kind is Indexed)
    loader = DataLoader(TensorDataset(torch.randn(8, 3)), 4)
    trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(module, loader)
    assert len(seen) == 2
    assert all(tap.spent for tap in taps)
    assert "training_step" not in vars(module)
