"""What can be done with the encoder of any module of the family: embed sketches into a file, and probe it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor

from stablelit.families.sketches.dataset import Batch
from stablelit.families.sketches.embedding_file import SUFFIXES, write_embeddings
from stablelit.families.sketches.probe import probe_encoder


class EmbedsSketches(LightningModule):
    """A module whose output is that of its `encoder`, for pictures of `image_size`."""

    prediction_suffixes = SUFFIXES
    image_size: int

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The encoder's ``(B, d)``, label and id ``(B,)``."""
        del batch_idx
        return {"embedding": self(batch["image"]).float(), "label": batch["label"], "id": batch["id"]}

    def write_predictions(self, predictions: Sequence[Mapping[str, Tensor]], path: str | Path) -> dict[str, Any]:
        """Writes embeddings, labels and ids, and the files and classes that the data module knows of.

        See `write_embeddings`.
        """
        datamodule = getattr(self._trainer, "datamodule", None)
        return write_embeddings(
            predictions, path, getattr(datamodule, "places", None), getattr(datamodule, "classes", ())
        )

    def probe(
        self,
        path: str,
        format: str = "auto",
        train: float = 0.5,
        repeats: int = 3,
        seed: int = 0,
        max_per_class: int | None = None,
        line_width: float = 1.5,
    ) -> dict[str, Any]:
        """A linear probe of the encoder on labelled sketches of somebody's own; see `probe_encoder`."""
        return probe_encoder(
            self.encoder, self.image_size, path, format, train, repeats, seed, max_per_class, line_width
        )
