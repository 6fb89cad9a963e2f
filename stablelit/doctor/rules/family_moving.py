r"""Objectives that move, and averages that lag behind.

Under a curriculum the training loss is a loss of another task at every step: that it rises says nothing. What can be
compared is the loss at full difficulty with that of the model before it was trained, at full difficulty too.
"""

from __future__ import annotations

import numpy as np

from stablelit.doctor.evidence import Evidence
from stablelit.findings import Finding

_FULL, _EARLY, _LONG = 0.99, 0.1, 0.2
_WORSE = 1.02


def too_fast(evidence: Evidence) -> Finding | None:
    """Where full difficulty is reached, the training loss lies above the first validation loss.

    Validation is at full difficulty whatever the ramp. Only a validation in the first tenth of the ramp stands for the
    untrained model, and it is compared with the first tenth of a ramp's length behind the ramp's end.
    """
    difficulty = evidence.curve("difficulty").finite()
    validation = evidence.curve("val_loss").finite()
    if len(difficulty) < 3 or not len(validation):
        return None
    top = float(difficulty.values.max())
    reached = np.flatnonzero(difficulty.values >= _FULL * top)
    start, end = float(difficulty.steps[0]), float(difficulty.steps[reached[0]])
    if float(difficulty.values[0]) >= _FULL * top or float(validation.steps[0]) > start + _EARLY * (end - start):
        return None
    after = evidence.curve("loss").finite().since(end)
    after_values = after.values[after.steps <= end + max(_EARLY * (end - start), 1.0)]
    if not len(after_values):
        return None
    untrained, now = float(validation.values[0]), float(np.median(after_values))
    if untrained <= 0 or now <= _WORSE * untrained:
        return None
    return Finding(
        "curriculum-too-fast",
        "warning",
        f"at full difficulty the loss is {now:.4g}, above the {untrained:.4g} of the untrained model: what was learned "
        f"on easy samples has not helped with the task itself.",
        {"loss": now, "untrained": untrained, "ramp_steps": end - start},
        "a ramp several times as long, or none",
    )


def remembers_the_start(evidence: Evidence) -> Finding | None:
    r"""An average over :math:`1/(1-d)` steps, more than a fifth of the run. A note."""
    decay, planned = float(evidence.curve("ema_decay").last), evidence.planned_steps
    if planned is None or not 0.5 < decay < 1.0 or evidence.settings.steps_per_epoch == 1:
        return None
    length = 1.0 / (1.0 - decay)
    if length <= _LONG * planned:
        return None
    return Finding(
        "average-remembers-the-start",
        "info",
        f"an average with decay {decay:g} is {length:.0f} steps long, and the run has {planned} (expected: at most "
        f"{_LONG:.0%} of it): unless its decay warms up, it still holds the untrained weights.",
        {"decay": decay, "length": length, "planned_steps": planned},
        f"{evidence.settings.override('ema_decay', 1.0 - 10.0 / planned)}",
    )
