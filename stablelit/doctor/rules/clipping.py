"""Rules about clipping: one that takes all of a gradient away, and one that never acts."""

from __future__ import annotations

import math

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules._loss_course import (
    MODEST_MOVEMENT,
    hardly_falls,
    is_adaptive,
    loss_course,
    planned,
    update_ratios,
)
from stablelit.doctor.rules._words import shown
from stablelit.doctor.rules.rate_too_low import drop_at_end
from stablelit.doctor.rules.step_size import HARDLY_MOVES
from stablelit.findings import Finding
from stablelit.functional.curve_tests import Course, Floats
from stablelit.functional.medians import median_of

_CLIPPED_AWAY = 100.0
_HEALTHY_RATIO = 1e-3
# the share of numbers that do not change where rounding takes the steps away
_STAND = 0.3


def clip_too_tight(evidence: Evidence) -> Finding | None:
    """Nearly all of every gradient is clipped away, and the weights stand still for it."""
    severity = _severity(evidence)
    of = loss_course(evidence)
    if severity is None or of is None:
        return None
    typical = median_of(severity)
    if typical < _CLIPPED_AWAY:
        return None
    if weights_stand_still_for_the_clip(evidence):
        return _too_tight(evidence, of, typical)
    total = planned(evidence) or of.last_step + 1
    share = drop_at_end(of, total) / abs(of.start) if of.start else 0.0
    if share > 0.4 or of.drop - 2.0 * of.drop_noise > 0.2 * abs(of.start):
        return None
    ratios = update_ratios(evidence)
    if len(ratios) >= 5:
        ratio = median_of(ratios)
        if ratio * total > MODEST_MOVEMENT or ratio * typical < 0.1 * _HEALTHY_RATIO:
            return None
    elif is_adaptive(evidence) or not hardly_falls(of, 0.1):
        return None
    return _too_tight(evidence, of, typical)


def weights_stand_still_for_the_clip(evidence: Evidence) -> bool:
    """Weights that do not change, and a clip that leaves a hundredth of each gradient to an optimizer that feels it."""
    severity, facts = _severity(evidence), evidence.parameters
    if severity is None or facts is None or is_adaptive(evidence):
        return False
    stand = bool(facts.still) or facts.still_numbers > _STAND
    return stand and median_of(severity) >= _CLIPPED_AWAY


def _too_tight(evidence: Evidence, of: Course, typical: float) -> Finding:
    clip = evidence.settings.clip_value or math.nan
    return Finding(
        "clip-too-tight",
        "critical",
        f"Gradients are clipped to {shown(clip)}, a {shown(typical)}th of their usual norm, and the loss stands at "
        f"{shown(of.late)} (it began at {shown(of.start)}); a clip should touch outliers only.",
        {"clip_value": clip, "severity": typical, "loss_first": of.start, "loss_late": of.late},
        evidence.settings.override("clip_value", _round_up(clip * typical * 2.0)),
    )


def clip_never_active(evidence: Evidence) -> Finding | None:
    """A run is over, and its clip has never touched a gradient."""
    severity = _severity(evidence)
    if not evidence.ended or severity is None or len(severity) < 20:
        return None
    highest = float(severity.max())
    if highest >= 0.1:
        return None
    clip = evidence.settings.clip_value or math.nan
    return Finding(
        "clip-never-active",
        "info",
        f"The clip at {shown(clip)} was never reached: the largest of {len(severity)} gradients had "
        f"{shown(highest)} of it.",
        {"clip_value": clip, "largest_share": highest},
        evidence.settings.override("clip_value", _round_up(clip * highest)),
    )


def _severity(evidence: Evidence) -> Floats | None:
    """Norms of gradients over what a clip lets pass; None where nothing is clipped."""
    clip = evidence.settings.clip_value
    norms = evidence.curve("grad_norm").finite().values
    if clip is None or clip <= 0.0 or len(norms) < 5:
        return None
    if evidence.settings.clip_algorithm == "value":
        numbers = sum(group.trainable or group.parameters for group in evidence.settings.optimizers)
        clip = clip * math.sqrt(max(1, numbers))
    return norms / clip


def _round_up(value: float) -> float:
    """To one leading digit."""
    if value <= 0.0 or not math.isfinite(value):
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return math.ceil(value / unit) * unit


CLIP_RULES: tuple[Rule, ...] = (
    Rule(
        "clip-too-tight",
        Rank.SETTINGS,
        ("curves.loss", "curves.grad_norm", "settings.clip_value"),
        clip_too_tight,
        "curve",
        (*HARDLY_MOVES, "learning-rate-too-low", "vanishing-gradients"),
        "Gradients are a hundred times the clip, and nothing is learned.",
    ),
    Rule(
        "clip-never-active",
        Rank.SYMPTOM,
        ("curves.grad_norm", "settings.clip_value"),
        clip_never_active,
        "structural",
        (),
        "A clip that no gradient has reached.",
    ),
)
