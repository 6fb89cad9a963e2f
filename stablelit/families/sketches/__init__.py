"""Sketches: contrastive pre-training (SimCLR, BYOL) and few-shot recognition, on generated or your own drawings."""

from __future__ import annotations

from stablelit.lazy_exports import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Sketches": "sketches",
        "Strokes": "strokes",
    },
)
