"""Where a contrastive loss stands: what it is without any information, and what it cannot fall below.

A raw value says little: NT-Xent of 128 pairs is 5.54 at chance and cannot fall below 3.55 at a temperature of 0.5.
Everything here is a number of numbers, in nats.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from stablelit.errors import bad_argument, did_you_mean
from stablelit.functional.schedules import check_count, check_number

if TYPE_CHECKING:
    from torch import Tensor

Loss = TypeVar("Loss", float, "Tensor")
LEVEL_KINDS = ("nt_xent", "supcon", "dcl", "info_nce:K", "clip", "byol")


@dataclass(frozen=True)
class ContrastiveLevel:
    r"""The landmarks of one loss, in its own scale.

    Args:
        name: which loss.
        chance: of embeddings that say nothing of which pairs belong together.
        floor: no embeddings have less; None where it is not known.
        collapsed: of embeddings that are all one point. It is `chance` where negatives are compared, and the best of
            all values for a loss without them.
    """

    name: str
    chance: float
    floor: float | None
    collapsed: float

    def excess(self, loss: Loss) -> Loss:
        r"""How far from floor to chance: :math:`(L - L_{min}) / (L_{chance} - L_{min})`; a floor of None is 0."""
        floor = self.floor or 0.0
        return (loss - floor) / (self.chance - floor)


def chance_nt_xent(n_pairs: int) -> float:
    r"""NT-Xent where every score is the same: :math:`\ln(2N - 1)`, whatever the temperature.

    Args:
        n_pairs: N, the pairs that are compared: of all ranks where embeddings are gathered.

    Raises:
        ConfigurationError: fewer than 2 pairs.

    Source: Chen et al. 2020 (arXiv:2002.05709), eq. 1, with uniform scores.

    >>> round(chance_nt_xent(32), 4)
    4.1431
    """
    return math.log(2 * _pairs("chance_nt_xent", n_pairs) - 1)


def floor_nt_xent(n_pairs: int, temperature: float) -> float:
    r"""The least value of NT-Xent, in any dimension.

    .. math:: L_{min} = \ln\left(1 + (2N - 2)\, e^{-(1 + 1/(N-1)) / T}\right)

    Scores of negatives are replaced by their mean, which raises nothing (Jensen). With :math:`\bar p` the mean score
    of positives, :math:`\|\sum z\|^2 \ge 0` puts the mean of negatives at :math:`-(1 + \bar p)/(2N - 2)` or more, and
    :math:`\bar p = 1` is best. The vertices of a regular simplex have it, which need :math:`d \ge N - 1`.

    Args:
        n_pairs: N.
        temperature: T.

    Raises:
        ConfigurationError: fewer than 2 pairs, or a temperature that is not above 0.

    >>> round(floor_nt_xent(32, 0.5), 3)
    2.182
    """
    n = _pairs("floor_nt_xent", n_pairs)
    return _softplus(_floor_dcl(n, _temperature("floor_nt_xent", temperature)))


def isotropic_nt_xent(n_pairs: int, temperature: float, dim: int) -> float:
    r"""NT-Xent of embeddings spread evenly over the sphere whose views know nothing of each other.

    .. math:: \ln(2N - 1) + \frac{1}{2 d T^2}

    A cosine of two such rows is about :math:`\mathcal N(0, 1/d)`, and the mean of :math:`e^{s/T}` that of a lognormal.
    It holds while :math:`d T^2 \gg 1` (from about 1 on it is some hundredths too high) and N is large beside
    :math:`e^{1/(d T^2)}`. A loss above chance says that spread embeddings are paired wrongly.

    Args:
        n_pairs: N.
        temperature: T.
        dim: d.

    Raises:
        ConfigurationError: an argument out of range.
    """
    owner = "isotropic_nt_xent"
    d = check_count(owner, "dim", dim, 1)
    return chance_nt_xent(_pairs(owner, n_pairs)) + 0.5 / (d * _temperature(owner, temperature) ** 2)


def excess(loss: Loss, n_pairs: int, temperature: float, scale: float = 1.0) -> Loss:
    r"""NT-Xent between its landmarks: 1 at chance, 0 at the floor, above 1 worse than knowing nothing.

    .. math:: e = \frac{L / c - L_{min}}{L_{chance} - L_{min}}

    Comparable over batch sizes and temperatures, which raw losses are not.

    Args:
        loss: L, a number or a tensor.
        n_pairs: N.
        temperature: T.
        scale: c, by which somebody's code multiplies: 2 where the terms of both views are summed, T / 0.07 in
            SupContrast.

    Raises:
        ConfigurationError: an argument out of range.
    """
    return contrastive_level("nt_xent", n_pairs, temperature, scale).excess(loss)


def chance_info_nce(n_negatives: int) -> float:
    r"""One positive among K negatives, such as MoCo's queue: :math:`\ln(K + 1)`."""
    return math.log(check_count("chance_info_nce", "n_negatives", n_negatives, 1) + 1)


def chance_clip(n_pairs: int) -> float:
    r"""The mean of both directions of CLIP: :math:`\ln N`."""
    return math.log(_pairs("chance_clip", n_pairs))


def floor_clip(n_pairs: int, temperature: float) -> float:
    r"""The least value of CLIP's loss: :math:`\ln(1 + (N - 1) e^{-(1 + 1/(N-1)) / T})`.

    By Jensen it is a function of mean positive minus mean negative score, which is
    :math:`\frac{1}{N-1} \sum_i (u_i - \bar u) \cdot (v_i - \bar v) \le \frac{N}{N-1}` (Cauchy-Schwarz).
    """
    n = _pairs("floor_clip", n_pairs)
    return _softplus(math.log(n - 1) - n / (n - 1) / _temperature("floor_clip", temperature))


def chance_supcon(n_pairs: int) -> float:
    r"""SupCon, whatever the labels: :math:`\ln(2N - 1)`."""
    return math.log(2 * _pairs("chance_supcon", n_pairs) - 1)


def chance_dcl(n_pairs: int) -> float:
    r"""The decoupled loss, whose denominator has no positive: :math:`\ln(2N - 2)`."""
    return math.log(2 * _pairs("chance_dcl", n_pairs) - 2)


def floor_dcl(n_pairs: int, temperature: float) -> float:
    r"""The least value of the decoupled loss, by the argument of `floor_nt_xent`; it is below 0 at a low temperature.

    .. math:: \ln(2N - 2) - (1 + 1/(N-1)) / T
    """
    return _floor_dcl(_pairs("floor_dcl", n_pairs), _temperature("floor_dcl", temperature))


def chance_cross_entropy(n_classes: int) -> float:
    r"""A classifier, or prototypes of W classes, with uniform scores: :math:`\ln W`."""
    return math.log(check_count("chance_cross_entropy", "n_classes", n_classes, 2))


def chance_byol(n_directions: int = 2) -> float:
    r"""BYOL's :math:`2 - 2\cos` of unrelated predictions and targets: 2 a direction.

    A collapsed network has 0, the best value there is: this loss is no measure of progress.
    """
    return 2.0 * check_count("chance_byol", "n_directions", n_directions, 1)


def contrastive_level(
    kind: str | float, n_pairs: int, temperature: float | None = None, scale: float = 1.0
) -> ContrastiveLevel:
    """The landmarks of a loss by its name.

    Args:
        kind: ``"nt_xent"``, ``"supcon"``, ``"dcl"``, ``"clip"``, ``"info_nce:K"`` with K negatives, ``"byol"`` (both
            directions summed), or a number, which is chance itself.
        n_pairs: N, of all ranks where embeddings are gathered.
        temperature: T; without it no floor is known.
        scale: by which the loss is multiplied; the landmarks are then too. A number given as `kind` is left alone.

    Raises:
        ConfigurationError: an unknown name (near ones given) or a number out of range.
    """
    owner = "contrastive_level"
    factor = check_number(owner, "scale", scale, above=0.0)
    if temperature is not None:
        _temperature(owner, temperature)
    if not isinstance(kind, str):
        chance = check_number(owner, "kind", kind, above=0.0)
        return ContrastiveLevel(f"chance {chance:g}", chance, None, chance)
    queue = re.fullmatch(r"info_nce:(\d+)", kind)
    floor: float | None = None
    if queue is not None:
        chance = chance_info_nce(int(queue[1]))
    elif kind == "byol":
        return ContrastiveLevel(kind, factor * chance_byol(), 0.0, 0.0)
    elif kind == "nt_xent":
        chance = chance_nt_xent(n_pairs)
        floor = None if temperature is None else floor_nt_xent(n_pairs, temperature)
    elif kind == "dcl":
        chance = chance_dcl(n_pairs)
        floor = None if temperature is None else floor_dcl(n_pairs, temperature)
    elif kind == "clip":
        chance = chance_clip(n_pairs)
        floor = None if temperature is None else floor_clip(n_pairs, temperature)
    elif kind == "supcon":
        chance = chance_supcon(n_pairs)
    else:
        remedy = did_you_mean(kind, LEVEL_KINDS) or "K is the number of negatives, as in 'info_nce:65536'."
        raise bad_argument(owner, "kind", kind, ", ".join(LEVEL_KINDS) + ", or the loss at chance", remedy)
    return ContrastiveLevel(kind, factor * chance, None if floor is None else factor * floor, factor * chance)


def _floor_dcl(n: int, temperature: float) -> float:
    # 1 + 1/(N - 1)
    return math.log(2 * n - 2) - n / (n - 1) / temperature


def _softplus(x: float) -> float:
    """ln(1 + e^x) without an overflow, and exact where it is tiny."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _pairs(owner: str, n_pairs: int) -> int:
    return check_count(owner, "n_pairs", n_pairs, 2)


def _temperature(owner: str, temperature: float) -> float:
    return check_number(owner, "temperature", temperature, above=0.0)
