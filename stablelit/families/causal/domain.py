r"""Keeps W where the log-determinant means something: :math:`\rho(W \circ W) < s`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stablelit.families.causal.acyclicity import inside_domain, spectral_radius
from stablelit.families.causal.mechanisms import Mechanism

# Bello et al. 2022, algorithm 1, halve the step likewise
MOST_HALVINGS = 20
# how far above the spectral radius s is put where a stage would begin outside its domain
MARGIN = 1.1


class DomainKeeper(nn.Module):
    """Takes back as much of a step as leads out of the domain.

    The device is waited for once an optimizer step.

    Args:
        weights: the parameter that W is made of.
    """

    previous: Tensor
    halvings: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("previous", weights.detach().clone())
        self.register_buffer("halvings", torch.tensor(0))

    @torch.no_grad()
    def keep_inside(self, mechanism: Mechanism, s: Tensor, optimizer: Any = None) -> None:
        """After an optimizer step: halves it until W is inside, and halves the rate where that is not enough.

        Args:
            mechanism: whose weights have just been stepped.
            s: of the log-determinant.
            optimizer: whose rates are halved; None halves none.
        """
        weights = mechanism.structure.weights
        for _ in range(MOST_HALVINGS):
            if inside_domain(mechanism.edge_weights(), s):
                self.previous.copy_(weights)
                return
            # a weight that is not finite cannot be halved
            weights.copy_(torch.where(weights.isfinite(), weights.lerp(self.previous, 0.5), self.previous))
            self.halvings += 1
        weights.copy_(self.previous)
        for group in getattr(optimizer, "param_groups", ()):
            group["lr"] *= 0.5

    @torch.no_grad()
    def widen(self, mechanism: Mechanism, s: Tensor) -> None:
        """At the beginning of a stage: raises its s where W is outside already."""
        weights = mechanism.edge_weights()
        if not inside_domain(weights, s):
            s.fill_(max(float(s), MARGIN * spectral_radius(weights)))
