"""What activations let through, told from the gradient that comes to each and the one that leaves it.

For an elementwise function the two differ by its derivative, value for value. A unit is live where some sample of a
look has an open derivative: not zero for a ReLU, above 2 % of the largest possible one for a smooth function. A value
is saturated where its derivative is not open. Values to which no gradient comes tell nothing, and are left out.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stablelit.doctor.evidence.layers import ActivationFact
from stablelit.doctor.probes.hooks import harmless
from stablelit.doctor.probes.layers_graph import Activation

_MOST = 16
_OPEN = 0.02
_ZERO_WHERE_CLOSED = ("relu", "hardtanh", "clamp")
_BORN_STEPS = 5
_BORN_LOOKS = 3
_RECENT = 4
# a loss that only a few samples feel (a hinge, a converged one) says nothing about the units of the others
_LEAST_SAMPLES = 0.5
_PLAIN = ("name", "kind", "units", "looks", "born", "born_saturated")


@dataclass
class _Record:
    name: str
    kind: str
    place: int
    units: int
    looks: int = 0
    born: int = 0
    born_live: NDArray[Any] | None = None
    born_known: NDArray[Any] | None = None
    born_saturated: float = 0.0
    live: deque[NDArray[Any]] = field(default_factory=lambda: deque(maxlen=_RECENT))
    known: deque[NDArray[Any]] = field(default_factory=lambda: deque(maxlen=_RECENT))
    saturated: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))


class Activations:
    """Keeps, for each activation, which units have let a gradient through."""

    def __init__(self) -> None:
        self._records: dict[tuple[int, str], _Record] = {}
        self._fresh: dict[tuple[int, str], tuple[Tensor, Tensor, Tensor]] = {}
        self._handles: list[Any] = []

    def watch(self, activations: list[Activation], names: dict[int, str]) -> None:
        """Hangs a hook on nodes of this step's graph; they go with the graph."""
        self.forget()
        distinct = {(id(a.weight), a.kind): a for a in reversed(activations)}
        chosen = list(distinct.items())[:: max(1, -(-len(distinct) // _MOST))]
        for key, activation in chosen:
            if key not in self._records:
                name = names.get(key[0], "").rpartition(".")[0]
                self._records[key] = _Record(name, activation.kind, int(activation.node._sequence_nr()), 0)
            self._records[key].place = int(activation.node._sequence_nr())
            self._handles.append(activation.node.register_hook(harmless(self._hook(key, activation))))

    def forget(self) -> None:
        """Takes the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._fresh = {}

    def take(self, step: int) -> None:
        """At the end of a look: waits for the device once, and keeps what was seen."""
        fresh, self._fresh = self._fresh, {}
        self.forget()
        for key, (live, known, sums) in fresh.items():
            opened, heard, samples = sums.tolist()
            if samples < _LEAST_SAMPLES or heard == 0:
                continue
            self._keep(self._records[key], live.cpu().numpy(), known.cpu().numpy(), 1.0 - opened / heard, step)

    def facts(self) -> list[ActivationFact]:
        """From input to loss."""
        return [_fact(record) for record in sorted(self._records.values(), key=lambda r: r.place) if record.looks]

    def state_dict(self, names: dict[int, str]) -> list[dict[str, Any]]:
        """The records of named weights, from input to loss."""
        kept = []
        for (weight, _), record in sorted(self._records.items(), key=lambda item: item[1].place):
            if (name := names.get(weight, "")) and record.looks:
                plain = {field: getattr(record, field) for field in _PLAIN}
                arrays = {field: _tensor(getattr(record, field)) for field in ("born_live", "born_known")}
                recent = {field: [_tensor(one) for one in getattr(record, field)] for field in ("live", "known")}
                kept.append({"weight": name, **plain, **arrays, **recent, "saturated": list(record.saturated)})
        return kept

    def load_state_dict(self, state: list[dict[str, Any]], numbers: dict[str, int]) -> None:
        """Takes them up; `numbers` are those by which weights are known now."""
        for place, saved in enumerate(state):
            if saved["weight"] not in numbers:
                continue
            record = _Record(place=place, **{field: saved[field] for field in _PLAIN})
            record.born_live, record.born_known = saved["born_live"].numpy(), saved["born_known"].numpy()
            record.live.extend(one.numpy() for one in saved["live"])
            record.known.extend(one.numpy() for one in saved["known"])
            record.saturated.extend(saved["saturated"])
            self._records[numbers[saved["weight"]], record.kind] = record

    def _keep(self, record: _Record, live: NDArray[Any], known: NDArray[Any], saturated: float, step: int) -> None:
        if record.units != len(live):
            record.units = len(live)
            record.live.clear()
            record.known.clear()
            record.born_live = None
        record.looks += 1
        if record.born_live is None or record.born_known is None:
            record.born_live, record.born_known, record.born_saturated = live.copy(), known.copy(), saturated
            record.born = step
        elif record.looks <= _BORN_LOOKS and step - record.born < _BORN_STEPS:
            record.born_live |= live
            record.born_known |= known
        record.live.append(live)
        record.known.append(known)
        record.saturated.append(saturated)

    def _hook(self, key: tuple[int, str], activation: Activation) -> Callable[[Any, Any], None]:
        def note(grad_inputs: Any, grad_outputs: Any) -> None:
            inward, outward = grad_inputs[0], grad_outputs[0]
            if inward is None or outward is None or inward.shape != outward.shape or inward.ndim < 2 or not len(inward):
                return
            self._fresh[key] = _measure(inward, outward, activation)

        return note


@torch.no_grad()
def _measure(inward: Tensor, outward: Tensor, activation: Activation) -> tuple[Tensor, Tensor, Tensor]:
    size = outward.abs()
    if activation.kind in _ZERO_WHERE_CLOSED and not activation.channels and inward.ndim == 2:
        return _measure_rows(inward, size)
    # comparisons in place and counts instead of any(): on a CPU both are five times and more as fast
    if activation.kind in _ZERO_WHERE_CLOSED:
        is_open = inward.bool()
    else:
        is_open = inward.abs().gt_(_OPEN * activation.steepest * size).bool()
    heard = size.gt_(1e3 * torch.finfo(outward.dtype).tiny).bool()
    axis = 1 if activation.channels else inward.ndim - 1
    others = [d for d in range(inward.ndim) if d != axis]
    opened_of = (is_open & heard).sum(others, dtype=torch.int32)
    heard_of = heard.sum(others, dtype=torch.int32)
    samples = heard.view(torch.uint8).reshape(len(heard), -1).amax(1).float().mean()
    sums = torch.stack([opened_of.sum().float(), heard_of.sum().float(), samples])
    return opened_of > 0, heard_of > 0, sums


def _measure_rows(inward: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same of (N, D) and a function that is zero where it is closed: sums by units, of which few are asked."""
    least = 1e3 * torch.finfo(size.dtype).tiny
    opened, heard, by_sample = inward.abs().amax(0) > 0, size.amax(0) > least, size.amax(1) > least
    sums = torch.stack([torch.count_nonzero(inward), torch.count_nonzero(size), by_sample.sum()]).float()
    return opened, heard, sums / sums.new_tensor([1.0, 1.0, len(size)])


def _fact(record: _Record) -> ActivationFact:
    assert record.born_live is not None
    assert record.born_known is not None
    live, known = functools.reduce(np.logical_or, record.live), functools.reduce(np.logical_or, record.known)
    return ActivationFact(
        name=record.name,
        kind=record.kind,
        units=record.units,
        looks=record.looks,
        born_live=_share(record.born_live, record.born_known),
        live=_share(live, known),
        born_saturated=record.born_saturated,
        saturated=sum(record.saturated) / len(record.saturated),
    )


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=bool))


def _share(chosen: NDArray[Any], among: NDArray[Any]) -> float:
    return int(np.count_nonzero(chosen)) / max(int(np.count_nonzero(among)), 1)
