"""Looks at layers: units that let nothing through, gradients that fade on their way, an output that is always the same.

All is read from the graph of the loss (`read_graph`), so that functions count as modules do.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import torch
from torch import Tensor

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.evidence.layers import LayerFacts, WeightFact
from stablelit.doctor.probes.hooks import has_compiled_parts
from stablelit.doctor.probes.layers_activations import Activations
from stablelit.doctor.probes.layers_graph import Weight, read_graph
from stablelit.doctor.probes.layers_output import OutputSpread
from stablelit.doctor.probes.probe import Probe
from stablelit.doctor.probes.tensors import dense_gradient, read_numbers, sample

_WEIGHTS = 12
_NUMBERS = 4096
_RECENT = 4
_COUNTED = ("_backwards", "_turn", "_first_step")


class LayerProbe(Probe):
    """Fills `Evidence.layers`."""

    def __init__(self) -> None:
        self.facts = LayerFacts()
        self._names: dict[int, str] = {}
        self._activations = Activations()
        self._output = OutputSpread()
        self._weights: list[Weight] = []
        self._sizes: dict[int, deque[tuple[float, float]]] = {}
        self._fresh: list[Tensor] = []
        self._fresh_of: list[Tensor] = []
        self._fresh_numbers: list[int] = []
        self._backward = 0
        self._backwards = 1
        self._turn = 0
        self._first_step: int | None = None
        self._compiled = False
        self._saved: dict[str, Any] = {}

    def begin(self, trainer: Any, pl_module: Any, evidence: Evidence) -> None:
        """Learns the names."""
        self._names = {id(parameter): name for name, parameter in pl_module.named_parameters()}
        self._take_up(pl_module)
        self._compiled = has_compiled_parts(pl_module)

    def batch_start(self, trainer: Any, pl_module: Any, batch: Any, step: int) -> None:
        """The output of the last layer will be seen."""
        self._backward = 0
        self._fresh, self._fresh_of = [], []
        if not self._compiled:
            self._output.watch(batch)

    def before_backward(self, trainer: Any, pl_module: Any, loss: Tensor, step: int) -> None:
        """Reads the graph; where a batch has several backward passes, one of them in turn."""
        self._backward += 1
        if self._backward - 1 != self._turn % self._backwards:
            return
        graph = read_graph(loss)
        self._activations.watch(graph.activations, self._names)
        if self._turn % self._backwards == 0 and graph.weights:
            self._weights = _spread(graph.weights)
            self._choose_output(pl_module, graph.weights[-1])

    def after_backward(self, trainer: Any, pl_module: Any, step: int) -> None:
        """Sizes of gradients along the way."""
        if self._backward != 1 or self._turn % self._backwards != 0:
            return
        found = [(w.tensor, g) for w in self._weights if (g := dense_gradient(w.tensor)) is not None]
        if found:
            self._fresh_of = [tensor for tensor, _ in found]
            with torch.no_grad():
                # sizes are asked, to a few per cent, and whether a weight is zero or drawn: some numbers say both
                some = sample([*(gradient for _, gradient in found), *self._fresh_of], _NUMBERS)
                self._fresh = list(torch._foreach_norm(some))
            self._fresh_numbers = [len(part) for part in some[: len(found)]]

    def batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, step: int) -> None:
        """Waits for the device, and keeps what was seen."""
        if self._backward == 0:
            self._output.unwatch()
            return
        self._first_step = step if self._first_step is None else self._first_step
        self.facts.looks += 1
        self.facts.steps = step - self._first_step
        self._activations.take(step)
        self._output.take(step)
        if self._fresh:
            self._keep_sizes()
        self._backwards = self._backward
        self._turn += 1

    def tell(self, evidence: Evidence) -> None:
        """Writes the facts."""
        facts = self.facts
        facts.activations = self._activations.facts()
        facts.weights = [self._weight_fact(weight) for weight in self._weights if id(weight.tensor) in self._sizes]
        facts.output, facts.output_looks = self._output.name, self._output.looks
        facts.output_constant_looks, facts.output_steps = self._output.constant_looks, self._output.steps
        facts.output_spread = self._output.spread
        evidence.layers = facts

    def leave(self, pl_module: Any) -> None:
        """Takes hooks away."""
        self._activations.forget()
        self._output.unwatch()

    def state_dict(self) -> dict[str, Any]:
        """Sizes, activations and the output, by the names of parameters."""
        if not self._names:
            return self._saved
        named = {self._names.get(weight, ""): [list(pair) for pair in pairs] for weight, pairs in self._sizes.items()}
        return {
            "counts": {name: getattr(self, name) for name in _COUNTED},
            "looks": self.facts.looks,
            "steps": self.facts.steps,
            "sizes": {name: pairs for name, pairs in named.items() if name},
            "activations": self._activations.state_dict(self._names),
            "output": self._output.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keeps it until the parameters are known."""
        self._saved = state

    def _take_up(self, pl_module: Any) -> None:
        saved, self._saved = self._saved, {}
        if not saved:
            return
        for name in _COUNTED:
            setattr(self, name, saved["counts"][name])
        self.facts.looks, self.facts.steps = saved["looks"], saved["steps"]
        numbers = {name: number for number, name in self._names.items()}
        for name, pairs in saved["sizes"].items():
            if name in numbers:
                self._sizes[numbers[name]] = deque(((gradient, weight) for gradient, weight in pairs), maxlen=_RECENT)
        self._activations.load_state_dict(saved["activations"], numbers)
        self._output.load_state_dict(saved["output"])
        output = dict(pl_module.named_modules()).get(self._output.name)
        if output is not None:
            self._output.choose(output, self._output.name)

    def _choose_output(self, pl_module: Any, weight: Weight) -> None:
        name = self._names.get(id(weight.tensor), "").rpartition(".")[0]
        if name:
            self._output.choose(pl_module.get_submodule(name), name)

    def _keep_sizes(self) -> None:
        sizes, count = read_numbers(self._fresh), len(self._fresh_of)
        each = zip(self._fresh_of, self._fresh_numbers, sizes[:count], sizes[count:], strict=True)
        for tensor, numbers, gradient, weight in each:
            root = math.sqrt(numbers)
            self._sizes.setdefault(id(tensor), deque(maxlen=_RECENT)).append((gradient / root, weight / root))
        self._fresh, self._fresh_of = [], []

    def _weight_fact(self, weight: Weight) -> WeightFact:
        sizes = self._sizes[id(weight.tensor)]
        # the median forgets a head that began at zero
        middle = sorted(gradient for gradient, _ in sizes)[len(sizes) // 2]
        return WeightFact(self._names.get(id(weight.tensor), ""), weight.depth, middle, sizes[-1][1])


def _spread(weights: list[Weight]) -> list[Weight]:
    """At most twelve: the first three, the last three, and some between."""
    if len(weights) <= _WEIGHTS:
        return weights
    middle = weights[3:-3]
    return [*weights[:3], *middle[:: -(-len(middle) // (_WEIGHTS - 6))], *weights[-3:]]
