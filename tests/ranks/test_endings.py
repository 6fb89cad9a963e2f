"""How runs of two forked ranks end where only one of them has a reason: together, at the same step."""

from __future__ import annotations

import json
import time

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch.utils.data import DataLoader, TensorDataset

from stablelit.callbacks import GradClipMonitor, NonFiniteGuard
from stablelit.doctor import TrainingDoctor
from stablelit.findings import read_findings
from tests.contract import modules
from tests.ranks.two_ranks import in_a_process

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

# of batches of 4 on each rank: the fourth has a NaN on rank one
BAD, SIZE = 3, 4


class Ended(pl.Callback):
    """Writes where a rank has ended."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_end(self, trainer, pl_module):
        weights = torch.cat([p.detach().flatten() for p in pl_module.parameters()])
        told = {"step": trainer.global_step, "finite": bool(weights.isfinite().all()), "sum": float(weights.sum())}
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(told))


class OneIsBad(pl.LightningModule):
    """A line, of which one rank's loss is NaN in one step; its validation gets worse on that rank alone."""

    def __init__(self, bad):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.bad = torch.nn.Linear(6, 1), bad

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch[0]).square().mean()
        bad = self.bad and self.global_rank == 1 and self.global_step == BAD
        return loss * torch.nan if bad else loss

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", float(self.current_epoch if self.global_rank == 1 else -self.current_epoch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


def train(callbacks, bad, epochs, folder):
    torch.set_num_threads(1)
    data = DataLoader(TensorDataset(modules.samples()), SIZE)
    trainer = modules.make_trainer(
        folder, [*callbacks(), Ended(folder)], devices=2, strategy="ddp_fork", max_epochs=epochs, num_sanity_val_steps=0
    )
    others = torch.randn(8, 6, generator=torch.Generator().manual_seed(5))
    trainer.fit(OneIsBad(bad), data, DataLoader(TensorDataset(others), SIZE))


# callbacks, whether a loss is NaN, and the optimizer step after which both ranks end
ENDINGS = {
    "guard-stops": (lambda: [NonFiniteGuard("stop")], True, BAD + 1),
    "guard-skips": (lambda: [NonFiniteGuard("skip")], True, 24),
    "monitor-stops": (lambda: [GradClipMonitor(min_steps=1, action="stop")], True, BAD + 1),
    "doctor-stops": (lambda: [TrainingDoctor(every_n_steps=1, action="stop")], True, None),
    "early-stopping": (lambda: [EarlyStopping("val/loss", patience=1, check_finite=False)], False, 12),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_both_ranks_end_at_one_step_with_the_same_weights(name, tmp_path):
    callbacks, bad, step = ENDINGS[name]
    began = time.monotonic()
    in_a_process(train, callbacks, bad, 4, tmp_path)
    assert time.monotonic() - began < 120  # a rank that is left alone waits for half an hour
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["step"] == second["step"]
    assert first["finite"] == second["finite"] == (name in ("guard-stops", "guard-skips", "early-stopping"))
    assert first["sum"] == second["sum"] or not first["finite"]
    if step is not None:
        assert first["step"] == step
    if bad:
        assert read_findings(tmp_path)
    if name == "guard-stops":
        (checkpoint,) = tmp_path.rglob("before-nonfinite.ckpt")
        weights = torch.load(checkpoint, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in weights.values())
