"""Every family's validation and test on two forked ranks beside one process, of a number of samples that two does not
divide: each sample once, and the same values of everything that is logged.

What is drawn at random does not know on which rank its row is (`RowsAlike`).
"""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from hydra import compose, initialize_config_module

from stablelit.run.build import build_data, build_module
from tests.ranks.test_families import RECIPES
from tests.ranks.two_ranks import in_a_process, with_rows_alike

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

BATCH = 8
# name: recipe of test_families.py, and settings that leave an odd number to test
EVALUATED = {
    "jets": ("jets", ["data.val=29", "data.test=37"]),
    # batches of ranks are then those of one process, and draw as they do: an even number, without RowsAlike
    "jets-whole-windows": ("jets", ["data.val=32", "data.test=48"]),
    "neutrinos": ("neutrinos", ["data.n_events=1601"]),
    "proteins": ("proteins", ["data.n_sequences=319"]),
    "causal": ("causal-batches-with-holes", []),
    "sketches": ("sketches-byol", ["data.n_classes=25", "data.per_class=13"]),
}
# estimates from random halves and draws of the samples in the order in which ranks give them
RANDOM = ("_floor", "_std", "_iqr_baseline")
# of draws of which `RowsAlike` does not know
DRAWN = ("_median", "_iqr")


class Seen(pl.Callback):
    """Writes which samples a rank has evaluated, and what came of it."""

    def __init__(self, path):
        self.path, self.seen = path, {"val": [], "test": []}

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, *args):
        if not trainer.sanity_checking:
            self.seen["val"].append(identities(batch))

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, *args):
        self.seen["test"].append(identities(batch))

    def on_fit_end(self, trainer, pl_module):
        self.write(trainer, "val")

    def on_test_end(self, trainer, pl_module):
        self.write(trainer, "test")

    def write(self, trainer, stage):
        logged = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(f"{stage}/")}
        told = {"seen": self.seen[stage], "logged": logged}
        torch.save(told, f"{self.path}-{stage}-{trainer.global_rank}.pt")


def identities(batch):
    """Of each sample something that no other has."""
    key = next(name for name in ("id", "particles", "values", "image", "tokens") if name in batch)
    rows = batch[key].flatten(1) if batch[key].ndim > 1 else batch[key][:, None]
    weights = torch.arange(1, rows.shape[1] + 1, dtype=torch.float64).sqrt()
    return (rows.double() * weights).sum(1).tolist()


def evaluate(experiment, settings, alike, ranks, path):
    torch.set_num_threads(1)
    with initialize_config_module("stablelit.conf", version_base="1.3"):
        config = compose("train", [f"+experiment={experiment}", *settings, f"data.batch_size={BATCH}"])
    pl.seed_everything(0, verbose=False)
    data, module = build_data(config), build_module(config)
    if alike:
        module = with_rows_alike(module, "training_step", "validation_step", "test_step")
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy="ddp_fork" if ranks > 1 else "auto",
        max_epochs=1,
        # no training: the ranks' models are the same to the last bit
        limit_train_batches=1,
        num_sanity_val_steps=0,
        callbacks=[Seen(path)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), 0.0)
    trainer.fit(module, datamodule=data)
    checkpoint = path.parent / "one.ckpt"
    if ranks == 1:
        trainer.save_checkpoint(checkpoint)
    trainer.test(module, datamodule=data, ckpt_path=checkpoint, verbose=False)


@pytest.mark.parametrize("name", EVALUATED)
def test_two_ranks_evaluate_each_sample_once_and_log_what_one_process_does(name, tmp_path, tmp_path_factory):
    (recipe, more), alike = EVALUATED[name], not name.endswith("whole-windows")
    experiment, settings, _ = RECIPES[recipe]
    settings = [*settings, *more]
    if name == "neutrinos":
        settings = [*settings, f"data.cache_dir={tmp_path_factory.getbasetemp()}/events"]
    for ranks in (1, 2):
        in_a_process(evaluate, experiment, settings, alike, ranks, tmp_path / str(ranks))
    for stage in ("val", "test"):
        one = torch.load(f"{tmp_path}/1-{stage}-0.pt", weights_only=True)
        two = [torch.load(f"{tmp_path}/2-{stage}-{rank}.pt", weights_only=True) for rank in (0, 1)]
        every = sorted(sample for batch in one["seen"] for sample in batch)
        assert stage == "val" or len(every) % 2 == alike
        assert sorted(sample for rank in two for batch in rank["seen"] for sample in batch) == every
        assert len(two[0]["seen"]) == len(two[1]["seen"])
        for rank in two:
            assert set(rank["logged"]) == set(one["logged"])
        left_out = (*RANDOM, *DRAWN) if alike else RANDOM
        exact = {what: value for what, value in one["logged"].items() if not what.endswith(left_out)}
        assert exact
        for what, value in exact.items():
            assert two[0]["logged"][what] == pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True), what
