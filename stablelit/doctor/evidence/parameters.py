"""What was seen of weights, gradients and optimizers."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ParameterFacts:
    """Facts about weights, gradients and optimizers.

    Lists of names hold the first few (of the module's ``named_parameters``); shares are of numbers, in 0..1.

    Args:
        trainable: numbers in tensors with ``requires_grad``.
        frozen: numbers in tensors without.
        batches: training batches since the doctor began to look.
        looks: looks in which a gradient arrived.
        steps: optimizer steps seen in looks.
        moving_steps: of these, the ones with finite gradients, some not zero, and a learning rate above zero.
        missing: trainable, in no optimizer, unchanged, in training mode, and with a gradient that is not zero.
        missing_share: of the numbers that get a gradient.
        foreign: tensors that optimizers hold and the module does not have.
        shared: tensors that two optimizers step in the same batch, one of them holding all that the other holds.
        zero_rate_share: of the trainable numbers in optimizers, those whose learning rate was 0 in every step seen.
        zero_rate_steps: steps seen so.
        scheduled: whether a learning rate schedule runs.
        maximized_share: of the trainable numbers in optimizers, those in groups that step uphill.
        ascent: cosine between the first steps and the gradient; negative downhill, None where none was seen.
        cut: in an optimizer, used, and never with a gradient, while what runs after them gets one.
        cut_share: of the trainable numbers in optimizers.
        cut_last: the last module that gets no gradient.
        cut_next: the first module after it that gets one.
        cut_without_graph: whether the cut modules ran under ``no_grad``.
        cut_looks: looks in which all this was so.
        zero_gradient: in an optimizer, with a gradient that was exactly zero in every look.
        zero_gradient_share: of the trainable numbers in optimizers that get a gradient.
        dark_looks: looks with a backward pass after which no parameter in an optimizer has ever had a gradient.
        empty_steps: steps seen, in a row up to the newest, at which no gradient was left though one had arrived.
        still: in an optimizer, with gradients that are not zero and a learning rate above zero, and yet unchanged.
        still_share: of the numbers that should have moved.
        still_numbers: of single numbers with a gradient, in whatever tensor, those that have not moved.
        still_steps: the steps (batches, where no step was seen) over which nothing has moved.
        still_without_step: whether no optimizer has stepped at all.
        still_dtype: of the tensors that stand still.
        left_over: looks in which the gradients of the step before were still there when the next were added.
        cleared: looks in which they had been cleared.
        interchangeable: weight matrices all of whose rows are equal, and get equal gradients.
        interchangeable_steps: moving steps after which it was so.
        zero_weights: whether these matrices are all zero.
        decay_pull: share of weight decay in a step, median over weight matrices and smoothed over looks; None: unknown.
        norm_ratio: norm of the weight matrices over that at the first look, median over matrices; None where unknown.
    """

    trainable: int = 0
    frozen: int = 0
    batches: int = 0
    looks: int = 0
    steps: int = 0
    moving_steps: int = 0
    missing: list[str] = field(default_factory=list)
    missing_share: float = 0.0
    foreign: int = 0
    shared: list[str] = field(default_factory=list)
    zero_rate_share: float = 0.0
    zero_rate_steps: int = 0
    scheduled: bool = False
    maximized_share: float = 0.0
    ascent: float | None = None
    cut: list[str] = field(default_factory=list)
    cut_share: float = 0.0
    cut_last: str = ""
    cut_next: str = ""
    cut_without_graph: bool = False
    cut_looks: int = 0
    zero_gradient: list[str] = field(default_factory=list)
    zero_gradient_share: float = 0.0
    dark_looks: int = 0
    empty_steps: int = 0
    still: list[str] = field(default_factory=list)
    still_share: float = 0.0
    still_numbers: float = 0.0
    still_steps: int = 0
    still_without_step: bool = False
    still_dtype: str = ""
    left_over: int = 0
    cleared: int = 0
    interchangeable: list[str] = field(default_factory=list)
    interchangeable_steps: int = 0
    zero_weights: bool = False
    decay_pull: float | None = None
    norm_ratio: float | None = None
