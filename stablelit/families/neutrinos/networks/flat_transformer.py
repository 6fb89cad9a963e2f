"""All pulses of an event as tokens of one transformer, without a hierarchy: the baseline that one has to beat."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stablelit.families.neutrinos.event_batch import N_PULSE_FEATURES, PULSE_TIME, Batch
from stablelit.families.neutrinos.networks.about_centre import N_ABOUT_CENTRE, pulses_about_centre
from stablelit.families.neutrinos.networks.accounting import (
    BACKWARD_AND_FORWARD,
    event_transformer_flops,
    token_counts,
)
from stablelit.families.neutrinos.networks.batch_checks import check_batch
from stablelit.families.neutrinos.networks.event_transformer import EventTransformer
from stablelit.families.neutrinos.networks.feature_embedding import FeatureEmbedding
from stablelit.families.neutrinos.networks.padding import pulses_of_events
from stablelit.functional.schedules import check_flag


class FlatTransformer(nn.Module):
    """Attention among all pulses of an event, padded to the longest.

    Args:
        d_model: d.
        layers: blocks.
        heads: of each.
        feedforward: width of a block's middle as a multiple of d.
        dropout: in the blocks.
        event_summary: whether ``batch["events"]`` goes into the summary token.
        about_centre: whether a pulse comes with where it is as seen from the middle of the event's light; see
            `about_centre`.
        relative_bias: whether there is a `SpaceTimeBias` between pulses; its cost grows with the square of them.
        qk_norm: see `SelfAttention`.
        frequencies: of pulses' coordinates; see `FeatureEmbedding`.
        bias_functions: K of the relative bias.

    Raises:
        ConfigurationError: an argument out of range.
    """

    def __init__(
        self,
        d_model: int = 128,
        layers: int = 8,
        heads: int = 8,
        feedforward: float = 4.0,
        dropout: float = 0.0,
        event_summary: bool = True,
        about_centre: bool = True,
        relative_bias: bool = False,
        qk_norm: bool = True,
        frequencies: int = 0,
        bias_functions: int = 8,
    ) -> None:
        super().__init__()
        self.width = d_model
        self.about_centre = check_flag(type(self).__name__, "about_centre", about_centre)
        n_features = N_PULSE_FEATURES + N_ABOUT_CENTRE * self.about_centre
        self.embedding = FeatureEmbedding(n_features, d_model, frequencies)
        self.event_transformer = EventTransformer(
            d_model, layers, heads, feedforward, dropout, qk_norm, event_summary, relative_bias, bias_functions
        )

    def forward(self, batch: Batch) -> Tensor:
        """One vector an event, ``(B, width)``.

        Raises:
            DataError: the batch's parts do not fit together.
        """
        check_batch(type(self).__name__, batch)
        pulses = batch["pulses"]
        event, counts = pulses_of_events(batch)
        points = pulses[:, : PULSE_TIME + 1]
        if self.about_centre:
            pulses = torch.cat([pulses, pulses_about_centre(pulses, batch["events"], event)], dim=1)
        answer: Tensor = self.event_transformer(
            self.embedding(pulses), points, event, counts, batch["longest_pulses"], batch["events"]
        )
        return answer

    def token_counts(self, batch: Batch) -> dict[str, int]:
        """See `accounting.token_counts`."""
        return token_counts(batch)

    def flops_per_batch(self, batch: Batch) -> int:
        """Floating-point operations of a forward and a backward pass, an estimate from shapes: matrices and scores."""
        flops = event_transformer_flops(self.event_transformer, len(batch["events"]), batch["longest_pulses"])
        flops += 2 * len(batch["pulses"]) * self.embedding.n_inputs * self.width
        return BACKWARD_AND_FORWARD * flops
