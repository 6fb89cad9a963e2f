"""The same batch and the same network as ours, with loops of Python over events and sensors: what vectorising saves.

The loops are the post-mortem's: events are sliced, prepared and padded one by one, and T1 is asked sensor by sensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from stablelit.families.neutrinos import HierarchicalTransformer, PulseEvents
from stablelit.families.neutrinos.dataset import EventDataset
from stablelit.families.neutrinos.event_batch import Batch, assemble
from stablelit.families.neutrinos.networks.size_classes import SizeClass

_RAGGED = ("time", "charge", "sensor", "auxiliary")
_SUMMED = ("class_sizes",)
_LONGEST = ("longest", "longest_pulses")


def sliced_event(events: PulseEvents, i: int) -> PulseEvents:
    """Event i alone, as views."""
    rows = slice(int(events.begin[i]), int(events.begin[i + 1]))
    columns = {}
    for field in fields(events):
        column = getattr(events, field.name)
        if column is not None and field.name != "begin":
            column = column[rows] if field.name in _RAGGED else column[i : i + 1]
        columns[field.name] = column
    columns["begin"] = np.array([0, rows.stop - rows.start])
    return PulseEvents(**columns)


def assembled_one_by_one(dataset: EventDataset, events: PulseEvents, indices: Sequence[int]) -> Batch:
    """What `EventDataset.__getitems__` gives: each event sliced and prepared by itself, and joined to the others.

    Args:
        dataset: whose caps and detector count.
        events: all of them, in the order of the data set.
        indices: of the events of the batch.
    """
    geometry = dataset.geometry
    args = (geometry.position, geometry.deep_core, dataset.max_pulses, dataset.max_pulses_per_sensor)
    return joined([assemble(sliced_event(events, i), dataset.places[i : i + 1], *args) for i in indices])


def joined(parts: Sequence[Batch]) -> Batch:
    """Batches as one."""
    batch: Batch = {}
    for name, first in parts[0].items():
        values = [part[name] for part in parts]
        if name in _LONGEST:
            batch[name] = max(values)
        elif isinstance(first, Tensor):
            batch[name] = torch.cat(values)
    events = torch.tensor([len(part["id"]) for part in parts])
    before = (events.cumsum(0) - events).tolist()
    batch["event_of_sensor"] = torch.cat([p["event_of_sensor"] + n for p, n in zip(parts, before, strict=True)])
    batch["sensor_places"] = torch.full_like(batch["sensors_of_event"], batch["longest"])
    size_class = (batch["pulses_of_sensor"] - 1).double().frexp().exponent
    batch["class_order"] = size_class.argsort(stable=True)
    batch["class_sizes"] = torch.bincount(size_class).tolist()
    return batch


def forward_by_loops(network: HierarchicalTransformer, batch: Batch) -> Tensor:
    """What `network` gives ``(B, width)``: T1 sensor by sensor, and T2's padding event by event.

    Only a network without a relative bias and without summaries: the post-mortem's.
    """
    lower, upper = network.sensor_transformer, network.event_transformer
    assert upper.relative_bias is None
    assert upper.event_embedding is None
    assert network.sensor_embedding is None
    tokens, first = [], 0
    for count in batch["pulses_of_sensor"].tolist():
        pulses = batch["pulses"][first : first + count]
        one = [SizeClass(1, count, torch.ones(1, count, dtype=torch.bool))]
        x = lower.embedding(pulses)
        for block in lower.blocks:
            x = block(x, one)
        tokens.append(lower.norm(lower.pooling(x, one))[0])
        first += count
    rows, seen, first = [], [], 0
    for count in batch["sensors_of_event"].tolist():
        row = [upper.summary_token, *tokens[first : first + count]]
        absent = batch["longest"] - count
        rows.append(torch.stack([*row, *[torch.zeros_like(upper.summary_token)] * absent]))
        seen.append(torch.tensor([True] * (1 + count) + [False] * absent))
        first += count
    x, mask = torch.stack(rows), torch.stack(seen)[:, None, None, :]
    for block in upper.blocks:
        x = block(x, mask)
    answer: Tensor = upper.norm(x[:, 0])
    return answer
