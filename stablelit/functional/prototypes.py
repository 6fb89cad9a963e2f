r"""Prototypical networks: a class is the mean of its support, a query belongs to the nearest.

An episode has W classes with S support and Q query samples each, as rows in class order, the support of a class before
its queries: ``W * (S + Q)`` rows. With f the encoder,

.. math:: p_c = \frac1S \sum_{i \in S_c} f(x_i), \qquad
          \mathrm{logit}_c(x) = -\frac{\lVert f(x) - p_c \rVert^2}{T} \quad\text{or}\quad \frac{\cos(f(x), p_c)}{T} .

An untrained head, or an encoder that maps everything to one point, has a loss of ln W and an accuracy of 1/W.

Sources: J. Snell, K. Swersky, R. Zemel, NeurIPS 2017 (eq. 1 and 2); Y. Wang et al., "SimpleShot", 2019
(arXiv:1911.04623) for centring and normalising.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import normalize

from stablelit.errors import bad_argument, did_you_mean
from stablelit.functional.schedules import check_count, check_number

Distance = Literal["squared_euclidean", "cosine"]
# what a vector of almost nothing is divided by; 1e-12 is nothing in half precision
_EPS = 1e-6


def prototypes(h: Tensor, n_way: int, n_shot: int, n_query: int) -> Tensor:
    """The mean of each class's support.

    Args:
        h: ``(..., n_way * (n_shot + n_query), d)``, one episode or several.
        n_way: W, classes.
        n_shot: S, support rows of a class.
        n_query: Q, query rows of a class.

    Returns:
        ``(..., n_way, d)``, at least float32.

    Raises:
        ConfigurationError: another number of rows.
    """
    return _by_class(h, n_way, n_shot, n_query)[..., :n_shot, :].mean(-2)


def queries(h: Tensor, n_way: int, n_shot: int, n_query: int) -> Tensor:
    """The query rows, ``(..., n_way * n_query, d)``; arguments as of :func:`prototypes`."""
    return _by_class(h, n_way, n_shot, n_query)[..., n_shot:, :].flatten(-3, -2)


def support_mean(h: Tensor, n_way: int, n_shot: int, n_query: int) -> Tensor:
    """The mean of all support rows of an episode, ``(..., 1, d)``; arguments as of :func:`prototypes`."""
    return prototypes(h, n_way, n_shot, n_query).mean(-2, keepdim=True)


def query_targets(n_way: int, n_query: int, device: torch.device | str | None = None) -> Tensor:
    """The class of each row of :func:`queries` in its episode, 0 to W-1, ``(n_way * n_query,)``."""
    return torch.arange(n_way, device=device).repeat_interleave(n_query)


def simple_shot(h: Tensor, mean: Tensor) -> Tensor:
    """``(h - mean) / |h - mean|``: takes the cone away that embeddings often lie in.

    Args:
        h: ``(..., n, d)``.
        mean: ``(d,)`` of training classes, as in the paper, or :func:`support_mean` where there are none.
    """
    return normalize(_at_least_float(h) - _at_least_float(mean), dim=-1, eps=_EPS)


def prototypical_logits(
    query: Tensor,
    prototypes: Tensor,
    distance: Distance = "squared_euclidean",
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """The logits of each query, in float32 whatever precision is on.

    Args:
        query: ``(..., n, d)``.
        prototypes: ``(..., n_way, d)``.
        distance: "squared_euclidean", ``-(|q|^2 - 2 q.p + |p|^2) / T``, or "cosine", ``cos(q, p) / T``.
        temperature: T, above 0.

    Returns:
        ``(..., n, n_way)``.

    Raises:
        ConfigurationError: an unknown distance, a temperature that is not above 0 (a number; a tensor is not read).

    Example:
        >>> prototypical_logits(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])).tolist()
        [[-0.0, -2.0]]
    """
    if distance not in get_args(Distance):
        hint = did_you_mean(str(distance), get_args(Distance))
        raise bad_argument("prototypical_logits", "distance", distance, " or ".join(get_args(Distance)), hint)
    if not isinstance(temperature, Tensor):
        check_number("prototypical_logits", "temperature", temperature, above=0.0)
    with torch.autocast(query.device.type, enabled=False):
        q, p = _at_least_float(query), _at_least_float(prototypes)
        if distance == "cosine":
            return normalize(q, dim=-1, eps=_EPS) @ normalize(p, dim=-1, eps=_EPS).mT / temperature
        squares = q.square().sum(-1, keepdim=True) - 2.0 * q @ p.mT + p.square().sum(-1).unsqueeze(-2)
        return -squares / temperature


def few_shot_accuracy(
    h: Tensor,
    n_way: int,
    n_shot: int,
    n_query: int,
    distance: Distance = "squared_euclidean",
    mean: Tensor | None = None,
) -> Tensor:
    """The share of queries whose nearest prototype is their own, of each episode.

    Args:
        h: ``(..., n_way * (n_shot + n_query), d)``.
        n_way: W.
        n_shot: S.
        n_query: Q.
        distance: as of :func:`prototypical_logits`.
        mean: what :func:`simple_shot` subtracts before it normalises; None leaves h as it is.

    Returns:
        ``(...)``, float64; one of W is chance.
    """
    h = h if mean is None else simple_shot(h, mean)
    episode = (n_way, n_shot, n_query)
    logits = prototypical_logits(queries(h, *episode), prototypes(h, *episode), distance)
    return (logits.argmax(-1) == query_targets(n_way, n_query, h.device)).double().mean(-1)


def _by_class(h: Tensor, n_way: int, n_shot: int, n_query: int) -> Tensor:
    counts = {"n_way": n_way, "n_shot": n_shot, "n_query": n_query}
    for name, value in counts.items():
        check_count("prototypes", name, value, 1)
    if h.dim() < 2 or h.shape[-2] != n_way * (n_shot + n_query):
        rows = f"(..., {n_way} * ({n_shot} + {n_query}), d)"
        raise bad_argument("prototypes", "h.shape", tuple(h.shape), f"{rows}: n_way * (n_shot + n_query) rows")
    return _at_least_float(h).reshape(*h.shape[:-2], n_way, n_shot + n_query, h.shape[-1])


def _at_least_float(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
