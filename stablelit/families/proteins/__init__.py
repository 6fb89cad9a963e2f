"""Proteins: discrete diffusion on sequences of amino acids, on toy sequences of a known law or your own FASTA file.

>>> from stablelit.families.proteins import encode
>>> encode("ACX").tolist()
[0, 1, 20]
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "AMINO_ACIDS": "alphabet",
    "DiffusionTransformer": "network",
    "ProteinDataModule": "datamodule",
    "ScoreEntropyDiffusion": "module",
    "build_corpus": "corpora",
    "decode": "alphabet",
    "encode": "alphabet",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
