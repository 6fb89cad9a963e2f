"""What the proteins family promises: bounds beside known entropies, samples, a post-mortem's table, and speed.

Toy sequences are of a law that is known, so that every bound stands beside the truth; the real proteins are a hundred
TrEMBL entries, of which a small model can learn no more than frequencies. One thread.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch

from benchmarks.proteins_speed import rows as speed_rows
from benchmarks.rows import Row, run
from benchmarks.shipped_experiments import Outcome, outcome_of
from stablelit.families.proteins import ProteinDataModule, ScoreEntropyDiffusion, build_corpus
from stablelit.families.proteins.alphabet import encode
from stablelit.families.proteins.readers.fasta import FastaReader
from stablelit.families.proteins.scoring import absorbing_bound
from stablelit.generate import main as generate

SEEDS = (0, 1, 2, 3, 4)
CURRICULUM = "callbacks=[default,ema,curriculum,grad_clip_monitor,non_finite_guard,figures]"
N_SAMPLES = 500
POSTMORTEM = {0: 0.2584, 500: 0.7816, 1000: 1.1741, 2500: 2.0618, 5000: 2.3268}
"""Steps and losses of the post-mortem's table."""
DATA = (Path(os.environ.get("STABLELIT_TEST_DATA", "../shared/data")) / "proteins" / "trembl_100.fasta").resolve()
_SCRATCH = tempfile.TemporaryDirectory(prefix="stablelit-")


@cache
def trained(seed: int, *overrides: str) -> tuple[Outcome, Path]:
    """The shipped experiment at a seed, and its run's directory."""
    keep = Path(_SCRATCH.name) / f"{seed}{len(overrides)}"
    outcome = outcome_of("proteins", f"seed={seed}", *overrides, keep=str(keep))
    (directory,) = (path.parent for path in keep.rglob("summary.json"))
    return outcome, directory


def sample_nll(directory: Path) -> float:
    """Nats a residue of new sequences under the law that the training sequences are of."""
    path = directory / "samples.fasta"
    with contextlib.redirect_stdout(io.StringIO()):
        assert generate([f"run={directory}", f"n={N_SAMPLES}", f"output={path}"]) == 0
    letters = [record.split("\n", 1)[1].replace("\n", "") for record in path.read_text().split(">")[1:]]
    tokens = torch.tensor([encode(text).tolist() for text in letters])
    return float(-build_corpus("motif_hmm").log_prob(tokens.numpy()).sum()) / tokens.numel()


def bound_rows() -> Iterator[Row]:
    n = len(SEEDS)
    ours = [trained(seed) for seed in SEEDS]
    bounds = [outcome.test["test/nll"] for outcome, _ in ours]
    baseline, truth = (
        statistics.median(o.test[f"test/{name}"] for o, _ in ours) for name in ("nll_baseline", "nll_truth")
    )
    unit = "nats"
    beside = ("unigram", baseline)
    yield Row(
        "bound of the shipped experiment, per residue", statistics.median(bounds), unit, 2.36, "lower", *beside, n
    )
    yield Row("    its worst seed", max(bounds), unit, 2.42, "lower", "the truth", truth, n)
    yield Row("    its standard error", statistics.median(o.test["test/nll_se"] for o, _ in ours), unit, repeats=n)
    samples = statistics.median(sample_nll(directory) for _, directory in ours)
    yield Row("new sequences under the true law, per residue", samples, unit, 2.78, "lower", "the truth", truth, n)
    paced = [trained(seed, CURRICULUM)[0].test["test/nll"] for seed in SEEDS]
    gains = [without - with_it for without, with_it in zip(bounds, paced, strict=True)]
    error = statistics.stdev(gains) / math.sqrt(n)
    yield Row(
        "bound with a linear curriculum",
        statistics.median(paced),
        unit,
        None,
        "lower",
        "without",
        statistics.median(bounds),
        n,
    )
    yield Row(
        "    gained by it, seed by seed", statistics.mean(gains), unit, None, "higher", "standard error", error, n
    )


def untrained_rows() -> Iterator[Row]:
    """The post-mortem's table, of networks that never take a step."""
    network = {"d_model": 64, "blocks": 1, "heads": 2, "dropout": 0.0, "head_init": "kaiming"}
    noise = {"name": "half_cosine", "sigma_max": 0.8}
    torch.manual_seed(0)
    models = [
        ScoreEntropyDiffusion(network, noise=noise, noise_curriculum="corrupt_only", n_states=36, eps=1e-4).eval()
        for _ in range(20)
    ]
    tokens = torch.randint(20, (400, 64))
    every = torch.ones_like(tokens, dtype=torch.bool)
    batch = {"tokens": tokens, "loss_mask": every, "pad_mask": every, "has_padding": torch.tensor(False)}
    for step, theirs in POSTMORTEM.items():
        difficulty = 0.1 + 0.9 * (1 - math.exp(-3 * step / 5000))
        with torch.no_grad():
            losses = [
                float(m.objective.draw(m._head(batch), tokens, every, torch.rand(400), difficulty).nats.sum()) / 25_600
                for m in models
            ]
        name = f"loss of a network without training, 'step' {step}"
        yield Row(name, statistics.mean(losses), "nats", None, "lower", "post-mortem", theirs, len(models))


def estimator_rows() -> Iterator[Row]:
    """How much two estimates of one bound scatter, of an oracle, on the same sequences."""
    data = ProteinDataModule(n_sequences=2000, batch_size=256)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    corpus, every = data.corpus, torch.arange(len(batch["tokens"]))

    def head(codes: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        p = torch.as_tensor(corpus.posterior(codes.clamp(max=19).numpy(), (codes < 20).numpy()))
        return p.clamp_min(1e-30).log().float()

    model = ScoreEntropyDiffusion("tiny", parameterization="subs", loss="dce")
    x0, loss_mask, draws = batch["tokens"], batch["loss_mask"], model.validation_draws
    in_time, by_count = [], []
    for seed in range(64):
        torch.manual_seed(seed)
        nats = [model.objective.draw(head, x0, loss_mask, torch.rand(len(x0)), 1.0).nats for _ in range(draws)]
        in_time.append(float(sum(nats).sum() / loss_mask.sum()) / draws)
        drawn = [
            absorbing_bound(
                head, model.objective.graph, model.objective.noise, x0, loss_mask, every, 100 * seed, r, False
            )
            for r in range(draws)
        ]
        by_count.append(float(sum(one.nats for one in drawn).sum() / loss_mask.sum()) / draws)
    scatter, theirs = statistics.stdev(by_count), statistics.stdev(in_time)
    name = f"scatter of the t form over that of validation's, {draws} draws each"
    yield Row(name, theirs / scatter, "x", 2.0, "higher", "nats, ours", scatter, 64)


def n_gram_nll(data: ProteinDataModule, n: int) -> float:
    """Nats a residue of the test split under frequencies of n residues in training, each seen once more than it was."""
    counts = np.ones([20] * n)
    for split in ("train", "test"):
        total, residues = 0.0, 0
        for row in data.split_indices[split]:
            codes = data._data.sequences[row].astype(np.int64)
            # the first residues have fewer before them: they are left to a shorter memory, here to none
            grams = np.stack([codes[i : len(codes) - n + 1 + i] for i in range(n)])
            grams = grams[:, (grams < 20).all(axis=0)]
            if split == "train":
                np.add.at(counts, tuple(grams), 1)
            else:
                share = counts / counts.sum(axis=-1, keepdims=True)
                total, residues = total - np.log(share[tuple(grams)]).sum(), residues + grams.shape[1]
    return float(total / residues)


def real_rows() -> Iterator[Row]:
    if not DATA.is_file():
        print(f"no real proteins at {DATA}: set STABLELIT_TEST_DATA")
        return
    text = DATA.read_text()
    read = sum(len(block.lengths) for block, _ in FastaReader(DATA).blocks())
    yield Row("real proteins read", read, "records", text.count(">"), "higher", "in the file", text.count(">"))
    overrides = (f"data.path={DATA}", f"data.cache_dir={_SCRATCH.name}", "data.max_tokens=4096", "data.max_length=256")
    shares = (
        "data.train=0.8",
        "data.val=0.1",
        "data.test=0.1",
        "trainer.max_epochs=40",
        "trainer.limit_train_batches=1.0",
    )
    found = [outcome_of("proteins", f"seed={seed}", *overrides, *shares).test for seed in SEEDS[:3]]
    nll, baseline = (statistics.median(one[f"test/{name}"] for one in found) for name in ("nll", "nll_baseline"))
    yield Row("bound of real proteins, per residue", nll, "nats", baseline + 0.05, "lower", "unigram", baseline, 3)
    data = ProteinDataModule(
        str(DATA), cache_dir=_SCRATCH.name, max_length=256, train=0.8, val=0.1, test=0.1, seed=SEEDS[0]
    )
    data.setup()
    two, three = (n_gram_nll(data, n) for n in (2, 3))
    yield Row("    what two and three residues in a row tell of the same", two, "nats", None, "lower", "three", three)


def rows() -> Iterator[Row]:
    yield from untrained_rows()
    yield from estimator_rows()
    yield from speed_rows()
    yield from real_rows()
    yield from bound_rows()


if __name__ == "__main__":
    sys.exit(run("proteins", rows()))
