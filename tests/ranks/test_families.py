"""Every family on two forked ranks beside one process with the same global batch: one loss, step by step, one model.

What is drawn at random does not know on which rank its row is (`RowsAlike`), and no batch norm looks at other rows: on
the CPU torch cannot synchronise one.
"""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from hydra import compose, initialize_config_module

from stablelit.run.build import build_data, build_module
from tests.ranks.two_ranks import in_a_process, with_rows_alike

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

_SKETCHES = ["data.n_classes=20", "data.per_class=12", "data.size=16", "model.encoder.width=8", "model.augment=null"]
# Adam divides by the size of a gradient: where it is nothing but rounding, as that of a bias before a norm, it moves as
# far as any other
_SKETCHES += ["optimizer=sgd", "model.encoder.norm=group", "model.projection_norm=layer", "model.few_shot=[[3,1]]"]
_JETS = ["data.n_jets=200", "data.train=120", "data.val=30", "data.test=50", "model.latent_dim=4"]
_PROTEINS = ["data.n_sequences=300", "data.length={median:20}", "data.multiple_of=64", "model.network.d_model=16"]
_PROTEINS += ["model.network.blocks=1", "model.network.heads=2", "model.network.condition=8"]
_NEUTRINOS = ["data.n_events=1600", "model.network.d_model=16", "model.network.event_layers=1", "model.network.heads=2"]
_CAUSAL = ["data.sem.rows=450"]
# experiment, settings and global batch (None: all rows are one)
RECIPES = {
    "jets": ("jets", [*_JETS, "model.particle_hidden=16", "model.augment=[]"], 20),
    "proteins": ("proteins", _PROTEINS, 16),
    "causal-batches-with-holes": ("causal", [*_CAUSAL, "model.bootstrap=0"], 32),
    "causal-unequal-parts-of-all-rows": ("causal", [*_CAUSAL, "model.bootstrap=0", "data.steps_per_epoch=6"], None),
    "causal-correlation-of-codes": ("causal_before", _CAUSAL, 32),
    "sketches-negatives-of-all-ranks": ("sketches", _SKETCHES, 24),
    "sketches-byol": ("sketches_byol", _SKETCHES, 24),
    "neutrinos": ("neutrinos", [*_NEUTRINOS, "model.track_weight=1", "model.energy_weight=1"], 16),
}
STEPS = 6


class Trace(pl.Callback):
    """Writes the mean loss over ranks of every step, and what the model is in the end."""

    def __init__(self, path):
        self.path, self.losses = path, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        loss = outputs["loss"].detach().double().clone()
        self.losses.append(float(trainer.strategy.reduce(loss, reduce_op="mean")))

    def on_train_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            trained = {name: p.detach().clone() for name, p in pl_module.named_parameters()}
            torch.save({"losses": self.losses, "parameters": trained}, self.path)


def train(experiment, settings, batch, ranks, path):
    torch.set_num_threads(1)
    size = [] if batch is None else [f"data.batch_size={batch // ranks}"]
    with initialize_config_module("stablelit.conf", version_base="1.3"):
        config = compose("train", [f"+experiment={experiment}", *settings, *size])
    pl.seed_everything(0, verbose=False)
    data, module = build_data(config), with_rows_alike(build_module(config), "training_step")
    pl.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy="ddp_fork" if ranks > 1 else "auto",
        max_epochs=1,
        limit_train_batches=STEPS,
        limit_val_batches=0,
        gradient_clip_val=config.trainer.gradient_clip_val,
        callbacks=[Trace(path)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, datamodule=data)


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_ranks_train_as_one_process_with_the_whole_batch(recipe, tmp_path, tmp_path_factory):
    experiment, settings, batch = RECIPES[recipe]
    if experiment == "neutrinos":
        settings = [*settings, f"data.cache_dir={tmp_path_factory.getbasetemp()}/events"]
    runs = []
    for ranks in (1, 2):
        path = tmp_path / f"{ranks}.pt"
        in_a_process(train, experiment, settings, batch, ranks, path)
        runs.append(torch.load(path, weights_only=True))
    one, two = runs
    assert len(one["losses"]) == STEPS
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    far = {name: float((p - two["parameters"][name]).abs().max()) for name, p in one["parameters"].items()}
    assert max(far.values()) < 1e-4, far
