"""The post-mortem's model as it was: an autoencoder of rows, with a graph beside it that no reconstruction reaches.

::

    z_s, z_n, z_b = three encoders of the whole row, (k,) each
    A = the largest tenth of W's entries, through a sigmoid; the diagonal among them
    mean = Decoder(z_s, z_n, z_b)

`mean` does not depend on A, so the derivative of the reconstruction by W is not small: there is none. What moves W is
its sparsity and its acyclicity, which know nothing of the data. It is here to be measured, and to be found by
`GradientReachCheck`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stablelit.errors import ConfigurationError
from stablelit.families.causal.mechanisms import Mechanism, Prediction
from stablelit.families.causal.structure import allowed_edges
from stablelit.functional.schedules import check_count, check_number


class LargestStructure(nn.Module):
    """W of (d, d) from random numbers, of which the largest are kept through a sigmoid.

    Args:
        nodes: d.
        allowed: (d, d) bool, edges that may count as found; the diagonal is among the candidates all the same.
        kept_share: of the d^2 entries.
    """

    allowed: Tensor
    lag_weights = None

    def __init__(self, nodes: int, allowed: Tensor | None, kept_share: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(0.1 * torch.randn(nodes, nodes, dtype=torch.float64))
        self.kept = max(1, int(kept_share * nodes**2))
        self.register_buffer("allowed", allowed_edges(nodes, allowed), persistent=False)

    def edge_weights(self) -> Tensor:
        """A, (d, d): 0, or about a half."""
        values, places = self.weights.flatten().topk(self.kept)
        kept = torch.zeros_like(self.weights).flatten().scatter(0, places, torch.sigmoid(values))
        return kept.view_as(self.weights)


class AutoencoderMechanism(Mechanism):
    """Three encoders and a decoder of rows, and a graph beside them.

    Args:
        nodes: d.
        lags: must be 0: it looked at one row at a time.
        allowed: (d, d) bool.
        shared_scale: not used: a squared error has no scale.
        environments: not used.
        latent_dim: of each code.
        hidden: units of each network.
        kept_share: of the entries of W that are kept.

    Raises:
        ConfigurationError: a size below 1, a share outside (0, 1], lags.
    """

    def __init__(
        self,
        nodes: int,
        lags: int = 0,
        allowed: Tensor | None = None,
        shared_scale: bool = False,
        environments: int = 1,
        latent_dim: int = 16,
        hidden: int = 32,
        kept_share: float = 0.1,
    ) -> None:
        super().__init__()
        del environments
        for name, value in (("latent_dim", latent_dim), ("hidden", hidden)):
            check_count("StructureLearner", f"mechanism.{name}", value, 1)
        check_number("StructureLearner", "mechanism.kept_share", kept_share, above=0.0, at_most=1.0)
        if lags:
            raise ConfigurationError(
                f"StructureLearner: the mechanism 'autoencoder' sees one row at a time, but lags={lags}. Set "
                f"data.lags=0, or choose 'linear', 'network' or 'tri_latent'."
            )
        self.structure = LargestStructure(nodes, allowed, kept_share)
        self.encoders = nn.ModuleList(
            nn.Sequential(nn.Linear(nodes, hidden), nn.ReLU(), nn.Linear(hidden, latent_dim)) for _ in range(3)
        )
        self.decoder = nn.Sequential(nn.Linear(3 * latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, nodes))
        # nothing learns it: it is there because every mechanism has one
        self.log_scale = nn.Parameter(torch.zeros(() if shared_scale else (nodes,)), requires_grad=False)

    @property
    def predicts_by_graph(self) -> bool:
        """No."""
        return False

    def forward(self, rows: Tensor, environment: Tensor, graph: Tensor | None = None) -> Prediction:
        """As `Mechanism` says, but that `graph` changes nothing."""
        del environment, graph
        codes = tuple(encoder(rows[:, 0]) for encoder in self.encoders)
        return Prediction(self.decoder(torch.cat(codes, dim=1)), self.log_scale, codes)
