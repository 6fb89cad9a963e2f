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


def write_embeddings(predictions: Sequence[Mapping[str, Tensor]], path: str | Path) -> dict[str, Any]:
    """Writes ``embedding`` ``(n, d)`` float32, ``label`` and ``id`` ``(n,)`` int64.

    Args:
        predictions: of all batches, with these keys.
        path: .npz (``numpy.load(path)["embedding"]``), or .csv (id, label, then the numbers of the embedding).

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
    with replacing(path) as temporary:
        if path.suffix == ".npz":
            with temporary.open("wb") as file:
                np.savez(file, **{**columns, "embedding": embedding})
        else:
            with temporary.open("w", newline="", encoding="utf-8") as text:
                writer = csv.writer(text)
                writer.writerow(["id", "label", *(f"h{k}" for k in range(embedding.shape[1]))])
                rows = zip(columns["id"].tolist(), columns["label"].tolist(), embedding.tolist(), strict=True)
                writer.writerows([i, label, *h] for i, label, h in rows)
    return {"sketches": len(embedding), "dimensions": embedding.shape[1]}
