r"""Why a contrastive run is where it is: numbers in, one name with its reasons out.

A loss at chance has several causes that look alike in the log: blank pages, an encoder that has died, a projector that
has, views of different samples taken for a pair, or a learning rate too small to leave the cone into which an untrained
network maps everything. No number alone tells them apart; the order in which they are asked does.

The one number that is not of the literature is the *agreement* of pairs, the mean cosine of positives after the common
mean is taken away. Inside a cone all cosines are near 1 and their differences of the order of 1e-3; the agreement is
that of what is left, and so is about 0 where pairs share nothing and clearly above where they do, however narrow the
cone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Literal

AT_CHANCE = 0.98
"""Excess from which on a loss counts as being at chance."""
COLLAPSED_STD = 0.1
"""Spread of unit rows, as a share of the greatest possible, below which they are nearly one point."""
_GONE_STD, _FALLEN = 0.01, 0.5
_NO_GAP, _NO_AGREEMENT = 0.02, 0.1
_LOW_RANK, _LOW_RANK_IN_ORTHANT = 0.1, 0.2
_BLANK_STD, _LARGEST_INPUT = 1e-3, 10.0
_SOLVED, _ALL_FOUND = 0.05, 0.99
_UNKNOWN = math.nan


@dataclass(frozen=True)
class ContrastiveHealth:
    r"""What is known of a contrastive run at one time; NaN is unknown.

    Args:
        loss: mean over the last steps, in the loss's own scale.
        chance: what it is without information.
        floor: the least it can be.
        excess: (loss - floor) / (chance - floor).
        formula: chance in words, ``ln(2*32-1)``.
        elsewhere: chance at a larger batch in words; empty where the batch does not move it.
        temperature: T.
        scale: what the loss is multiplied with.
        n_pairs: N, of all ranks that are compared.
        dim: d of the embeddings.
        bad_rows: share of embeddings that are not finite.
        std_ratio: spread of the embeddings z, 1 is isotropic.
        first_std_ratio: the same in the run's first batch.
        h_std_ratio: spread of the encoder's features h.
        dead_frac: share of the units of h that are 0 on all rows.
        pos_cos: mean cosine of positives.
        neg_cos: mean cosine of negatives.
        agreement: mean cosine of positives with the common mean taken away, of h where it is known.
        top1: share of rows whose nearest row of the other view is their own.
        rankme: directions in use.
        rankme_frac: of min(n, d).
        rank_rows: n, from which the rank was taken.
        least_z: smallest entry of the embeddings.
        enc_grad_norm: norm of the encoder's gradient.
        input_std: mean over pixels of the standard deviation over a batch.
        input_min: smallest number of the encoder's input.
        input_max: largest.
        has_batch_norm: whether the encoder has batch normalisation; None is unknown.
        is_early: whether the run is still in its beginning, where a solved task is suspicious.
        is_frozen: whether nothing of the encoder is trained.
    """

    loss: float = _UNKNOWN
    chance: float = _UNKNOWN
    floor: float = _UNKNOWN
    excess: float = _UNKNOWN
    formula: str = ""
    elsewhere: str = ""
    temperature: float = _UNKNOWN
    scale: float = 1.0
    n_pairs: int = 0
    dim: int = 0
    bad_rows: float = 0.0
    std_ratio: float = _UNKNOWN
    first_std_ratio: float = _UNKNOWN
    h_std_ratio: float = _UNKNOWN
    dead_frac: float = _UNKNOWN
    pos_cos: float = _UNKNOWN
    neg_cos: float = _UNKNOWN
    agreement: float = _UNKNOWN
    top1: float = _UNKNOWN
    rankme: float = _UNKNOWN
    rankme_frac: float = _UNKNOWN
    rank_rows: int = 0
    least_z: float = _UNKNOWN
    enc_grad_norm: float = _UNKNOWN
    input_std: float = _UNKNOWN
    input_min: float = _UNKNOWN
    input_max: float = _UNKNOWN
    has_batch_norm: bool | None = None
    is_early: bool = False
    is_frozen: bool = False

    @property
    def gap(self) -> float:
        """Mean cosine of positives above that of negatives."""
        return self.pos_cos - self.neg_cos

    @property
    def is_lost(self) -> bool:
        """The loss is at chance or above; False where no chance is known."""
        return self.excess >= AT_CHANCE

    @property
    def independent(self) -> float:
        r"""The loss of views that know nothing of each other: chance + :math:`c / (2 r T^2)`, r directions in use."""
        spread = self.rankme if math.isfinite(self.rankme) else float(self.dim)
        return self.chance + max(0.01 * abs(self.chance), 0.5 * self.scale / (max(spread, 1.0) * self.temperature**2))

    @property
    def is_narrow(self) -> bool:
        """The embeddings are nearly one point; an untrained network's often are too."""
        return self.std_ratio < COLLAPSED_STD

    @property
    def has_collapsed(self) -> bool:
        """They are nearly one point, were wider, and what is left of them still tells pairs, or nothing is left.

        Without a known beginning any narrow cone counts.
        """
        if not self.is_narrow:
            return False
        if self.std_ratio < 1e-4:  # what rounding leaves
            return True
        fell = not self.std_ratio >= _FALLEN * self.first_std_ratio
        return (self.std_ratio < _GONE_STD or fell) and not self.pairs_disagree

    @property
    def pairs_disagree(self) -> bool:
        """What is left without the common mean is not alike in pairs."""
        return self.agreement < _NO_AGREEMENT

    @property
    def is_low_rank(self) -> bool:
        """Under a tenth of the directions is in use; under a fifth where a rectifier holds all in an orthant."""
        return self.rankme_frac < _LOW_RANK or (self.in_orthant and self.rankme_frac < _LOW_RANK_IN_ORTHANT)

    @property
    def in_orthant(self) -> bool:
        """No entry of an embedding is below 0."""
        return self.least_z >= 0.0


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
    # a loss below chance has found something on the page
    return h.input_std < _BLANK_STD and not h.excess < AT_CHANCE


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
        lambda h: f"{100 * h.bad_rows:.2g} % of the embeddings are not finite, loss {h.loss:.4g}{_inputs(h)}.",
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
        lambda h: f"the inputs of a batch differ by {h.input_std:.1e}{_inputs(h)}: they are all alike. {_standing(h)}.",
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
