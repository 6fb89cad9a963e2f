"""An encoder judged on a folder of somebody's own: a linear probe and neighbours, beside an untrained encoder."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stablelit.errors import DataError
from stablelit.families.sketches.features import encoded_images
from stablelit.families.sketches.linear_probe import fit_linear_probe
from stablelit.families.sketches.opened_sketches import pictures_of
from stablelit.families.sketches.pretrained import untrained_twin
from stablelit.families.sketches.readers import open_source
from stablelit.families.sketches.splits import stratified
from stablelit.functional.schedules import check_count, check_number

_OWNER = "probe"


def probe_encoder(
    encoder: nn.Module,
    image_size: int,
    path: str,
    format: str = "auto",
    train: float = 0.5,
    repeats: int = 3,
    seed: int = 0,
    max_per_class: int | None = None,
    line_width: float = 1.5,
) -> dict[str, Any]:
    """Fits a linear probe to h of labelled sketches and judges it by others, several times.

    Args:
        encoder: in evaluation mode, ``(B, 1, S, S)`` to ``(B, d)``.
        image_size: S.
        path: of any format of `readers`, with classes.
        format: one of `readers.FORMATS`, or "auto".
        train: the share of each class that a probe is fitted to; the others judge it.
        repeats: splits of the data; the scores are medians over them.
        seed: of the first split.
        max_per_class: sketches of a class that are read at most.
        line_width: of what is drawn from strokes, pixels.

    Returns:
        ``linear_top1`` with ``_baseline`` (an untrained encoder), ``_pixels``, ``_chance`` (the largest class) and
        ``_interval`` (half of the binomial 95 % interval); and what was read.

    Raises:
        ConfigurationError: an argument outside its range.
        DataError: data that cannot be used, or without two classes.
    """
    check_number(_OWNER, "train", train, above=0.0, at_most=0.95)
    check_count(_OWNER, "repeats", repeats, 1)
    check_count(_OWNER, "seed", seed, 0)
    sketches = open_source(path, format, image_size, max_per_class=max_per_class, seed=seed)
    images = pictures_of(sketches, image_size, line_width)
    known = np.flatnonzero(sketches.labels >= 0)
    if len(np.unique(sketches.labels[known])) < 2:
        raise DataError(
            f"{path}: a probe needs at least two classes, and these {len(sketches)} sketches have "
            f"{len(np.unique(sketches.labels[known]))}. Put them into a folder a class."
        )
    labels = torch.from_numpy(sketches.labels[known])
    ink = torch.from_numpy(images[known]).unsqueeze(1).float().div_(255.0)
    some = ink[torch.linspace(0, len(ink) - 1, min(len(ink), 1024)).long()]
    features = {
        "": encoded_images(encoder, ink),
        "_baseline": encoded_images(untrained_twin(encoder), ink),
        "_calibrated": encoded_images(untrained_twin(encoder, some), ink),
        "_pixels": ink.flatten(1),
    }
    found: dict[str, list[float]] = {suffix: [] for suffix in features}
    n_judged = 0
    for repeat in range(repeats):
        fitted, judged, _ = stratified(labels.numpy(), {"train": train, "val": 1.0 - train, "test": 0.0}, seed + repeat)
        n_judged = len(judged)
        for suffix, of in features.items():
            linear = fit_linear_probe(of[fitted], labels[fitted])
            found[suffix].append(float(linear.accuracy(of[judged], labels[judged])))
    scores = {f"linear_top1{suffix}": statistics.median(values) for suffix, values in found.items()}
    # held against the better of both
    scores["linear_top1_baseline"] = max(scores["linear_top1_baseline"], scores.pop("linear_top1_calibrated"))
    accuracy = scores["linear_top1"]
    scores["linear_top1_interval"] = 1.96 * (accuracy * (1.0 - accuracy) / max(n_judged, 1)) ** 0.5
    scores["linear_top1_chance"] = float(labels.unique(return_counts=True)[1].max() / len(labels))
    read = {"sketches": len(labels), "classes": len(labels.unique()), "judged by": n_judged, "splits": repeats}
    return {**scores, **read, "path": str(Path(path))}
