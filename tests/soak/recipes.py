"""Every shipped experiment with all its callbacks, made small by overrides: a few steps of a few epochs."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from stablelit.families.proteins import decode
from stablelit.families.proteins.fasta_writer import FastaRecord, write_fasta

FAMILIES = ("jets", "causal", "proteins", "sketches", "neutrinos")

_ALL = [
    "trainer=cpu",
    "model_summary=null",
    "threads=1",
    "trainer.log_every_n_steps=1",
    "trainer.num_sanity_val_steps=1",
    "trainer.max_epochs=3",
    "test=false",
    # it tells of times
    "report=false",
    # of itself the doctor spaces its looks by the clock: what it has seen would differ
    "++callbacks.doctor.every_n_steps=1",
    # inside epochs too, in two ways; of the named steps the second is the last of its epoch in most recipes
    "+callbacks.named._target_=stablelit.callbacks.StepCheckpoint",
    "+callbacks.named.steps=[3,1ep]",
    "+callbacks.often._target_=lightning.pytorch.callbacks.ModelCheckpoint",
    "+callbacks.often.dirpath=${run_dir}/checkpoints",
    "+callbacks.often.filename=often",
    "+callbacks.often.every_n_train_steps=2",
    "+callbacks.often.enable_version_counter=false",
]
_SMALL = {
    "jets": ["data.n_jets=80", "data.n_particles=8", "data.batch_size=14", "model.test_metrics=[w1]"],
    "causal": ["data.sem.rows=400", "model.bootstrap=2", "data.steps_per_epoch=4"],
    "proteins": ["data.n_sequences=120", "data.length=16", "data.batch_size=16", "model.validation_draws=1"],
    "sketches": [
        "data.n_classes=20",
        "data.per_class=8",
        "data.size=16",
        "data.batch_size=16",
        "data.n_val_episodes=4",
        "data.n_test_episodes=4",
    ],
    "neutrinos": [
        "data.n_events=1600",
        "data.batch_size=8",
        "trainer.limit_val_batches=3",
        "trainer.limit_train_batches=5",
    ],
}

# of a GPU and prepared data
_UNIREF50 = [
    "model/network=ddit_tiny",
    "data.max_tokens=600",
    "data.train=0.8",
    "data.val=0.1",
    "data.test=0.1",
    "data.max_length=64",
    "trainer.limit_train_batches=5",
    "trainer.precision=bf16-mixed",
    "lr_schedule.warmup=2st",
    "callbacks.sample_writer.n=2",
    "callbacks.sample_writer.steps=[3]",
    # it has one of its own
    "~callbacks.named",
    "callbacks.step_checkpoint.steps=[3,1ep,7]",
]
# of 250 jets, a validation in every tenth epoch, and a ramp that ends behind the last of these
_POSTMORTEM_JETS = [
    *_SMALL["jets"],
    *("data.train=50", "data.val=15", "data.test=15", "data.batch_size=4"),
    "trainer.check_val_every_n_epoch=1",
    "callbacks.kl_cap.warmup=1ep",
]
_OTHER = {
    "proteins_uniref50": _UNIREF50,
    "causal_sachs": ["model.bootstrap=2", "data.steps_per_epoch=4"],
    "jets_before": _POSTMORTEM_JETS,
    "jets_after": _POSTMORTEM_JETS,
}


def recipe(experiment: str, files: Path, pictures: bool = False) -> list[str]:
    """The command line of an experiment.

    Args:
        experiment: its name.
        files: where data that it needs as files, and caches, lie.
        pictures: draw them too, which costs more than all the rest.
    """
    family = experiment.partition("_")[0]
    drawn = [] if pictures else ["~callbacks.figures"]
    small = _OTHER.get(experiment, _SMALL[family])
    return [f"+experiment={experiment}", *_ALL, *small, *drawn, *_special(experiment, files)]


def _special(experiment: str, files: Path) -> list[str]:
    files.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    if experiment.startswith("neutrinos"):
        return [f"data.cache_dir={files}"]
    if experiment == "proteins_uniref50":
        path = files / "some.fasta"
        codes = rng.integers(20, size=(200, 30))
        write_fasta(path, (FastaRecord(f"UniRef50_{i}", decode(one)) for i, one in enumerate(codes)))
        return [f"data.path={path}", f"++data.cache_dir={files}"]
    if experiment == "causal_sachs":
        path = files / "cells.txt"
        rows = ["\t".join(f"{value:.4f}" for value in cell) for cell in rng.lognormal(size=(60, 3))]
        path.write_text("\n".join(["raf\tmek\terk", *rows]) + "\n", encoding="utf-8")
        return [f"data.path={path}"]
    if experiment == "sketches_fewshot":
        return ["data.n_episodes=5", "data.n_way=4", "data.eval_way=3", "data.n_query=3", "model.encoder_from=null"]
    if experiment == "sketches_omniglot":
        return [f"data.path={_characters(files)}", "model.few_shot=[[3,1]]"]
    return ["model.few_shot=[[3,1]]"] if experiment.startswith("sketches") else []


def _characters(files: Path) -> Path:
    """Five alphabets of four characters by six hands, in Omniglot's layout."""
    rng, root = np.random.default_rng(0), files / "images_background"
    for alphabet, character in product(("Aa", "Bb", "Cc", "Dd", "Ee"), range(1, 5)):
        place = root / alphabet / f"character{character:02d}"
        place.mkdir(parents=True, exist_ok=True)
        for hand in range(1, 7):
            page = np.full((105, 105), True)
            x, y = rng.integers(10, 50, 2)
            page[y : y + 8 * character, x : x + 40] = False
            Image.fromarray(page).save(place / f"{character:04d}_{hand:02d}.png")
    return root
