"""What was seen of what the loss is made of: one training step, read once from its operations."""

from __future__ import annotations

from dataclasses import dataclass, field

from stablelit.doctor.evidence.wiring import WiringFacts

_NORMS = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"})


@dataclass
class LossTerm:
    """One part of the loss that compares a prediction with a target, as it was in the first step.

    Args:
        kind: ``cross_entropy``, ``nll``, ``bce``, ``bce_with_logits``, ``mse``, ``l1``, ``huber``, ``gaussian_nll``,
            ``kl_div``, ``poisson_nll``.
        where: ``file.py:12``, the line that called it.
        value: of the term, averaged over what it was not reduced over; NaN where it cannot be read.
        alone: whether it is the whole loss.
        reduction: ``mean``, ``sum`` or ``none``.
        prediction_shape: of its first argument.
        target_shape: of its second.
        made_by: the operation that made the prediction, views and selections left out: ``linear``, ``softmax``.
        made_from: the operation before that one.
        classes: that a row of logits has.
        candidates: logits of a row that are not masked out (those of itself in a contrastive loss are), on average.
        low: smallest prediction.
        high: largest prediction.
        prediction_rms: root mean square of the prediction.
        target_leaf: the leaf of the batch from which the target comes; empty where there is none (contrastive).
        target_mean: over all values; a share of ones where the target is one.
        target_std: over all values.
        target_rms: root mean square of the target.
        unreachable: share of target values that the range of `made_by` excludes.
        weighted: whether classes or samples have weights.
        weight_ratio: largest over smallest weight of a class that is not 0 (of ones over zeros); 1 where none has any.
        target_entropy: of classes as often as they come in this batch (nats); NaN where its targets are too few.
        log_mass: of a negative log likelihood, the largest ``|ln sum_c exp(x_c)|``: 0 of log probabilities.
    """

    kind: str
    where: str = ""
    value: float = float("nan")
    alone: bool = False
    reduction: str = "mean"
    prediction_shape: tuple[int, ...] = ()
    target_shape: tuple[int, ...] = ()
    made_by: str = ""
    made_from: str = ""
    classes: int | None = None
    candidates: float | None = None
    low: float = float("nan")
    high: float = float("nan")
    prediction_rms: float = float("nan")
    target_leaf: str = ""
    target_mean: float = float("nan")
    target_std: float = float("nan")
    target_rms: float = float("nan")
    unreachable: float = 0.0
    weighted: bool = False
    weight_ratio: float = 1.0
    target_entropy: float = float("nan")
    log_mass: float = float("nan")


@dataclass
class FirstUse:
    """What the first operation with weights was given of a batch: after all scaling that the module does itself.

    Args:
        leaf: of the batch.
        operation: ``linear``, ``conv2d``, ``embedding``, ``batch_norm``.
        followed_by: the next operation, biases and views left out.
        where: the line that called it.
        rms: root mean square of the finite values.
        offset_over_spread: root mean square of the features' means over that of their standard deviations.
        feature_spread: largest over median standard deviation of the features that vary.
        features: how many.
    """

    leaf: str
    operation: str
    followed_by: str = ""
    where: str = ""
    rms: float = float("nan")
    offset_over_spread: float = float("nan")
    feature_spread: float = float("nan")
    features: int = 0

    @property
    def is_normalised(self) -> bool:
        """Whether a norm brings its argument, or its result, to a scale of its own."""
        return self.operation in _NORMS or self.followed_by in _NORMS


@dataclass
class AtTheEdge:
    """An operation on the way to the loss, met where its value or its derivative is infinite.

    Args:
        operation: ``sqrt``, ``acos``, ``log``, ``div``.
        where: the line that called it.
        argument: the value at the edge.
        count: how many values were there.
        infinite: whether the value itself is infinite or NaN there, not its derivative alone.
    """

    operation: str
    where: str
    argument: float
    count: int
    infinite: bool


@dataclass
class Broadcast:
    """Two tensors of as many values that were broadcast against each other into more.

    Args:
        operation: that met them.
        where: the line that called it.
        prediction_shape: of the one with a gradient.
        target_shape: of the other.
    """

    operation: str
    where: str
    prediction_shape: tuple[int, ...]
    target_shape: tuple[int, ...]


@dataclass
class OperationFacts:
    """Facts about what the loss is made of.

    Args:
        traced: training steps read.
        step: of the first of them.
        loss: in the first of them; NaN where it cannot be read.
        terms: comparisons with a target.
        uses: first operations with weights, one per leaf that meets one.
        edges: operations met at their edge, from which the loss comes.
        gradient_finite: whether all gradients of a traced step were finite; None where there were none.
        broadcasts: tensors of unlike shapes that met in the loss.
        summed_over: samples over which the loss is a sum and no mean; 0 where it is none.
        summed_where: the line.
        validation_dropout: rate of a functional dropout that was active in validation.
        validation_dropout_where: the line.
        wiring: of axes and targets.
    """

    traced: int = 0
    step: int = 0
    loss: float = float("nan")
    terms: list[LossTerm] = field(default_factory=list)
    uses: list[FirstUse] = field(default_factory=list)
    edges: list[AtTheEdge] = field(default_factory=list)
    gradient_finite: bool | None = None
    broadcasts: list[Broadcast] = field(default_factory=list)
    summed_over: int = 0
    summed_where: str = ""
    validation_dropout: float = 0.0
    validation_dropout_where: str = ""
    wiring: WiringFacts = field(default_factory=WiringFacts)

    @property
    def whole(self) -> LossTerm | None:
        """The term that is the whole loss, where there is one."""
        return next((term for term in self.terms if term.alone), None)
