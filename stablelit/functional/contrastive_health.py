r"""The numbers that tell how a contrastive run does, and what each of them alone says.

The one number that is not of the literature is the *agreement* of pairs, the mean cosine of positives after the common
mean is taken away. Inside a cone all cosines are near 1 and their differences of the order of 1e-3; the agreement is
that of what is left, and so is about 0 where pairs share nothing and clearly above where they do, however narrow the
cone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

AT_CHANCE = 0.98
"""Excess from which on a loss counts as being at chance."""
COLLAPSED_STD = 0.1
"""Spread of unit rows, as a share of the greatest possible, below which they are nearly one point."""
_GONE_STD, _FALLEN = 0.01, 0.5
_NO_AGREEMENT = 0.1
_LOW_RANK, _LOW_RANK_IN_ORTHANT = 0.1, 0.2
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
        input_std: of the encoder's input, mean over pixels of the standard deviation over a batch.
        page_std: the same of the batch, before augmentation.
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
    page_std: float = _UNKNOWN
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
