"""Directories as runs leave them, made without training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

CONFIG = """\
# What this run was, complete.
name: {name}
seed: {seed}
objective:
  metric: val/neg_elbo
  mode: min
data:
  _target_: stablelit.families.{family}.Data
  seed: ${{seed}}
  batch_size: 64
model:
  _target_: stablelit.families.{family}.Model
  latent_dim: 8
  learning_rate: 1e-3
callbacks:
  kl_cap:
    kl_target: {kl_target}
trainer:
  gradient_clip_val: 1.0
  max_epochs: {epochs}
hydra:
  run:
    dir: .
"""


def line(epoch: int, scale: float = 1.0) -> dict[str, Any]:
    """An epoch of a variational autoencoder that learns."""
    value = scale * (80 + 40 * math.exp(-epoch / 5))
    return {
        "epoch": epoch,
        "step": 10 * (epoch + 1),
        "seconds": 2.0,
        "lr": 1e-3 / (epoch + 1),
        "grad/clip_ratio": 0.5,
        "grad/norm_max": 4.0,
        "grad/norm_p50": 2.0,
        "grad/norm_p95": 3.0,
        "kl/target": 5.0,
        "kl/weight": 1.0 - 0.01 * epoch,
        "perf/data_wait_frac": 0.25,
        "train/kl": 4.0 + 0.1 * epoch,
        "train/loss": value + 2,
        "train/recon": value - 3,
        "val/kl": 4.5,
        "val/loss": value,
        "val/neg_elbo": value,
        "val/neg_elbo_baseline": 118.0,
    }


def make_run(
    directory: Path,
    epochs: int = 12,
    *,
    name: str = "toy",
    family: str = "jets",
    kl_target: float = 5.0,
    seed: int = 0,
    scale: float = 1.0,
    summary: Mapping[str, Any] | None = None,
    findings: list[dict[str, Any]] | None = None,
    change: Callable[[dict[str, Any]], dict[str, Any]] = lambda made: made,
) -> Path:
    """Writes the files of a finished run; `summary={}` leaves the summary away, as a run that goes on does."""
    directory.mkdir(parents=True)
    lines = [change(line(epoch, scale)) for epoch in range(epochs)]
    (directory / "history.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    held = {"name": name, "family": family, "kl_target": kl_target, "seed": seed, "epochs": epochs}
    (directory / "config.yaml").write_text(CONFIG.format(**held))
    (directory / "overrides.yaml").write_text(
        f"config_name: train\nconfig_dir: null\noverrides:\n- +experiment={name}\n- seed={seed}\n"
    )
    if summary is None:
        best = lines[-1]
        summary = {
            "name": name,
            "status": "finished",
            "error": None,
            "seed": seed,
            "seconds": 134.8,
            "epochs": epochs,
            "steps": 10 * epochs,
            "objective": {"metric": "val/neg_elbo", "mode": "min", "best": best["val/neg_elbo"]},
            "best": best,
            "final": best,
            "test": {
                "test/neg_elbo": 82.0 * scale,
                "test/neg_elbo_std": 0.5,
                "test/neg_elbo_baseline": 119.0,
                "test/kl": 4.9,
            },
            "data": {"source": "toy", "splits": {"train": 100}},
            "versions": {"torch": "2.0"},
            "code": {"commit": "abc"},
        }
    if summary:
        (directory / "summary.json").write_text(json.dumps(summary))
    if findings:
        (directory / "findings.jsonl").write_text("".join(json.dumps(one) + "\n" for one in findings))
    return directory


def finding(name: str = "cap-ineffective", severity: str = "warning", step: int = 35, **more: Any) -> dict[str, Any]:
    """A line of findings.jsonl."""
    return {
        "name": name,
        "severity": severity,
        "message": "The cap does nothing.",
        "evidence": {"kl": 73.0, "cap": 20.0},
        "remedy": "callbacks.kl_cap.kl_target=20",
        "source": "KLCapCallback",
        "step": step,
        **more,
    }


def make_picture(path: Path, width: int = 320, height: int = 200, noise: bool = False) -> Path:
    """A PNG; of noise it cannot be made small."""
    import numpy as np
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((height, width, 3), 255, dtype=np.uint8)
    pixels[20:60, 30:200] = (0, 114, 178)
    if noise:
        pixels = np.random.default_rng(len(path.name)).integers(0, 256, pixels.shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
