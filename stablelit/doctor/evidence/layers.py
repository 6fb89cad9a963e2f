"""What was seen of activations, norms and what passes between layers."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ActivationFact:
    """One elementwise activation between two weights, module or function, told by what it lets through backward.

    Args:
        name: of the layer before it, ``net.0``.
        kind: ``relu``, ``tanh``, ``sigmoid``, ...
        units: in it; channels of a convolution.
        looks: looks in which a gradient came to it.
        born_live: share of units that let a gradient through in the first looks (any sample of them).
        live: the same, in the recent looks.
        born_saturated: share of values with a derivative below 2 % of the largest possible, in the first look.
        saturated: the same, mean of the recent looks.
    """

    name: str
    kind: str
    units: int
    looks: int = 0
    born_live: float = 1.0
    live: float = 1.0
    born_saturated: float = 0.0
    saturated: float = 0.0


@dataclass
class WeightFact:
    """One weight matrix (linear, convolution), in the order from input to loss.

    Args:
        name: of the parameter.
        depth: weight matrices from it on to the loss on the longest way, itself included.
        gradient_rms: root mean square of its gradient, median of the recent looks.
        weight_rms: root mean square of its numbers, of about 4,096 of them where there are more.
    """

    name: str
    depth: int
    gradient_rms: float
    weight_rms: float


@dataclass
class LayerFacts:
    """Facts about activations, norms and what passes between layers.

    Args:
        looks: training batches looked at.
        steps: optimizer steps between the first look and the newest.
        activations: in the order from input to loss; only those between two weights.
        weights: in the order from input to loss.
        output: name of the module nearest to the loss.
        output_looks: looks in which its output was seen over a batch of several different samples.
        output_constant_looks: of the newest looks in a row, those in which it did not depend on the sample.
        output_spread: root mean square over samples about their mean, over the root mean square of the output.
        output_steps: optimizer steps over which it was constant.
    """

    looks: int = 0
    steps: int = 0
    activations: list[ActivationFact] = field(default_factory=list)
    weights: list[WeightFact] = field(default_factory=list)
    output: str = ""
    output_looks: int = 0
    output_constant_looks: int = 0
    output_spread: float | None = None
    output_steps: int = 0
