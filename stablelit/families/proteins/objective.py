"""The four training losses of one bound: which there are, what they need, and how one is drawn for a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.families.proteins.diffusion import (
    AbsorbingGraph,
    Noise,
    cross_entropy,
    denoising_cost,
    k_at,
    log_probabilities,
    mask_by_rate,
    mask_k,
    t_weight,
    weighted_score_entropy,
)
from stablelit.families.proteins.diffusion.graphs import Graph
from stablelit.families.proteins.diffusion.noise_curriculum import NoiseCurriculum
from stablelit.families.proteins.diffusion.randomness import RandomSource

PARAMETERIZATIONS = ("score", "subs")
LOSSES = ("dwdse", "dce", "lambda_dce", "k_dce")
OVER_TIME = ("dwdse", "dce")

Head = Callable[[Tensor, Tensor], Tensor]
"""(codes ``(B, L)``, sigma ``(B,)``) -> the network's output h, ``(B, L, N)``."""


@dataclass(frozen=True)
class Drawn:
    """A loss of a batch.

    Args:
        nats: ``(B,)``, the weighted loss of each sequence.
        mask_rate: ``()``, the share of its residues that noise had touched.
        sigma: ``(B,)``, what the network was told.
    """

    nats: Tensor
    mask_rate: Tensor
    sigma: Tensor


@dataclass(frozen=True)
class Objective:
    r"""What training minimises.

    ============  ================================================================================================
    `dwdse`       score entropy, :math:`\sigma'(t) \sum_i \ell_i`: unnormalised scores are held to add up too
    `dce`         :math:`\frac{\sigma'}{e^\sigma - 1} \sum_{masked} -\log p(x_i)`, MDLM's
    `lambda_dce`  :math:`\frac{1}{\lambda} \sum_{masked} -\log p(x_i)`, each residue masked with :math:`\lambda`
    `k_dce`       :math:`\frac{n}{k} \sum_{masked} -\log p(x_i)`, exactly k of n residues masked
    ============  ================================================================================================

    Args:
        graph: of the noise; the uniform one has `dwdse` alone.
        noise: its schedule.
        parameterization: "score", h is a log score less what is known of it; or "subs", h is a logit of p(x0 | xt).
        loss: a name in `LOSSES`.
        curriculum: of `dwdse` and `dce`.
        weight_clip: the largest weight of a masked residue; None is none. A clipped loss is no bound.

    Raises:
        ConfigurationError: an unknown name, or a combination that is none.
    """

    graph: Graph
    noise: Noise
    parameterization: str
    loss: str
    curriculum: NoiseCurriculum
    weight_clip: float | None = None

    def __post_init__(self) -> None:
        owner = "ScoreEntropyDiffusion"
        for name, known in (("parameterization", PARAMETERIZATIONS), ("loss", LOSSES)):
            value = getattr(self, name)
            if value not in known:
                raise bad_argument(owner, name, value, ", ".join(known), did_you_mean(str(value), known))
        if not isinstance(self.graph, AbsorbingGraph) and (self.parameterization, self.loss) != ("score", "dwdse"):
            raise ConfigurationError(
                f"{owner}: parameterization={self.parameterization} and loss={self.loss} are of masks, and "
                f"graph=uniform has none. Use score and dwdse, or graph=absorb."
            )
        if self.parameterization == "subs" and self.loss == "dwdse":
            raise bad_argument(
                owner, "loss", self.loss, "dce, lambda_dce, k_dce with parameterization=subs", "They are equal there."
            )

    @property
    def over_time(self) -> bool:
        """Whether times are drawn, which a curriculum can change."""
        return self.loss in OVER_TIME

    def draw(
        self, head: Head, x0: Tensor, loss_mask: Tensor, u: Tensor, difficulty: float, random: RandomSource = None
    ) -> Drawn:
        """The loss of a batch at one draw of the noise.

        Args:
            head: the network.
            x0: ``(B, L)``.
            loss_mask: ``(B, L)`` bool, the residues that are noised and counted.
            u: ``(B,)`` in [0, 1), from `sample_uniform`.
            difficulty: in [0, 1].
            random: of the noise; None is torch's global generator.
        """
        residues = loss_mask.sum(1)
        if not self.over_time:
            assert isinstance(self.graph, AbsorbingGraph)
            if self.loss == "lambda_dce":
                # u = 0 would be no mask and an infinite weight
                masking = mask_by_rate(self.graph, x0, loss_mask, 1.0 - u, random)
            else:
                masking = mask_k(self.graph, x0, loss_mask, k_at(u, loss_mask), random)
            sigma = masking.sigma.clamp(max=self.noise.sigma_at_end)
            cost = cross_entropy(log_probabilities(head(masking.xt, sigma)), x0)
            nats = self._clipped(masking.weight) * torch.where(masking.masked, cost, 0.0).sum(1)
            return Drawn(nats, masking.masked.sum() / residues.sum().clamp(min=1), sigma)
        noise = self.curriculum.draw(difficulty, u, self.noise, random)
        xt = self.graph.corrupt(x0, noise.corruption_sigma, random, loss_mask)
        h = head(xt, noise.sigma)
        if isinstance(self.graph, AbsorbingGraph):
            masked = (xt == self.graph.mask) & loss_mask
            cost = self._cost(h, x0, masked)
            weight = self._clipped(t_weight(noise.sigma, noise.rate))
            nats = weight * torch.where(masked, cost, 0.0).sum(1)
        else:
            masked = (xt != x0) & loss_mask
            nats = weighted_score_entropy(self.graph, h, noise.sigma, noise.rate, xt, x0, loss_mask)
        return Drawn(noise.weight * nats, masked.sum() / residues.sum().clamp(min=1), noise.sigma)

    def _cost(self, h: Tensor, x0: Tensor, masked: Tensor) -> Tensor:
        """What a masked residue costs, ``(B, L)``, in units of 1 / (e^sigma - 1): the score entropy has no more."""
        if self.loss == "dwdse":
            return denoising_cost(unnormalised_log_probabilities(h), x0, masked)
        return cross_entropy(log_probabilities(h), x0)

    def _clipped(self, weight: Tensor) -> Tensor:
        return weight if self.weight_clip is None else weight.clamp(max=self.weight_clip)


def unnormalised_log_probabilities(h: Tensor) -> Tensor:
    r""":math:`\log s + \log(e^\sigma - 1) = h - \log N` of `log_score_from`, ``(B, L, N)``, float32."""
    return h.float() - math.log(h.shape[-1])
