r"""Why a contrastive run is where it is: numbers in, one name with its reasons out.

A loss at chance has several causes that look alike in the log: blank pages, an encoder that has died, a projector that
has, views of different samples taken for a pair, or a learning rate too small to leave the cone into which an untrained
network maps everything. No number alone tells them apart; the order in which they are asked does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Literal

from stablelit.functional.contrastive_health import AT_CHANCE, COLLAPSED_STD, ContrastiveHealth

_NO_GAP = 0.02
_BLANK_STD, _LARGEST_INPUT = 1e-3, 10.0
_SOLVED, _ALL_FOUND = 0.05, 0.99


@dataclass(frozen=True)
class ContrastiveVerdict:
    """One cause.

    Args:
        name: in kebab case; ``ok`` where nothing is wrong.
        message: the numbers that show it.
        remedy: what to do.
        severity: `info`, `warning` or `critical`.
        numbers: those that are known, by their names in :class:`ContrastiveHealth`.
    """

    name: str
    message: str = ""
    remedy: str = ""
    severity: Literal["info", "warning", "critical"] = "warning"
    numbers: dict[str, float] = field(default_factory=dict)


def contrastive_verdict(health: ContrastiveHealth) -> ContrastiveVerdict:
    """The first cause, in the order of what explains what; ``ok`` where none is shown."""
    for is_shown, name, message, remedy in _RULES:
        if is_shown(health):
            severity: Literal["warning", "critical"] = "critical" if name in _CRITICAL else "warning"
            return ContrastiveVerdict(name, message(health), remedy(health), severity, _numbers(health))
    return ContrastiveVerdict("ok", _standing(health), "", "info", _numbers(health))


def _numbers(h: ContrastiveHealth) -> dict[str, float]:
    known = {name: value for name, value in asdict(h).items() if isinstance(value, int | float)}
    return {name: float(value) for name, value in known.items() if math.isfinite(value)}


def _blank(h: ContrastiveHealth) -> bool:
    # what augmentation adds to a blank page is no drawing; and a loss below chance has found something
    return (h.input_std < _BLANK_STD or h.page_std < _BLANK_STD) and not h.excess < AT_CHANCE


def _not_normalised(h: ContrastiveHealth) -> bool:
    out_of_range = max(h.input_max, -h.input_min) > _LARGEST_INPUT
    return out_of_range and (h.has_collapsed or h.is_low_rank or (h.is_lost and h.is_narrow))


def _may_be_collapse(h: ContrastiveHealth) -> bool:
    # without a chance level (BYOL) the spread alone says so
    return h.has_collapsed and not h.excess < AT_CHANCE


def _dead_encoder(h: ContrastiveHealth) -> bool:
    return _may_be_collapse(h) and (h.h_std_ratio < COLLAPSED_STD or h.dead_frac > 0.5)


def _mispaired(h: ContrastiveHealth) -> bool:
    if not h.is_lost or not h.gap < _NO_GAP or _points_away(h):
        return False
    return not h.is_narrow or h.pairs_disagree or not math.isfinite(h.agreement)


def _points_away(h: ContrastiveHealth) -> bool:
    return h.gap < -_NO_GAP and h.loss > h.independent


def _slow_start(h: ContrastiveHealth) -> bool:
    return h.is_lost and not h.loss > h.independent


def _weak_augmentation(h: ContrastiveHealth) -> bool:
    return h.is_early and h.excess < _SOLVED and h.top1 > _ALL_FOUND


def _standing(h: ContrastiveHealth) -> str:
    """The loss beside chance, with what a larger batch would do about it."""
    if not math.isfinite(h.chance):
        return f"spread {h.std_ratio:.2g} of 1, {h.rankme:.3g} directions in use"
    text = f"loss {h.loss:.4f}, chance {h.formula}={h.chance:.4f}" if h.formula else f"loss {h.loss:.4f}"
    if h.excess < AT_CHANCE:
        return f"{text}, excess {h.excess:.3f}"
    equals = "equals" if h.excess < 2.0 - AT_CHANCE else "is above"
    text = f"loss {h.loss:.4f} {equals} chance {f'{h.formula}=' if h.formula else ''}{h.chance:.4f}"
    if h.excess < 2.0 - AT_CHANCE:
        text += ": no information between views"
    return f"{text}. A larger batch only moves chance ({h.elsewhere})" if h.elsewhere else text


def _inputs(h: ContrastiveHealth) -> str:
    if not math.isfinite(h.input_max):
        return ""
    norm = {True: ", batch norm in the encoder", False: ", no batch norm in the encoder", None: ""}[h.has_batch_norm]
    return f", input in [{h.input_min:.3g}, {h.input_max:.3g}]{norm}"


def _gradient(h: ContrastiveHealth) -> str:
    return f", encoder's gradient norm {h.enc_grad_norm:.1e}" if math.isfinite(h.enc_grad_norm) else ""


def _collapse(h: ContrastiveHealth) -> str:
    features = "" if math.isnan(h.h_std_ratio) else f", that of h {h.h_std_ratio:.2g}"
    dead = "" if math.isnan(h.dead_frac) else f", {100 * h.dead_frac:.0f} % of its units dead"
    return f"{_standing(h)}. Spread of z {h.std_ratio:.2g} of 1{features}{dead}{_inputs(h)}{_gradient(h)}."


def _pairs(h: ContrastiveHealth) -> str:
    agreement = "" if math.isnan(h.agreement) else f", agreement without the common mean {h.agreement:.2g}"
    found = f"{100 * h.top1:.0f} % of rows have their own positive nearest"
    return f"positives {h.pos_cos:.3f}, negatives {h.neg_cos:.3f} in cosine{agreement}; {found}"


_NORMALISE = "divide by 255 and put ink 1 on paper 0, or normalise; batch norm in the encoder; a smaller learning rate"


def _rank_message(h: ContrastiveHealth) -> str:
    rows = "" if h.rank_rows >= 4 * h.dim else f" (of {h.rank_rows} rows; {4 * h.dim} are needed for an exact one)"
    orthant = ". No entry of z is below 0: the projector ends in a rectifier" if h.in_orthant else ""
    used = f"{h.rankme:.2g} of {h.dim} directions are in use{rows}"
    return f"{used}, spread {h.std_ratio:.2g} of 1; {_standing(h)}{orthant}."


_Text = Callable[[ContrastiveHealth], str]
_RULES: tuple[tuple[Callable[[ContrastiveHealth], bool], str, _Text, _Text], ...] = (
    (
        lambda h: h.bad_rows > 0.0 or math.isinf(h.loss),
        "non-finite-embeddings",
        lambda h: f"{100 * h.bad_rows:.3g} % of the embeddings are not finite, loss {h.loss:.4g}{_inputs(h)}.",
        lambda h: (
            "look at the first step in which it happens (NonFiniteGuard); float32 logits; a smaller learning rate"
        ),
    ),
    (
        lambda h: h.is_frozen,
        "encoder-not-optimised",
        lambda h: f"every parameter of the encoder has requires_grad=False: only the projector learns. {_standing(h)}.",
        lambda h: "requires_grad_(True) on the encoder, where it was meant to learn",
    ),
    (
        _blank,
        "blank-input",
        lambda h: (
            f"the pages of a batch are all alike (they differ by {h.page_std:.1e}; by {h.input_std:.1e} once they are "
            f"augmented){_inputs(h)}. {_standing(h)}."
        ),
        lambda h: "look at a batch: transparency is to be laid on white and then inverted; a reader that draws nothing",
    ),
    (_not_normalised, "input-not-normalised", _collapse, lambda h: _NORMALISE),
    (
        _dead_encoder,
        "dead-encoder",
        _collapse,
        lambda h: (
            "a smaller learning rate with warm-up, batch norm in the encoder, and a new start: dead units stay dead"
        ),
    ),
    (
        _may_be_collapse,
        "collapsed-projector",
        lambda h: (
            f"{_collapse(h)} Without h it is not known whether the encoder has collapsed too."
            if math.isnan(h.h_std_ratio)
            else f"{_collapse(h)} The encoder still tells samples apart."
        ),
        lambda h: "batch norm after the projector's first layer, no rectifier at its end, a smaller learning rate",
    ),
    (
        _mispaired,
        "mispaired-views",
        lambda h: f"{_standing(h)}. {_pairs(h)}: the two views share nothing.",
        lambda h: (
            "look whether row i of both views is one sample (a shuffle of one of them, an offset of labels between "
            "ranks), and whether the augmentation leaves anything of it"
        ),
    ),
    (
        _slow_start,
        "slow-start",
        lambda h: (
            f"{_standing(h)}. Yet {_pairs(h)}: the pairs are told apart, in a spread of {h.std_ratio:.2g} of 1"
            f"{_gradient(h)}."
        ),
        lambda h: "a larger learning rate with warm-up, batch norm in encoder and projector",
    ),
    (
        lambda h: h.loss > h.independent,
        "worse-than-independent",
        lambda h: (
            f"loss {h.loss:.4f} is above {h.independent:.4f}, that of unrelated views (chance "
            f"{f'{h.formula}=' if h.formula else ''}{h.chance:.4f}); {_pairs(h)}."
        ),
        lambda h: (
            "do the loss's labels point at the pairs (the offset between ranks)? are chance=, scale= and temperature= "
            "those of this loss?"
        ),
    ),
    (
        _weak_augmentation,
        "weak-augmentation",
        lambda h: (
            f"the task is solved at once: {_standing(h)}, floor {h.floor:.4f}, {100 * h.top1:.0f} % of positives "
            f"found, their cosine {h.pos_cos:.3f}: the two views are nearly the same picture."
        ),
        lambda h: "stronger augmentation that changes drawings: strokes left out, shifts, line width (not colour)",
    ),
    (
        lambda h: h.is_low_rank,
        "dimensional-collapse",
        _rank_message,
        lambda h: (
            "leave out the projector's last rectifier"
            if h.in_orthant
            else "a smaller learning rate with warm-up, batch norm in encoder and projector"
        ),
    ),
)
_CRITICAL = {"non-finite-embeddings", "encoder-not-optimised"}
VERDICTS = tuple(rule[1] for rule in _RULES)
"""The names, in the order in which they are asked."""
