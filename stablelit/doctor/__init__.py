"""The doctor: why a run fails, and what to change.

>>> from stablelit.doctor import TrainingDoctor
>>> TrainingDoctor(mode="observe")
TrainingDoctor(mode='observe', mute=[])
"""

from __future__ import annotations

from stablelit.lazy_exports import lazy_exports

_names, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Diagnosis": "diagnosis",
        "Evidence": "evidence",
        "Rank": "rule",
        "Rule": "rule",
        "TrainingDoctor": "training_doctor",
        "diagnose": "diagnosis",
    },
)
__all__ = [*_names]
