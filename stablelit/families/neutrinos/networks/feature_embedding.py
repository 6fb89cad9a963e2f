"""Features of pulses and sensors as vectors: a linear layer, with waves of position and time beside it if asked."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stablelit.errors import bad_argument
from stablelit.functional.schedules import check_count

N_COORDINATES = 4
MAX_FREQUENCIES = 12


class FeatureEmbedding(nn.Module):
    """``W [u, sin(2^j pi u_c), cos(2^j pi u_c)] + b`` with c over x, y, z, t and j over 0 to J - 1.

    In a batch's units the longest wave is 1,000 m and 2 us; each further frequency halves it, and with J = 6 the
    shortest, 31 m and 62 ns, tells neighbours on a string apart.

    Source: Mildenhall et al. 2020 (arXiv:2003.08934) eq. 4.

    Args:
        n_features: of u; its first four are x, y, z and t.
        width: d.
        frequencies: J; 0 for the linear layer alone.

    Raises:
        ConfigurationError: an argument out of range.
    """

    def __init__(self, n_features: int, width: int, frequencies: int = 0) -> None:
        super().__init__()
        owner = type(self).__name__
        check_count(owner, "n_features", n_features, N_COORDINATES)
        check_count(owner, "width", width, 1)
        if check_count(owner, "frequencies", frequencies, 0) > MAX_FREQUENCIES:
            raise bad_argument(owner, "frequencies", frequencies, f"an int from 0 to {MAX_FREQUENCIES}")
        self.frequencies = frequencies
        self.n_inputs = n_features + 2 * N_COORDINATES * frequencies
        self.linear = nn.Linear(self.n_inputs, width)

    def forward(self, features: Tensor) -> Tensor:
        """The vectors ``(N, d)`` of features ``(N, n_features)``, float32 also under autocast."""
        if self.frequencies:
            octave = 2.0 ** torch.arange(self.frequencies, device=features.device)
            phase = (math.pi * features[..., :N_COORDINATES, None] * octave).flatten(-2)
            features = torch.cat([features, phase.sin(), phase.cos()], dim=-1)
        # what all blocks add to stays in float32
        return self.linear(features).float()
