"""Every callback on two forked ranks beside one process with the same global batch: what it logs, leaves and learns."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from stablelit.data import ShuffleDataLoader, ShuffleSampler
from tests.contract import modules
from tests.contract.registry import SETTINGS
from tests.ranks.two_ranks import in_a_process, with_rows_alike

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

EPOCHS = 2
# how the names begin that two ranks log otherwise, and why; each is among the callback's Limits
DIFFER = {
    "contrastive_health": ("ssl/", "the geometry is rank zero's"),
    "training_doctor": ("ssl/", "what it reads of an embedding is rank zero's"),
    "posterior_monitor": (
        "posterior/gradient_share",
        "a ratio of each rank's own gradients, of which the mean is told",
    ),
    "online_knn": ("val/knn", "a bank of rows on each rank"),
    "online_linear_probe": (
        ("val/linear", "train/linear"),
        "each rank trains a head, and all take their mean before a validation",
    ),
}
# of one rank's clock, and what the module logs without asking all ranks
NEVER_ALIKE = ("perf/", "train_kl")


class Told(pl.Callback):
    """Writes what a rank has come to."""

    def __init__(self, folder):
        self.folder = folder

    def on_fit_end(self, trainer, pl_module):
        weights = {name: p.detach().clone() for name, p in pl_module.named_parameters()}
        scalars = {name: getattr(pl_module, name).clone() for name in ("kl_weight", "other_weight")}
        logged = [
            (int(step), name, float(value)) for step, line in trainer.logger.lines for name, value in line.items()
        ]
        told = {"weights": {**weights, **scalars}, "logged": logged, "steps": trainer.global_step}
        torch.save(told, f"{self.folder}-rank-{trainer.global_rank}.pt")


def train(key, ranks, folder):
    torch.set_num_threads(1)
    data, size = TensorDataset(modules.samples()), modules.BATCH_SIZE // ranks
    module = with_rows_alike(modules.make_module(), "training_step", "validation_step")
    several = {"devices": ranks, "strategy": "ddp_fork"} if ranks > 1 else {}
    trainer = modules.make_trainer(folder, [SETTINGS[key].make(), Told(folder)], max_epochs=EPOCHS, **several)
    loader = ShuffleDataLoader(data, sampler=ShuffleSampler(data), batch_size=size)
    trainer.fit(module, loader, DataLoader(TensorDataset(modules.samples()[:16]), batch_size=size))


def come_to(folder, key, ranks):
    folder.mkdir()
    in_a_process(train, key, ranks, folder)
    told = [torch.load(f"{folder}-rank-{rank}.pt", weights_only=True) for rank in range(ranks)]
    return told, {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize("key", SETTINGS)
def test_two_ranks_log_learn_and_leave_what_one_process_does(key, tmp_path):
    (one,), files = come_to(tmp_path / "one", key, 1)
    (first, second), files_of_two = come_to(tmp_path / "two", key, 2)
    assert files_of_two == files
    assert first["steps"] == second["steps"] == one["steps"] == EPOCHS * modules.BATCHES
    for name, value in one["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name]), name
        torch.testing.assert_close(first["weights"][name], value, rtol=1e-5, atol=1e-5)
    starts, _ = DIFFER.get(key, ((), ""))
    left_out = (*NEVER_ALIKE, *([starts] if isinstance(starts, str) else starts))
    names = {name for _, name, _ in one["logged"]}
    assert {name for _, name, _ in first["logged"]} == names
    of_two = {(step, name): value for step, name, value in first["logged"]}
    of_one = {(step, name): value for step, name, value in one["logged"] if not name.startswith(left_out)}
    assert of_one
    for place, value in of_one.items():
        assert of_two[place] == pytest.approx(value, rel=2e-5, abs=1e-6, nan_ok=True), place
