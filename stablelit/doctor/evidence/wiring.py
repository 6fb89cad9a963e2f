"""What was seen of axes and targets: do samples stay apart on their way, is the answer in the input."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class WrongAxis:
    """An operation that takes the axis of samples, or an axis of one element, for another.

    Args:
        operation: ``lstm``, ``multi_head_attention_forward``, ``log_softmax``, ``reshape``.
        where: the line that called it.
        shape: of what it was given.
        result: shape that it made of it; for one that keeps shapes, the same.
        axis: that it went along.
    """

    operation: str
    where: str
    shape: tuple[int, ...]
    result: tuple[int, ...]
    axis: int


@dataclass
class VisibleTarget:
    """A target that is, position by position, a token that the model sees when it has to say it.

    Args:
        where: the line of the loss.
        leaf: of the batch, from which it comes.
        offset: of the target from the input: 1 where it is the next token.
        equal: share of positions at which it is so.
        seen_by: the operation that sees it: attention without a causal mask, a recurrence in both directions.
    """

    where: str
    leaf: str
    offset: int
    equal: float
    seen_by: str


@dataclass
class WiringFacts:
    """Facts about axes and targets, from the operations of the first step.

    Args:
        samples_as_steps: a recurrence or an attention that goes along the axis of samples.
        softmax: one whose probabilities sum to one over samples, or over a single element.
        reshape: one that puts values of different positions into one row of logits.
        visible_target: the answer in the input.
        flat: an operation whose derivative is zero everywhere, between parameters and the loss, with its line.
    """

    samples_as_steps: WrongAxis | None = None
    softmax: WrongAxis | None = None
    reshape: WrongAxis | None = None
    visible_target: VisibleTarget | None = None
    flat: tuple[str, str] | None = None
