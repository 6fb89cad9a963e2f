r"""Signal, noise and bias of a sensor as three codes, with the signal mixed through the graph.

For the row :math:`x_t` and its context :math:`c_t` (earlier rows and the environment)::

    z_s[i] = Encoder_i(x_ti)                      (k,) the signal of sensor i, from its own reading alone
    z_n    = NoiseEncoder(c_t)                    (k,) how noisy it is now
    z_b    = BiasEncoder(c_t)                     (k,) slow offsets
    mixed[j] = sum_i W[i, j] z_s[i]
    mean[j]  = u_j . mixed[j] / sqrt(k) + BiasDecoder(z_b)[j]
    log_scale[j] = sigma_j + NoiseDecoder(z_n)[j]

What makes the graph necessary is what the codes may *not* see. A noise or bias code of the present row would carry
:math:`x_{t,j}` past the graph, and the model would be an autoencoder whose graph is idle: that was the post-mortem's
(`autoencoder`). So the present row enters through the signal alone, and the signal of j never its own prediction.

The size of an edge is W's alone: codes have unit variance, and `u_j` unit length.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stablelit.families.causal.mechanisms import Mechanism, Prediction
from stablelit.families.causal.structure import WeightedStructure
from stablelit.functional.schedules import check_count

_TINY = 1e-5
# share of a batch's statistics in the running ones
_MOMENTUM = 0.01


class TriLatentMechanism(Mechanism):
    """Three codes, the signal through W.

    Args:
        nodes: d.
        lags: p, rows of the context.
        allowed: (d, d) bool, edges that may be.
        shared_scale: one scale of the noise for all columns, beside what the noise code adds.
        environments: how many there are; with more than one their embedding is part of the context.
        latent_dim: k.
        hidden: units of the encoders.

    Raises:
        ConfigurationError: a size below 1.
    """

    running_mean: Tensor
    running_square: Tensor

    def __init__(
        self,
        nodes: int,
        lags: int = 0,
        allowed: Tensor | None = None,
        shared_scale: bool = False,
        environments: int = 1,
        latent_dim: int = 4,
        hidden: int = 16,
    ) -> None:
        super().__init__()
        for name, value in (("latent_dim", latent_dim), ("hidden", hidden)):
            check_count("StructureLearner", f"mechanism.{name}", value, 1)
        self.structure = WeightedStructure(nodes, lags=0, allowed=allowed)
        self.nodes, self.lags, self.latent_dim = nodes, lags, latent_dim
        self.signal_in = nn.Parameter(torch.randn(nodes, hidden))
        self.signal_bias = nn.Parameter(torch.randn(nodes, hidden))
        # nearly straight at first: the encoder begins as what a linear mechanism has
        self.signal_out = nn.Parameter(0.1 * torch.randn(nodes, hidden, latent_dim) / hidden**0.5)
        self.signal_straight = nn.Parameter(torch.ones(nodes, latent_dim))
        self.readout = nn.Parameter(torch.ones(nodes, latent_dim))
        self.environment = nn.Embedding(environments, latent_dim) if environments > 1 else None
        context = lags * nodes + (latent_dim if environments > 1 else 0)
        self.noise_encoder = _encoder(context, hidden, latent_dim)
        self.bias_encoder = _encoder(context, hidden, latent_dim)
        self.noise_decoder = nn.Linear(latent_dim, nodes, bias=False)
        self.bias_decoder = nn.Linear(latent_dim, nodes)
        nn.init.zeros_(self.noise_decoder.weight)
        if not context:
            # codes of nothing: parameters that no loss reaches make data-parallel training wait for their gradients
            self.noise_decoder.weight.requires_grad_(False)
            self.bias_decoder.weight.requires_grad_(False)
        self.log_scale = nn.Parameter(torch.zeros(() if shared_scale else (nodes,)))
        self.register_buffer("running_mean", torch.zeros(nodes, latent_dim))
        self.register_buffer("running_square", torch.ones(nodes, latent_dim))

    @property
    def has_slopes(self) -> bool:
        """Yes: codes of unit variance carry W to the prediction."""
        return True

    def forward(self, rows: Tensor, environment: Tensor, graph: Tensor | None = None) -> Prediction:
        """As `Mechanism` says; while training the codes' statistics follow the batches."""
        weights = self.edge_weights() if graph is None else self.edge_weights() * graph
        signal = self._unit_variance(self.signal(rows[:, 0]))
        mixed = torch.einsum("bik,ij->bjk", signal, weights.to(rows.dtype))
        mean = (mixed * functional.normalize(self.readout, dim=-1)).sum(-1) / self.latent_dim**0.5
        log_scale: Tensor = self.log_scale
        codes: tuple[Tensor, ...] = (signal.flatten(1),)
        context = self._context(rows, environment)
        if context is None:
            mean = mean + self.bias_decoder.bias
        else:
            noise, bias = self.noise_encoder(context), self.bias_encoder(context)
            mean = mean + self.bias_decoder(bias)
            log_scale = log_scale + self.noise_decoder(noise)
            codes = (*codes, noise, bias)
        return Prediction(mean, log_scale, codes)

    def signal(self, row: Tensor) -> Tensor:
        """The signal code of each sensor, (B, d, k), before its variance is set to 1; (B, d) in."""
        units = torch.tanh(row.unsqueeze(-1) * self.signal_in + self.signal_bias)
        return torch.einsum("bih,ihk->bik", units, self.signal_out) + row.unsqueeze(-1) * self.signal_straight

    def _context(self, rows: Tensor, environment: Tensor) -> Tensor | None:
        parts = [rows[:, 1:].flatten(1)] if self.lags else []
        if self.environment is not None:
            parts.append(self.environment(environment))
        return torch.cat(parts, dim=1) if parts else None

    def _unit_variance(self, signal: Tensor) -> Tensor:
        if self.training and len(signal) > 1:
            mean, square = signal.mean(0), signal.var(0, unbiased=False)
            with torch.no_grad():
                self.running_mean.lerp_(mean, _MOMENTUM)
                self.running_square.lerp_(square, _MOMENTUM)
        else:
            mean, square = self.running_mean, self.running_square
        return (signal - mean) / (square + _TINY).sqrt()


def _encoder(inputs: int, hidden: int, outputs: int) -> nn.Module:
    if not inputs:
        return nn.Identity()
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
