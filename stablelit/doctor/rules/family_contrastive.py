r"""Whether a contrastive loss knows anything about the pairs.

A loss of N pairs is :math:`\ln(2N-1)` (NT-Xent) or :math:`\ln N` (CLIP) where every score is the same, whatever the
temperature and however small N is. 4.14 at a batch of 32 is :math:`\ln 63`: not "too few negatives", but none told
from the positive.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import numpy as np

from stablelit.doctor.evidence import Evidence
from stablelit.findings import Finding
from stablelit.functional.contrastive_health import AT_CHANCE
from stablelit.functional.contrastive_levels import chance_clip, chance_nt_xent
from stablelit.functional.medians import median_of
from stablelit.functional.trends import mann_kendall_z, noise_of

_CONTRASTIVE = re.compile(r"simclr|contrast|nt_?xent|info_?nce|clip_loss|moco|supcon|(^|[/_.-])ssl([/_.-]|$)", re.I)
_FEWEST_STEPS, _FEWEST_POINTS, _SHARE = 150, 10, 0.05
_LOOKED_AT = 64
# an optimizer that moves weights by less in a step has another fault
_HARDLY_MOVES = 1e-5
# without a word that says contrastive, the number itself has to be so near that chance is not likely to be a chance hit
# measured: at most 0.0056 off without information, at least 0.048 in runs that learn little
_NEAR, _NEAR_WITHOUT_WORD = 0.016, 0.004


class Level(NamedTuple):
    """What the loss is without information, why, and how near to it counts as being there."""

    chance: float
    formula: str
    near: float


def at_chance(evidence: Evidence) -> Finding | None:
    """The later half of the run lies at chance, and does not fall."""
    loss = evidence.curve("loss")
    enough = max(_FEWEST_STEPS, _SHARE * (evidence.planned_steps or 0))
    if evidence.settings.steps_per_epoch == 1:  # epochs are what is known
        enough = _FEWEST_POINTS
    if len(loss) < _FEWEST_POINTS or evidence.step < enough:
        return None
    # most runs are told apart here, for next to nothing
    level = median_of(loss.values[-_LOOKED_AT:])
    if not math.isfinite(level) or _level(evidence, level) is None:
        return None
    half = loss.since(0.5 * (float(loss.steps[0]) + float(loss.steps[-1])))
    blocks = half.blocks(12)
    level = median_of(blocks)
    known = _level(evidence, level)
    if known is None or _learns(blocks, evidence, known):
        return None
    rate = evidence.curve("update_ratio")
    if len(rate) and median_of(rate.tail(20).values) < _HARDLY_MOVES:
        return None
    spread = noise_of(blocks)
    return Finding(
        "contrastive-at-chance",
        "critical",
        f"the loss stays at {level:.4g} +- {spread:.2g}; {known.formula} = {known.chance:.4g} is what it is when "
        f"nothing is known of which views belong together: it holds {max(0.0, known.chance - level):.2g} nats about "
        f"the pairs.",
        {"loss": level, "chance": known.chance, "formula": known.formula, "noise": spread, "steps": evidence.step},
        "no batch size and no temperature mends this: look at which rows are taken for a pair, at a gradient that does "
        "not reach the encoder (detach, no_grad, an optimizer without it), at blank inputs and collapsed embeddings; "
        "ContrastiveHealthMonitor tells these apart",
    )


def _learns(blocks: np.ndarray, evidence: Evidence, known: Level) -> bool:
    values = blocks.tolist()
    if mann_kendall_z(values) < -2.0:
        return True
    # it has been clearly below, or it has come down to where it is
    whole = evidence.curve("loss").blocks(12)
    low = known.chance * (1.0 - 3.0 * known.near)
    return bool(whole.min() < low)


def _level(evidence: Evidence, loss: float) -> Level | None:
    """The chance level that fits: from the loss as it was traced, from what was logged, from the batch size."""
    traced = evidence.operations.whole if evidence.operations is not None else None
    if traced is not None:
        rows = traced.prediction_shape[0] if traced.prediction_shape else 0
        # its labels come from no batch, and there are as many candidates as rows
        contrasts = traced.kind == "cross_entropy" and not traced.target_leaf and traced.candidates
        if not contrasts or rows - 2 > (traced.classes or 0) or (traced.classes or 0) > rows:
            return None
        return _if_near(Level(math.log(traced.candidates or 1), f"ln {traced.candidates:.0f}", _NEAR), loss)
    logged = evidence.curve("chance")
    if len(logged) and math.isfinite(logged.last) and logged.last > 0:
        return _if_near(Level(logged.last, "the logged chance level", 1.0 - AT_CHANCE), loss)
    n = evidence.settings.batch_size
    if n is None or n < 4:
        return None
    pairs, half = chance_nt_xent(n), chance_clip(n)
    if min(abs(loss - pairs) / pairs, abs(loss - half) / half) > _NEAR:
        return None
    worded = _says_contrastive(evidence)
    levels = [Level(pairs, f"ln(2N-1) for N={n}", _NEAR if worded else _NEAR_WITHOUT_WORD)]
    if worded:
        levels.append(Level(half, f"ln N for N={n}", _NEAR))
    found = next((level for level in levels if _if_near(level, loss)), None)
    # NT-Xent comes by ln N on its way down, and any loss by any number
    sure = worded and found is levels[0]
    return found if found is None or sure or _flat_from_the_start(evidence, found) else None


def _if_near(level: Level, loss: float) -> Level | None:
    return level if abs(loss - level.chance) <= level.near * level.chance else None


def _flat_from_the_start(evidence: Evidence, level: Level) -> bool:
    blocks = evidence.curve("loss").blocks(12)
    return bool(np.all(np.abs(blocks - level.chance) <= 2 * level.near * level.chance))


def _says_contrastive(evidence: Evidence) -> bool:
    held = evidence.settings.hyperparameters
    words = [evidence.settings.module, *evidence.curves, *held, *(v for v in held.values() if isinstance(v, str))]
    if any(_CONTRASTIVE.search(word) for word in words):
        return True
    # a temperature and no classes: what else would have one
    leaves = {key.rpartition(".")[2] for key in held}
    return "temperature" in leaves and not leaves & {"num_classes", "n_classes", "vocab_size"}
