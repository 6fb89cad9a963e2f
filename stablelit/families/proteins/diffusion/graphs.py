r"""The two ways in which residues get noisy, each residue by itself.

A graph is a rate matrix Q over states, columns to rows: :math:`\dot p = \sigma'(t) Q p`, so that noise sigma moves
probabilities by :math:`e^{\sigma Q}`.

==========  ==============================  ====================================  ================
graph       :math:`Q`                       :math:`e^{\sigma Q}`                  ends as
==========  ==============================  ====================================  ================
absorbing   clean to mask at rate 1         stays clean with :math:`e^{-\sigma}`  all masks
uniform     :math:`11^T / N - I`            :math:`e^{-\sigma}`, or drawn anew    uniform
==========  ==============================  ====================================  ================

Source: Lou et al. 2024 (arXiv:2310.16834), section 3.3.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from stablelit.errors import bad_argument, did_you_mean
from stablelit.families.proteins.diffusion.noise import log_expm1
from stablelit.families.proteins.diffusion.randomness import RandomSource, uniform
from stablelit.families.proteins.diffusion.score_entropy import (
    at_least_float32,
    bregman,
    denoising_cost,
    per_sequence,
)
from stablelit.functional.schedules import check_count


@dataclass(frozen=True)
class Graph(ABC):
    """Noise on a residue of `n_states` clean states.

    Wherever a method takes `sites` ``(B, L)`` bool, only those are touched or counted; the codes at others may be any.

    Args:
        n_states: N, 2 or more.
    """

    n_states: int

    def __post_init__(self) -> None:
        check_count(type(self).__name__, "n_states", self.n_states, least=2)

    @abstractmethod
    def corrupt(self, x0: Tensor, sigma: Tensor, generator: RandomSource, sites: Tensor | None = None) -> Tensor:
        """Draws xt from q(xt | x0): ``(B, L)`` to ``(B, L)`` at noise `sigma`, ``(B,)`` or ``(B, 1)``."""

    @abstractmethod
    def log_ratio(self, xt: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        """Logarithms of q(y | x0) / q(xt | x0) for every clean y, ``(B, L, N)``; -inf where it is impossible."""

    @abstractmethod
    def score_entropy(
        self, log_score: Tensor, sigma: Tensor, xt: Tensor, x0: Tensor, sites: Tensor | None = None
    ) -> Tensor:
        r"""Score entropy of every residue, K included.

        Args:
            log_score: ``(B, L, N)``, logarithms of the modelled ratios to every clean state; at y = xt it is not read.
            sigma: ``(B,)`` or ``(B, 1)``, the noise of xt.
            xt: ``(B, L)``.
            x0: ``(B, L)``.
            sites: ``(B, L)`` bool, the residues that count; None is all.

        Returns:
            ``(B, L)``, at least 0, to be multiplied by :math:`\sigma'`; 0 outside `sites`.
        """

    @abstractmethod
    def prior(self, shape: tuple[int, int], generator: RandomSource, device: torch.device | None = None) -> Tensor:
        """Draws xt at the end of all noise, ``(B, L)`` int64."""

    @abstractmethod
    def prior_kl(self, sigma: Tensor) -> Tensor:
        """What a bound over noise up to `sigma` leaves out at the far end, nats per residue, of sigma's shape."""

    @abstractmethod
    def matrix(self, sigma: float) -> Tensor:
        r""":math:`e^{\sigma Q}` in float64, rows to, columns from."""

    @property
    @abstractmethod
    def n_codes(self) -> int:
        """How many codes xt may have: N, and one more where there is a mask."""


@dataclass(frozen=True)
class AbsorbingGraph(Graph):
    """Residues are replaced by a mask, whose code is `n_states`, and stay masked.

    Args:
        n_states: N, 2 or more.
    """

    @property
    def mask(self) -> int:
        """The mask's code, N."""
        return self.n_states

    @property
    def n_codes(self) -> int:
        """N + 1."""
        return self.n_states + 1

    def corrupt(self, x0: Tensor, sigma: Tensor, generator: RandomSource, sites: Tensor | None = None) -> Tensor:
        """See `Graph.corrupt`."""
        touched = _touched(x0, sigma, generator, sites)
        return torch.where(touched, self.mask, x0)

    def log_ratio(self, xt: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        """See `Graph.log_ratio`; at clean residues no state is looked for, and all is -inf."""
        states = torch.arange(self.n_states, device=x0.device)
        possible = (xt == self.mask)[..., None] & (x0[..., None] == states)
        return torch.where(possible, -log_expm1(per_sequence(sigma))[..., None], -torch.inf)

    def score_entropy(
        self, log_score: Tensor, sigma: Tensor, xt: Tensor, x0: Tensor, sites: Tensor | None = None
    ) -> Tensor:
        """See `Graph.score_entropy`; clean residues have none."""
        log_r = -log_expm1(per_sequence(sigma))
        masked = xt == self.mask if sites is None else (xt == self.mask) & sites
        return log_r.exp() * denoising_cost(at_least_float32(log_score) - log_r[..., None], x0, masked)

    def prior(self, shape: tuple[int, int], generator: RandomSource, device: torch.device | None = None) -> Tensor:
        """All masks."""
        return torch.full(shape, self.mask, device=device)

    def prior_kl(self, sigma: Tensor) -> Tensor:
        r""":math:`e^{-\sigma} \log N`: the residues that noise left alone, guessed from the uniform law.

        Strictly the divergence from all masks is infinite for every finite sigma. The bound is one again if the noise
        ends with a jump that masks the rest, and its reversal guesses them; a better guess than uniform costs less.
        """
        return torch.exp(-at_least_float32(sigma)) * math.log(self.n_states)

    def matrix(self, sigma: float) -> Tensor:
        """See `Graph.matrix`, ``(N + 1, N + 1)``."""
        moved = torch.eye(self.n_codes, dtype=torch.float64)
        moved[:-1, :-1] *= math.exp(-sigma)
        moved[-1, :-1] = -math.expm1(-sigma)
        return moved


@dataclass(frozen=True)
class UniformGraph(Graph):
    r"""Residues are drawn anew from all N states, each at rate :math:`1 / N`.

    Args:
        n_states: N, 2 or more.
    """

    @property
    def n_codes(self) -> int:
        """N."""
        return self.n_states

    def corrupt(self, x0: Tensor, sigma: Tensor, generator: RandomSource, sites: Tensor | None = None) -> Tensor:
        """See `Graph.corrupt`."""
        touched = _touched(x0, sigma, generator, sites)
        return torch.where(touched, self.prior((x0.shape[0], x0.shape[1]), generator, x0.device), x0)

    def log_ratio(self, xt: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        r"""See `Graph.log_ratio`, with :math:`\rho = (e^\sigma - 1) / (e^\sigma - 1 + N)`.

        rho to everything else where xt = x0; 1 / rho back to x0 and 1 to the others where not.
        """
        log_rho = self._log_rho(sigma)[..., None]
        states = torch.arange(self.n_states, device=x0.device)
        is_true, is_here = x0[..., None] == states, xt[..., None] == states
        untouched = (xt == x0)[..., None]
        zero = torch.zeros_like(log_rho)
        return torch.where(untouched, torch.where(is_here, zero, log_rho), torch.where(is_true, -log_rho, zero))

    def score_entropy(
        self, log_score: Tensor, sigma: Tensor, xt: Tensor, x0: Tensor, sites: Tensor | None = None
    ) -> Tensor:
        """See `Graph.score_entropy`; weights are 1 / N."""
        log_score, log_rho = at_least_float32(log_score), self._log_rho(sigma)
        xt, x0 = (codes.clamp(0, self.n_states - 1) for codes in (xt, x0))
        untouched = xt == x0
        log_r = torch.where(untouched, log_rho, 0.0)
        # phi(0) = 0: a state whose deviation is set to 0 has neither value nor gradient
        here_and_back = torch.stack([xt, x0], dim=-1)
        deviation = (log_score - log_r[..., None]).scatter_(-1, here_and_back, 0.0)
        to_others = log_r.exp() * (torch.expm1(deviation).sum(-1) - deviation.sum(-1)).clamp(min=0)
        back = log_score.gather(-1, x0[..., None]).squeeze(-1) + log_rho
        entropy = to_others + torch.exp(-log_rho) * bregman(torch.where(untouched, 0.0, back))
        return (entropy if sites is None else torch.where(sites, entropy, 0.0)) / self.n_states

    def prior(self, shape: tuple[int, int], generator: RandomSource, device: torch.device | None = None) -> Tensor:
        """Every state with the same probability."""
        drawn = uniform(shape, generator, torch.device("cpu") if device is None else device, torch.float64)
        return (drawn * self.n_states).long()

    def prior_kl(self, sigma: Tensor) -> Tensor:
        r""":math:`KL(q(x_1 | x_0) \| 1/N)` of one residue."""
        sigma = at_least_float32(sigma)
        kept, other = torch.exp(-sigma), -torch.expm1(-sigma) / self.n_states
        same = kept + other
        # N p log(N p) - N p + 1 adds up to the same and does not cancel where all p are 1 / N
        log_same, log_other = torch.log1p(kept * (self.n_states - 1)), torch.log(-torch.expm1(-sigma))
        return same * _excess(log_same) + (self.n_states - 1) * other * _excess(log_other)

    def matrix(self, sigma: float) -> Tensor:
        """See `Graph.matrix`, ``(N, N)``."""
        n = self.n_states
        kept = math.exp(-sigma)
        return kept * torch.eye(n, dtype=torch.float64) + (1 - kept) / n * torch.ones(n, n, dtype=torch.float64)

    def _log_rho(self, sigma: Tensor) -> Tensor:
        # log1p of N / expm1 is log(expm1 + N) - log(expm1): no overflow at large sigma, no cancellation at small
        return -torch.log1p(self.n_states * torch.exp(-log_expm1(per_sequence(sigma))))


GRAPHS: dict[str, type[Graph]] = {"absorb": AbsorbingGraph, "uniform": UniformGraph}


def build_graph(graph: str, n_states: int, owner: str = "build_graph") -> Graph:
    """The graph of that name: `absorb` or `uniform`.

    Raises:
        ConfigurationError: an unknown name, fewer than 2 states.
    """
    if not isinstance(graph, str) or graph not in GRAPHS:
        raise bad_argument(owner, "graph", graph, ", ".join(GRAPHS), did_you_mean(str(graph), GRAPHS))
    return GRAPHS[graph](n_states)


def _touched(x0: Tensor, sigma: Tensor, generator: RandomSource, sites: Tensor | None) -> Tensor:
    probability = -torch.expm1(-per_sequence(sigma))
    touched = uniform((x0.shape[0], x0.shape[1]), generator, x0.device) < probability
    return touched if sites is None else touched & sites


def _excess(log_ratio: Tensor) -> Tensor:
    """The mean of log r - 1 + 1/r = phi(-log r) over the law in r's numerator is a divergence."""
    return bregman(-log_ratio)
