"""What the report promises: within five seconds for a run of 1,000 epochs, under three megabytes, little at the end.

The runs are made without training, with the files and the names that a variational autoencoder of the jets leaves.
Times are the processor's, which other work on the machine lengthens less than a clock's: of a process that is started
for it, but for the end of a training, where torch and, after the figures of the run, matplotlib are there.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.rows import Row, run

REPEATS = 3
MEGABYTE = 1e6
SCORES = ("delta_r_w1", "efp_w1", "etarel_w1", "mass_w1", "multiplicity_w1", "phirel_w1", "pt_w1", "ptrel_w1")
CONFIG = """\
name: toy
seed: {seed}
objective: {{metric: val/neg_elbo, mode: min}}
data: {{seed: "${{seed}}", batch_size: 64}}
model: {{_target_: stablelit.families.jets.JetVAE, latent_dim: {latent_dim}}}
trainer: {{gradient_clip_val: 1.0, max_epochs: {epochs}}}
"""


def make_run(directory: Path, epochs: int, seed: int = 0, latent_dim: int = 24) -> Path:
    """The files of a run, about fifty names an epoch."""
    directory.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    lines = []
    for epoch in range(epochs):
        noise = rng.normal(size=20).tolist()
        value = 80 + 40 * math.exp(-8 * epoch / epochs) + noise[0]
        line = {
            "epoch": epoch,
            "step": 40 * (epoch + 1),
            "seconds": 2 + abs(noise[1]),
            "lr": 1e-3 * (1 - epoch / epochs),
        }
        line |= {"train/loss": value + 1, "train/recon": value - 4, "train/kl": 5 + noise[2], "val/kl": 5 + noise[3]}
        line |= {"val/loss": value, "val/neg_elbo": value, "val/neg_elbo_baseline": 118.0, "kl/target": 5.0}
        line |= {"kl/weight": 1 / (epoch + 1), "grad/clip_ratio": 0.5, "perf/data_wait_frac": abs(noise[4]) / 10}
        line |= {f"grad/norm_{name}": abs(noise[5]) + place for place, name in enumerate(("p50", "p95", "max"), 1)}
        line |= {f"val/{name}": 0.01 + abs(noise[6 + place]) for place, name in enumerate(SCORES)}
        line |= {f"val/{name}_floor": 0.01 for name in SCORES}
        line |= {f"posterior/unit_{place}": noise[place] for place in range(14)}
        lines.append(line)
    (directory / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (directory / "config.yaml").write_text(CONFIG.format(seed=seed, latent_dim=latent_dim, epochs=epochs))
    last = {name: value for name, value in lines[-1].items() if name.startswith("val/")}
    summary = {
        "name": "toy",
        "status": "finished",
        "epochs": epochs,
        "steps": 40 * epochs,
        "seconds": 2.0 * epochs,
        "objective": {"metric": "val/neg_elbo", "mode": "min", "best": last["val/neg_elbo"]},
        "best": {"epoch": epochs - 1, **last},
        "test": {name.replace("val/", "test/"): value for name, value in last.items()},
    }
    (directory / "summary.json").write_text(json.dumps(summary))
    return directory


def add_pictures(directory: Path, count: int = 8) -> Path:
    """Pictures as large as those of a family, which no compression makes small."""
    (directory / "figures").mkdir()
    for place in range(count):
        pixels = np.random.default_rng(place).integers(0, 256, (700, 900, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(directory / "figures" / f"picture_{place}.png")
    return directory


def processor_seconds(*arguments: str, repeats: int = REPEATS) -> float:
    """The time of a process, the median over repeats."""
    times = []
    for _ in range(repeats):
        before = os.times()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = os.times()
        times.append(after.children_user - before.children_user + after.children_system - before.children_system)
    return statistics.median(times)


def seconds_at_the_end(directory: Path, drawn_before: bool) -> float:
    """What `train` pays; the process has torch, and matplotlib where the run has drawn figures."""
    code = (
        "import sys, time, torch, stablelit.report.writing as writing; from pathlib import Path\n"
        f"if {drawn_before}:\n"
        "    import io; from matplotlib.figure import Figure\n"
        "    Figure().subplots().figure.savefig(io.BytesIO())\n"
        "began = time.process_time(); writing.write_run_report(Path(sys.argv[1])); print(time.process_time() - began)"
    )
    done = [
        subprocess.run([sys.executable, "-c", code, str(directory)], check=True, capture_output=True, text=True).stdout
        for _ in range(REPEATS)
    ]
    return statistics.median(map(float, done))


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        long = add_pictures(make_run(root / "long", 1000))
        beside = processor_seconds("-c", "import matplotlib.figure, matplotlib.backends.backend_svg")
        spent = processor_seconds("-m", "stablelit.report", str(long))
        yield Row(
            "one run of 1,000 epochs", spent, "s", 5.0, peer="matplotlib alone", peer_value=beside, repeats=REPEATS
        )
        size = (long / "report.html").stat().st_size / MEGABYTE
        yield Row("its page, with 8 pictures of noise", size, "MB", 3.0)

        short = make_run(root / "short", 12)
        for drawn, told in ((True, "has drawn figures"), (False, "has drawn nothing")):
            spent = seconds_at_the_end(short, drawn)
            yield Row(f"at the end of a training of 12 epochs that {told}", spent, "s", 1.5, repeats=REPEATS)

        for place in range(1000):
            make_run(root / "many" / f"{place:04d}", 20, seed=place % 4, latent_dim=place // 4)
        spent = processor_seconds("-m", "stablelit.report", str(root / "many"), repeats=1)
        yield Row("1,000 runs side by side", spent, "s", 30.0)
        yield Row("their page", (root / "many" / "report.html").stat().st_size / MEGABYTE, "MB", 3.0)


if __name__ == "__main__":
    sys.exit(run("report", rows()))
