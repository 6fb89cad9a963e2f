"""What all samplers share: where they start, how a state is drawn, and what they return.

States are drawn in float64 by inverting the cumulative sum. A float32 Gumbel draw cuts the tail off, which looks like a
lower temperature (Zheng et al. 2024, arXiv:2409.02908).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stablelit.errors import ConfigurationError, bad_argument
from stablelit.families.proteins.diffusion.graphs import Graph
from stablelit.families.proteins.diffusion.randomness import RandomSource, uniform
from stablelit.functional.schedules import check_number

Network = Callable[[Tensor, Tensor], Tensor]
"""(xt ``(B, L)``, sigma ``(B,)``) -> ``(B, L, N)``: log scores, or log p(x0 | xt), as the sampler says."""


@dataclass(frozen=True)
class Samples:
    """What a sampler drew.

    Args:
        tokens: ``(B, L)``; the template's codes where nothing was to be drawn.
        evaluations: how often the network was asked for the whole batch.
        clipped: how many jumps (residues times steps) had a probability above 1 and were cut back to 1.
    """

    tokens: Tensor
    evaluations: int
    clipped: int = 0


@dataclass(frozen=True)
class Reshaping:
    r"""Temperature and nucleus of p(x0 | xt), the law of a clean residue.

    :math:`p_y \propto p_y^{1/T}`, cut to the most probable states that together reach `top_p`. Both at 1 is the model's
    own law. They change what a mask becomes, not when.

    Args:
        temperature: T, above 0.
        top_p: in (0, 1].

    Raises:
        ConfigurationError: a value outside its range.
    """

    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        check_number("Reshaping", "temperature", self.temperature, above=0.0)
        check_number("Reshaping", "top_p", self.top_p, above=0.0, at_most=1.0)

    @property
    def changes_nothing(self) -> bool:
        """Whether both are 1."""
        return self.temperature == 1.0 and self.top_p == 1.0

    def __call__(self, log_weights: Tensor) -> Tensor:
        """Log weights ``(..., N)`` of any scale to probabilities ``(..., N)``, float64."""
        log_weights = log_weights.double() / self.temperature
        p = torch.softmax(log_weights, dim=-1)
        if self.top_p < 1.0:
            ordered, states = p.sort(dim=-1, descending=True)
            # a state stays if those before it have not reached top_p: the first always does
            ordered = torch.where(ordered.cumsum(-1) - ordered < self.top_p * (1 - 1e-12), ordered, 0.0)
            p = torch.zeros_like(p).scatter(-1, states, ordered)
            p = p / p.sum(-1, keepdim=True)
        return p


def start(
    graph: Graph,
    shape: tuple[int, int],
    generator: RandomSource,
    template: Tensor | None = None,
    free: Tensor | None = None,
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """Where a sampler begins: the prior at sites to be drawn, the template at all others.

    Args:
        graph: whose prior is drawn.
        shape: (B, L).
        generator: of the prior.
        template: ``(B, L)`` codes; at sites that are not free they stay as they are (given residues, padding).
        free: ``(B, L)`` bool, the sites to be drawn; None is all.
        device: where to work; the template's where there is one.

    Returns:
        xt ``(B, L)`` int64 and free ``(B, L)`` bool.

    Raises:
        ConfigurationError: `free` without a template, shapes that differ.
    """
    if free is not None and template is None:
        raise ConfigurationError(
            "sampler: free= is given without template=. Give template (B, L) with the codes of the sites that are "
            "not free, e.g. given residues and padding."
        )
    for name, tensor in (("template", template), ("free", free)):
        if tensor is not None and tuple(tensor.shape) != tuple(shape):
            raise bad_argument("sampler", name, tuple(tensor.shape), f"a tensor of shape {tuple(shape)}")
    device = template.device if template is not None else device
    xt = graph.prior(shape, generator, device)
    if template is None or free is None:
        return xt, torch.ones(shape, dtype=torch.bool, device=device)
    return torch.where(free, xt, template), free


def categorical(p: Tensor, generator: RandomSource) -> Tensor:
    """Draws a state of every row of `p` ``(B, L, N)``, weights of any positive sum: ``(B, L)`` int64.

    A state of weight 0 is never drawn.
    """
    return state_at(p, uniform((p.shape[0], p.shape[1]), generator, p.device, torch.float64))


def state_at(p: Tensor, u: Tensor) -> Tensor:
    """The state at which the cumulative sum of `p` ``(B, L, N)`` passes the share `u` ``(B, L)``, float64 in [0, 1)."""
    cumulative = p.double().cumsum(-1)
    # at most (1 - 2^-53) of the total, which rounds to a number below it: no state beyond the last of any weight
    return (cumulative <= (u * cumulative[..., -1])[..., None]).sum(-1)


def drawn_sites(p: Tensor, xt: Tensor, sites: Tensor, generator: RandomSource) -> Tensor:
    """`xt` with its `sites` ``(B, L)`` bool drawn from `p` ``(B, L, N)`` and all others as they are."""
    return torch.where(sites, categorical(p, generator), xt)
