"""The upper level: a transformer over the tokens of an event, sensors or pulses, and a summary token for the answer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stablelit.errors import bad_argument
from stablelit.families.neutrinos.event_batch import METRES, N_EVENT_FEATURES, NANOSECONDS
from stablelit.families.neutrinos.light_in_ice import SPEED_OF_LIGHT
from stablelit.families.neutrinos.networks.padding import is_row, ranks_in_group, to_places
from stablelit.families.neutrinos.networks.relative_bias import SpaceTimeBias
from stablelit.functional.schedules import check_count, check_flag
from stablelit.nn import SelfAttention, TransformerBlock


class EventTransformer(nn.Module):
    """Tokens padded to the longest event, a summary token before them -> blocks -> norm of the summary token.

    The last block is asked for the summary token alone: its queries, projections and feed-forward are those of one
    place an event, and the numbers are what they would be. So it has no relative bias either, and blocks before it
    have.

    Args:
        d_model: d.
        layers: blocks.
        heads: of each.
        feedforward: width of a block's middle as a multiple of d.
        dropout: in the blocks.
        qk_norm: see `SelfAttention`.
        event_summary: whether the summary token begins with a linear function of ``batch["events"]`` added.
        relative_bias: whether all blocks but the last have a `SpaceTimeBias`.
        bias_functions: its K.

    Raises:
        ConfigurationError: an argument out of range, or a relative bias with one block.
    """

    def __init__(
        self,
        d_model: int = 128,
        layers: int = 4,
        heads: int = 8,
        feedforward: float = 4.0,
        dropout: float = 0.0,
        qk_norm: bool = True,
        event_summary: bool = True,
        relative_bias: bool = True,
        bias_functions: int = 8,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_count(owner, "layers", layers, 1)
        self.width = d_model
        self.blocks = nn.ModuleList(
            TransformerBlock(SelfAttention(d_model, heads, qk_norm, dropout), feedforward, dropout)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.summary_token = nn.Parameter(torch.randn(d_model) * 0.02)
        summarised = check_flag(owner, "event_summary", event_summary)
        self.event_embedding = nn.Linear(N_EVENT_FEATURES, d_model) if summarised else None
        self.relative_bias: SpaceTimeBias | None = None
        if check_flag(owner, "relative_bias", relative_bias):
            if layers == 1:
                remedy = "The last block asks from the summary token, which is nowhere. Use more layers or no bias."
                raise bad_argument(owner, "relative_bias", relative_bias, "False with one layer", remedy)
            self.relative_bias = SpaceTimeBias(layers - 1, heads, bias_functions)

    def forward(
        self, tokens: Tensor, points: Tensor, event: Tensor, counts: Tensor, longest: int, events: Tensor
    ) -> Tensor:
        """One vector an event, ``(B, d)``.

        Args:
            tokens: ``(N, d)``, those of an event together.
            points: ``(N, 4)``, their x, y, z and time, in a batch's units.
            event: ``(N,)``, the event of each, rising.
            counts: ``(B,)``, tokens of each event.
            longest: the most tokens of an event.
            events: ``(B, 9)``, see `event_batch`.
        """
        n, place = len(counts), event * longest + ranks_in_group(counts, event)
        start = self.summary_token.expand(n, -1)
        if self.event_embedding is not None:
            start = start + self.event_embedding(events)
        padded = to_places(tokens, place, n, longest)
        x = torch.cat([start[:, None].to(padded.dtype), padded], dim=1)
        seen = is_row(counts + 1, longest + 1)
        if self.relative_bias is None:
            for block in self.blocks[:-1]:
                x = block(x, seen[:, None, None, :])
        else:
            planes = self.relative_bias.planes(to_places(_in_metres(points), place, n, longest), counts)
            for layer, block in enumerate(self.blocks[:-1]):
                x = block(x, self.relative_bias(layer, planes))
        x = self.blocks[-1](x, seen[:, None, None, :], n_queries=1)
        answer: Tensor = self.norm(x[:, 0])
        return answer


def _in_metres(points: Tensor) -> Tensor:
    return torch.cat([points[:, :3] * METRES, points[:, 3:] * (NANOSECONDS * SPEED_OF_LIGHT)], dim=1)
