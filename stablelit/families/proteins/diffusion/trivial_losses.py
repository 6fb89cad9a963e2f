r"""What a model that has learned nothing loses at a difficulty, without which a training loss cannot be read.

A model that loses c nats a masked residue whatever the masks are loses

.. math:: c \; E_u\!\left[ w \frac{\sigma'}{e^{\sigma} - 1} \left( 1 - e^{-\sigma_c} \right) \right]

nats a residue in training, with the curriculum's weight w and corruption :math:`\sigma_c`. Under a curriculum that
number moves by itself: a rising loss may be nothing else. The ratio of the training loss to that of the residues'
frequencies alone (c their entropy) is 1 for a model that knows only these, at every difficulty.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from stablelit.errors import DataError
from stablelit.families.proteins.diffusion.graphs import AbsorbingGraph, Graph
from stablelit.families.proteins.diffusion.noise import Noise, log_expm1
from stablelit.families.proteins.diffusion.noise_curriculum import NoiseCurriculum, NoiseDraw, check_difficulty
from stablelit.functional.schedules import check_count, check_number


def residue_share(curriculum: NoiseCurriculum, difficulty: float, noise: Noise, n_nodes: int = 4096) -> float:
    """The expectation above without c, of the absorbing graph: nats a residue for one nat a masked residue.

    Args:
        curriculum: of the training.
        difficulty: d in [0, 1].
        noise: the schedule.
        n_nodes: of the midpoint rule over u.

    Raises:
        ConfigurationError: a difficulty outside its range.
    """

    def mean(drawn: NoiseDraw) -> float:
        mask_rate = -torch.expm1(-drawn.corruption_sigma)
        return float((drawn.weight * drawn.rate * torch.exp(-log_expm1(drawn.sigma)) * mask_rate).mean())

    return _over_replay(curriculum, difficulty, noise, n_nodes, mean)


def trivial_loss(
    curriculum: NoiseCurriculum, difficulty: float, noise: Noise, unigram_entropy: float, n_nodes: int = 4096
) -> float:
    """Training loss, nats a residue, of the frequencies of residues alone, for the absorbing graph.

    Args:
        curriculum: of the training.
        difficulty: d in [0, 1].
        noise: the schedule.
        unigram_entropy: nats; log N for a model that does not even know frequencies.
        n_nodes: of the midpoint rule over u.

    Raises:
        ConfigurationError: a difficulty or entropy outside its range.
    """
    check_number("trivial_loss", "unigram_entropy", unigram_entropy, at_least=0.0)
    return unigram_entropy * residue_share(curriculum, difficulty, noise, n_nodes)


def untrained_cost(n_states: int, logit_variance: float = 1 / 3) -> float:
    r"""What a masked residue costs under a head that was not initialised to zeros: :math:`\log N + e^{v/2} - 1`.

    For scores :math:`\log s = h - \log(e^\sigma - 1) - \log N` with normal h of variance v. PyTorch's linear layer on
    the output of a layer norm has v = 1/3. The post-mortem's losses are this number times `residue_share`.

    Args:
        n_states: N, 2 or more.
        logit_variance: v, at least 0; 0 is a head of zeros.
    """
    n = check_count("untrained_cost", "n_states", n_states, least=2)
    v = check_number("untrained_cost", "logit_variance", logit_variance, at_least=0.0)
    return math.log(n) + math.expm1(v / 2)


def untrained_loss(
    curriculum: NoiseCurriculum, difficulty: float, noise: Noise, n_states: int, logit_variance: float = 1 / 3
) -> float:
    """Training loss, nats a residue, of a network of scores before its first step; see `untrained_cost`."""
    return untrained_cost(n_states, logit_variance) * residue_share(curriculum, difficulty, noise)


def trivial_score_entropy(
    graph: Graph,
    curriculum: NoiseCurriculum,
    difficulty: float,
    noise: Noise,
    unigram: Tensor,
    n_nodes: int = 256,
) -> float:
    """Training loss, nats a residue, of the frequencies of residues alone, for either graph.

    The scores are those of independent residues of these frequencies at the noise that the model is told.

    Args:
        graph: of the noise.
        curriculum: of the training.
        difficulty: d in [0, 1].
        noise: the schedule.
        unigram: ``(N,)`` probabilities.
        n_nodes: of the midpoint rule over u.

    Raises:
        DataError: frequencies that are no probabilities of the graph's states.
    """
    p = unigram.detach().double().cpu()
    if p.shape != (graph.n_states,) or bool((p < 0).any()) or abs(float(p.sum()) - 1) > 1e-4:
        raise DataError(
            f"trivial_score_entropy: unigram has shape {tuple(p.shape)} and sum {float(p.sum()):.6g}. Allowed: "
            f"probabilities of the {graph.n_states} states, adding up to 1. Divide the counts by their sum."
        )
    p = p / p.sum()
    if isinstance(graph, AbsorbingGraph):
        return trivial_loss(curriculum, difficulty, noise, float(torch.special.entr(p).sum()), n_nodes)
    n = graph.n_states
    elsewhere = ~torch.eye(n, dtype=torch.bool)

    def mean(drawn: NoiseDraw) -> float:
        kept, told = (torch.exp(-sigma)[:, None, None] for sigma in (drawn.corruption_sigma, drawn.sigma))
        # rows xt, columns x0 or y: how often the pair is drawn, and the score from xt to y
        pair = p * ((1 - kept) / n + kept * torch.eye(n, dtype=torch.float64))
        law = told[..., 0] * p + (1 - told[..., 0]) / n
        log_score = law.log()[:, None, :] - law.log()[:, :, None]
        # ratios are rho where xt = x0, 1 / rho to y = x0, and 1 to all others: so often each is met
        stayed = pair.diagonal(dim1=1, dim2=2)[..., None]
        other = pair.sum(2, keepdim=True) - stayed - pair
        rho = (1 - told) / (1 - told + n * told)
        entropy = pair.sum(2, keepdim=True) * log_score.exp()
        for chance, ratio in ((stayed, rho), (pair, 1 / rho), (other, torch.ones_like(rho))):
            entropy = entropy + chance * ratio * (ratio.log() - 1 - log_score)
        return float((drawn.weight * drawn.rate * (entropy * elsewhere).sum((1, 2))).mean()) / n

    return _over_replay(curriculum, difficulty, noise, n_nodes, mean)


class InterpolatedLoss:
    """A loss as a function of difficulty, asked at a few difficulties and interpolated between them.

    Args:
        loss: of a difficulty in [0, 1]; smooth.
        n_intervals: of [0, 1], K. It is asked at both ends of an interval when somebody first asks between them.
    """

    def __init__(self, loss: Callable[[float], float], n_intervals: int = 64) -> None:
        self.n_intervals = check_count(type(self).__name__, "n_intervals", n_intervals, least=1)
        self._loss = loss
        self._known: dict[int, float] = {}

    def __call__(self, difficulty: float) -> float:
        """The loss; as it is at the ends of intervals, and in the first, where it may not be defined at 0."""
        place = difficulty * self.n_intervals
        low = math.floor(place)
        if low == place or low == 0:
            return self._at(low) if low == place and low > 0 else self._loss(difficulty)
        share = place - low
        return (1 - share) * self._at(low) + share * self._at(low + 1)

    def _at(self, node: int) -> float:
        if node not in self._known:
            self._known[node] = self._loss(node / self.n_intervals)
        return self._known[node]


def describe_difficulty(curriculum: NoiseCurriculum, difficulty: float, noise: Noise) -> dict[str, float]:
    """What a difficulty means: largest time, mean mask rate, and `residue_share` relative to that of d = 1.

    Of the sequences that are not replayed, but for the share, which is of all.
    """
    drawn = _at_midpoints(curriculum, difficulty, noise, 512, replayed=False)
    full = residue_share(curriculum, 1.0, noise, 512)
    return {
        "t_max": float(drawn.t.max()),
        "mask_rate_mean": float(-torch.expm1(-drawn.corruption_sigma).mean()),
        "loss_share": residue_share(curriculum, difficulty, noise, 512) / full,
    }


def _over_replay(
    curriculum: NoiseCurriculum, difficulty: float, noise: Noise, n_nodes: int, mean: Callable[[NoiseDraw], float]
) -> float:
    check_count("trivial_loss", "n_nodes", n_nodes, least=1)
    at_difficulty = mean(_at_midpoints(curriculum, difficulty, noise, n_nodes, replayed=False))
    if curriculum.replay == 0.0:
        return at_difficulty
    in_full = mean(_at_midpoints(curriculum, difficulty, noise, n_nodes, replayed=True))
    return (1 - curriculum.replay) * at_difficulty + curriculum.replay * in_full


def _at_midpoints(
    curriculum: NoiseCurriculum, difficulty: float, noise: Noise, n_nodes: int, replayed: bool
) -> NoiseDraw:
    check_difficulty("trivial_loss", curriculum.mode, difficulty)
    u = (torch.arange(n_nodes, dtype=torch.float64) + 0.5) / n_nodes
    return curriculum.at(difficulty, u, noise, torch.full((n_nodes,), replayed))
