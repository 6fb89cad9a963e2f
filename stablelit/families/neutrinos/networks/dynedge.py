"""The graph network of the field: edge convolutions on graphs that are built anew after each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stablelit.errors import bad_argument, did_you_mean
from stablelit.families.neutrinos.event_batch import N_PULSE_FEATURES, Batch
from stablelit.families.neutrinos.networks.accounting import BACKWARD_AND_FORWARD, token_counts
from stablelit.families.neutrinos.networks.batch_checks import check_batch
from stablelit.families.neutrinos.networks.edge_convolution import EdgeConvolution, layer_stack
from stablelit.families.neutrinos.networks.neighbours import nearest_neighbours
from stablelit.families.neutrinos.networks.padding import is_row, pulses_of_events, ranks_in_group, to_places
from stablelit.functional.schedules import check_count

N_HOMOPHILY = 4
"""Shares of edges between equal x, y, z and t."""

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": {
        "layer_sizes": ((32, 64), (64, 64), (64, 64), (64, 64)),
        "post_processing": (64, 64),
        "readout": (64,),
    },
}


class DynEdge(nn.Module):
    """Convolutions over each pulse's k nearest, the graph of each from the features before it; all of them pooled.

    The first graph is by position; each further one by as many of the first columns of the last convolution's output.
    The inputs and all outputs side by side go through `post_processing`, are pooled over the pulses of an event by
    minimum, maximum, sum and mean, and with the shares of edges between equal x, y, z and t and log10 of the number of
    pulses through `readout`.

    Source: Abbasi et al. 2022 (arXiv:2209.03042) section 4 and GraphNeT's implementation of it, whose sizes the
    defaults are. It takes the number of pulses itself in place of its logarithm, and has no LeakyReLU between
    `post_processing` and the pooling, but after it.

    Args:
        layer_sizes: of each convolution's layers.
        post_processing: sizes of layers for each pulse.
        readout: sizes of layers for each event; the last is `width`.
        neighbours: k.
        graph_columns: 3 for neighbours by x, y and z, 4 for time (us) beside them (500 m).
        backend: see `EdgeConvolution`.

    Raises:
        ConfigurationError: an argument out of range.
    """

    def __init__(
        self,
        layer_sizes: Sequence[Sequence[int]] = ((128, 256), (336, 256), (336, 256), (336, 256)),
        post_processing: Sequence[int] = (336, 256),
        readout: Sequence[int] = (128,),
        neighbours: int = 8,
        graph_columns: int = 3,
        backend: str = "dense",
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        if not isinstance(layer_sizes, Sequence) or isinstance(layer_sizes, str) or not layer_sizes:
            raise bad_argument(owner, "layer_sizes", layer_sizes, "a list of lists of sizes, one a convolution")
        convolutions = [_checked_sizes(owner, "layer_sizes", sizes) for sizes in layer_sizes]
        post, read = (
            _checked_sizes(owner, "post_processing", post_processing),
            _checked_sizes(owner, "readout", readout),
        )
        self.neighbours = check_count(owner, "neighbours", neighbours, 1)
        if check_count(owner, "graph_columns", graph_columns, 3) > 4:
            raise bad_argument(owner, "graph_columns", graph_columns, "3 (x, y, z) or 4 (and time)")
        self.graph_columns = graph_columns
        outputs = [sizes[-1] for sizes in convolutions]
        if min(outputs) < graph_columns:
            allowed = f"convolutions of graph_columns={graph_columns} outputs or more"
            raise bad_argument(owner, "layer_sizes", layer_sizes, allowed)
        inputs = [N_PULSE_FEATURES, *outputs[:-1]]
        self.convolutions = nn.ModuleList(
            EdgeConvolution(n, sizes, backend) for n, sizes in zip(inputs, convolutions, strict=True)
        )
        # the last activation comes after the pooling
        self.post_processing = layer_stack([N_PULSE_FEATURES + sum(outputs), *post])[:-1]
        self.activation = nn.LeakyReLU()
        self.readout = layer_stack([4 * post[-1] + N_HOMOPHILY + 1, *read])
        self.width = read[-1]

    @classmethod
    def preset(cls, name: str, **changes: Any) -> DynEdge:
        """A network of known size, "paper" or "small", with `changes`.

        Raises:
            ConfigurationError: no such preset, or an argument out of range.
        """
        if name not in PRESETS:
            raise bad_argument(cls.__name__, "preset", name, ", ".join(PRESETS), did_you_mean(str(name), PRESETS))
        return cls(**(PRESETS[name] | changes))

    def forward(self, batch: Batch) -> Tensor:
        """One vector an event, ``(B, width)``.

        Raises:
            DataError: the batch's parts do not fit together.
        """
        check_batch(type(self).__name__, batch)
        pulses, longest = batch["pulses"], batch["longest_pulses"]
        event, counts = pulses_of_events(batch)
        x, features, homophily = pulses, [pulses], None
        for convolution in self.convolutions:
            columns = x.detach()[:, : self.graph_columns]
            neighbour, valid = nearest_neighbours(columns, event, counts, longest, self.neighbours)
            if homophily is None:
                homophily = _homophily(pulses[:, :N_HOMOPHILY], neighbour, valid, event, len(counts))
            x = convolution(x, neighbour, valid)
            features.append(x.float())
        of_pulse = self.post_processing(torch.cat(features, dim=1)).float()
        pooled = self.activation(torch.cat(_pooled(of_pulse, event, counts, longest), dim=1))
        answer: Tensor = self.readout(torch.cat([pooled, homophily, counts.float().log10()[:, None]], dim=1))
        return answer

    def token_counts(self, batch: Batch) -> dict[str, int]:
        """See `accounting.token_counts`."""
        return token_counts(batch)

    def flops_per_batch(self, batch: Batch) -> int:
        """Floating-point operations of a forward and a backward pass, an estimate from shapes: its matrices."""
        pulses = len(batch["pulses"])
        flops = 2 * pulses * _weights(self.post_processing) + 2 * len(batch["events"]) * _weights(self.readout)
        for convolution in self.convolutions:
            # the first layer is computed once a pulse, the others once an edge
            first = convolution.layers[0].weight.numel()
            flops += 2 * pulses * (first + self.neighbours * (_weights(convolution.layers) - first))
        return BACKWARD_AND_FORWARD * flops


def _weights(layers: nn.Sequential) -> int:
    return sum(layer.weight.numel() for layer in layers if isinstance(layer, nn.Linear))


def _checked_sizes(owner: str, name: str, sizes: object) -> list[int]:
    if not isinstance(sizes, Sequence) or isinstance(sizes, str) or not sizes:
        raise bad_argument(owner, name, sizes, "a list of one or more sizes")
    return [check_count(owner, name, size, 1) for size in sizes]


def _homophily(coordinates: Tensor, neighbour: Tensor, valid: Tensor, event: Tensor, n_events: int) -> Tensor:
    """The share of each event's edges that join equal values of each coordinate, ``(B, C)``; 0 without edges."""
    equal = (coordinates[neighbour] == coordinates[:, None]) & valid[..., None]
    counted = torch.cat([equal.sum(dim=1), valid.sum(dim=1, keepdim=True)], dim=1).to(coordinates.dtype)
    total = counted.new_zeros(n_events, counted.shape[1]).index_add(0, event, counted)
    return total[:, :-1] / total[:, -1:].clamp_min(1.0)


def _pooled(rows: Tensor, event: Tensor, counts: Tensor, longest: int) -> list[Tensor]:
    """Minimum, maximum, sum and mean over the rows ``(N, F)`` of each event, ``(B, F)`` each."""
    n = len(counts)
    padded = to_places(rows, event * longest + ranks_in_group(counts, event), n, longest)
    absent = ~is_row(counts, longest)[..., None]
    total = rows.new_zeros(n, rows.shape[1]).index_add(0, event, rows)
    least = padded.masked_fill(absent, torch.inf).amin(dim=1)
    most = padded.masked_fill(absent, -torch.inf).amax(dim=1)
    return [least, most, total, total / counts[:, None]]
