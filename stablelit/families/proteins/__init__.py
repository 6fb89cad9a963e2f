"""Proteins: discrete diffusion on sequences of amino acids, on toy sequences of a known law or your own FASTA file.

>>> from stablelit.families.proteins import encode
>>> encode("ACX").tolist()
[0, 1, 20]
"""

from __future__ import annotations

from stablelit.lazy_exports import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AMINO_ACIDS": "alphabet",
        "DiffusionTransformer": "network",
        "ProteinDataModule": "datamodule",
        "ScoreEntropyDiffusion": "module",
        "build_corpus": "corpora",
        "decode": "alphabet",
        "encode": "alphabet",
    },
)
