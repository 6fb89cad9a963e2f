"""What every comparison of generated with real jets shares: it gathers both, and says how far, how sure, and the floor.

Jets are kept as they come and looked at in `compute`, so that an evaluation step costs an append, and so that ranks
under DDP are gathered before anything is measured.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from stablelit.errors import DataError
from stablelit.families.jets.metrics.wasserstein import Estimate


class Jets(NamedTuple):
    """Padded jets: `particles` ``(n, N, 3)`` of etarel, phirel (rad), ptrel, and `mask` ``(n, N)`` bool."""

    particles: Tensor
    mask: Tensor

    @property
    def n_jets(self) -> int:
        """How many."""
        return len(self.mask)

    def take(self, index: Tensor) -> Jets:
        """The jets at `index`."""
        return Jets(self.particles[index], self.mask[index])

    def require_usable(self, name: str) -> Jets:
        """The same jets.

        Raises:
            DataError: wrong shapes, no jets, or a particle that is there and has NaN or infinity.
        """
        shape = tuple(self.particles.shape)
        if len(shape) != 3 or shape[-1] != 3 or tuple(self.mask.shape) != shape[:2] or self.mask.dtype != torch.bool:
            raise DataError(
                f"{name} jets: particles of shape {shape} with a mask of {tuple(self.mask.shape)} {self.mask.dtype}. "
                f"Allowed: (jets, particles, 3) with (jets, particles) bool."
            )
        if not self.n_jets:
            raise DataError(f"{name} jets: there are none. Allowed: at least one. Call update(..., real=...) for both.")
        bad = self.mask & ~self.particles.isfinite().all(-1)
        if bool(bad.any()):
            jet, particle = bad.nonzero()[0].tolist()
            raise DataError(
                f"{name} jets: particle {particle} of jet {jet} is {self.particles[jet, particle].tolist()} "
                f"({int(bad.any(1).sum())} of {self.n_jets} jets are affected). Allowed: finite numbers."
            )
        return self


def flat(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """``{name: value, name_std: ..., name_floor: ...}``, without what is not known."""
    found = {}
    for name, estimate in estimates.items():
        ends = {"": estimate.value, "_std": estimate.std, "_floor": estimate.floor}
        found.update({name + end: number for end, number in ends.items() if end == "" or number == number})
    return found


class TwoSampleMetric(Metric, ABC):
    """Base of the metrics that compare two sets of jets.

    `compute` returns ``{name, name_std, name_floor}`` for every quantity, float64: the value, its standard error, and
    what real jets score against real ones; what is not known is left out.
    """

    full_state_update = False
    higher_is_better = False
    is_differentiable = False

    real: list[Tensor]
    generated: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("real", default=[], dist_reduce_fx="cat")
        self.add_state("generated", default=[], dist_reduce_fx="cat")

    def update(self, particles: Tensor, mask: Tensor, real: bool) -> None:
        """Adds jets ``(B, N, 3)`` with mask ``(B, N)`` to the real ones or to the generated ones."""
        # one tensor a batch: one gathering under DDP; what is not there is zero, whatever was written there
        kept = torch.where(mask[..., None], particles, 0.0)
        (self.real if real else self.generated).append(torch.cat([kept, mask[..., None].to(kept.dtype)], dim=-1))

    def jets(self, real: bool) -> Jets:
        """The jets seen so far.

        Raises:
            DataError: no jets, or a particle that is there and has NaN or infinity.
        """
        parts: list[Tensor] | Tensor = self.real if real else self.generated
        # torchmetrics turns the list into one tensor when it gathers ranks
        joined = parts if isinstance(parts, Tensor) else (torch.cat(parts) if parts else torch.zeros(0, 1, 4))
        jets = Jets(joined[..., :3], joined[..., 3] > 0.5)
        return jets.require_usable("real" if real else "generated")

    def compute(self) -> dict[str, Tensor]:
        """All quantities; see the class."""
        found = self.estimates(self.jets(real=True), self.jets(real=False))
        return {
            name: torch.tensor(value, dtype=torch.float64, device=self.device) for name, value in flat(found).items()
        }

    @abstractmethod
    def estimates(self, real: Jets, generated: Jets) -> dict[str, Estimate]:
        """Every quantity of the metric by its name."""
