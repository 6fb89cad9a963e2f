"""Embeddings as a file: arrays for numpy, or a table."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stablelit.data.files import replacing
from stablelit.errors import DataError

SUFFIXES = (".npz", ".csv")


def write_embeddings(
    predictions: Sequence[Mapping[str, Tensor]],
    path: str | Path,
    places: Sequence[str] | None = None,
    classes: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes ``embedding`` ``(n, d)`` float32, ``label`` and ``id`` ``(n,)`` int64; with places also their names.

    Args:
        predictions: of all batches, with these keys.
        path: .npz (``numpy.load(path)["embedding"]``), or .csv (id, label, names, then the numbers of the embedding).
        places: the file of each id, or file:line; they become ``source`` ``(n,)``.
        classes: the name of each label; they become ``class`` ``(n,)``, empty where the label is -1.

    Returns:
        How many sketches, and d.

    Raises:
        DataError: an embedding that is not finite; the message has the sketch's id.
    """
    path = Path(path)
    columns = {name: torch.cat([p[name] for p in predictions]).cpu().numpy() for name in ("embedding", "label", "id")}
    embedding = columns["embedding"].astype(np.float32)
    wrong = ~np.isfinite(embedding).all(axis=1)
    if wrong.any():
        first = int(columns["id"][np.argmax(wrong)])
        raise DataError(
            f"{path}: {int(wrong.sum())} of {len(wrong)} embeddings are not finite, the first of sketch {first}. "
            f"The encoder diverged: take an earlier checkpoint."
        )
    if places is not None:
        columns["source"] = np.array([places[i] for i in columns["id"]])
        columns["class"] = np.array([classes[k] if 0 <= k < len(classes) else "" for k in columns["label"]])
    with replacing(path) as temporary:
        if path.suffix == ".npz":
            with temporary.open("wb") as file:
                np.savez(file, **{**columns, "embedding": embedding})
        else:
            with temporary.open("w", newline="", encoding="utf-8") as text:
                writer = csv.writer(text)
                told = [name for name in ("id", "label", "class", "source") if name in columns]
                writer.writerow([*told, *(f"h{k}" for k in range(embedding.shape[1]))])
                rows = zip(*(columns[name].tolist() for name in told), embedding.tolist(), strict=True)
                writer.writerows([*of, *h] for *of, h in rows)
    return {"sketches": len(embedding), "dimensions": embedding.shape[1]}
