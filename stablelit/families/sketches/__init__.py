"""Sketches: contrastive pre-training (SimCLR, BYOL) and few-shot recognition, on generated or your own drawings."""

from __future__ import annotations

from stablelit.lazy_exports import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BYOL": "byol",
        "SimCLR": "simclr",
        "PrototypicalNetwork": "prototypical",
        "SketchAugment": "augmentation",
        "SketchCNN": "encoder",
        "SketchDataModule": "datamodule",
        "Sketches": "sketches",
        "StrokeAugment": "stroke_augmentation",
        "Strokes": "strokes",
        "byol_loss": "losses",
        "fit_linear_probe": "linear_probe",
        "generate_sketches": "generator",
        "generate_strokes": "generator",
        "open_source": "readers",
        "rasterise": "rasterise",
        "write_embeddings": "embedding_file",
    },
)
