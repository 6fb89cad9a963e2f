"""Chance levels: what the loss is for somebody who knows how often each target occurs and looks at no input.

cross entropy      H(y) = -sum_c p_c ln p_c  nats (ln C where all classes are as frequent; ln of the logits that
are not masked out where targets are places in the batch, as in a contrastive loss: ln(2N-1))
binary             -p ln p - (1-p) ln(1-p)  for the share p of ones
squared error      Var(y)
Gaussian NLL       (1 + ln Var(y)) / 2, the constant left out as `torch.nn.GaussianNLLLoss` does
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from stablelit.doctor.evidence.batches import BatchFacts
from stablelit.doctor.evidence.operations import LossTerm, OperationFacts


@dataclass(frozen=True)
class Level:
    """A chance level.

    Args:
        value: in the units of the term, averaged over samples.
        formula: how a person would write it, with its numbers.
        uniform: the same for somebody who does not know the frequencies either.
    """

    value: float
    formula: str
    uniform: float


def entropy(counts: Iterable[float]) -> float:
    """H = -sum_i p_i ln p_i (nats) with ``p_i = n_i / sum n``.

    Example:
        >>> entropy([1, 1]) == math.log(2)
        True
    """
    kept = [count for count in counts if count > 0]
    total = sum(kept)
    return -sum(count / total * math.log(count / total) for count in kept) if kept else 0.0


def double_softmax_floor(classes: int) -> float:
    """The least cross entropy that logits between 0 and 1 can reach: ``ln(e + C - 1) - 1``."""
    return math.log(math.e + classes - 1) - 1


def chance_level(term: LossTerm, batches: BatchFacts | None) -> Level | None:
    """The chance level of a term of the loss, from what is known of its targets; None where it is not known."""
    if term.kind in ("cross_entropy", "nll"):
        return _of_classes(term, batches)
    if term.kind in ("bce", "bce_with_logits"):
        return _of_shares(term, batches)
    variance = _variance(term, batches)
    if variance is None or variance <= 0:
        return None
    if term.kind == "mse":
        return Level(variance, f"Var(y) = {variance:.3g}", variance)
    if term.kind == "gaussian_nll":
        value = (1 + math.log(variance)) / 2
        return Level(value, f"(1 + ln Var(y)) / 2 = {value:.3g}", value)
    return None


def chance_of_other_rows(term: LossTerm, batches: BatchFacts | None) -> float | None:
    r"""What somebody who knows how frequent classes are in training loses on the rows of validation.

    :math:`-\sum_c q_c \ln p_c` nats, with the shares p of training and q of validation (half a row is added to each
    class of training, since validation may have one that training has not); None where one of them is not known.
    """
    labels = batches.labels if batches else None
    if labels is None or labels.leaf != term.target_leaf or len(labels.counts) < 2 or not labels.validation_counts:
        return None
    classes = labels.counts.keys() | labels.validation_counts.keys()
    n, n_val = sum(labels.counts.values()) + 0.5 * len(classes), sum(labels.validation_counts.values())
    return -sum(
        rows / n_val * math.log((labels.counts.get(c, 0) + 0.5) / n) for c, rows in labels.validation_counts.items()
    )


def loss_scale(operations: OperationFacts) -> float:
    """What the whole loss was in units of its one term: of a sum over N samples, N; NaN where there is no such term."""
    whole = operations.whole
    if whole is None or not whole.value or not math.isfinite(whole.value):
        return math.nan
    scale = operations.loss / whole.value
    # 1 up to rounding, and to what lower precision does
    return 1.0 if abs(scale - 1) < 0.05 else scale


def initial_loss_over_chance(term: LossTerm, batches: BatchFacts | None) -> float | None:
    """How many times its chance level a term was at in the first step; None where that is not known."""
    level = chance_level(term, batches)
    if level is None or level.uniform <= 0 or not math.isfinite(term.value):
        return None
    return term.value / level.uniform


def _of_classes(term: LossTerm, batches: BatchFacts | None) -> Level | None:
    if not term.target_leaf:
        if not term.candidates or term.candidates <= 1:
            return None
        value = math.log(term.candidates)
        return Level(value, f"ln({term.candidates:.4g}) = {value:.3f}", value)
    if not term.classes or term.classes < 2:
        return None
    uniform = math.log(term.classes)
    labels = batches.labels if batches else None
    if term.weighted or labels is None or labels.leaf != term.target_leaf or len(labels.counts) < 2:
        return Level(uniform, f"ln({term.classes}) = {uniform:.3f}", uniform)
    value = entropy(labels.counts.values())
    return Level(value, f"H(y) = {value:.3f} of {len(labels.counts)} classes", uniform)


def _of_shares(term: LossTerm, batches: BatchFacts | None) -> Level | None:
    labels = batches.labels if batches else None
    share = term.target_mean
    if labels is not None and labels.leaf == term.target_leaf and set(labels.counts) == {0, 1}:
        share = labels.counts[1] / sum(labels.counts.values())
    if not 0 <= share <= 1 or term.weighted:
        return None
    value = entropy([share, 1 - share])
    return Level(value, f"H(y) = {value:.3f} at a share of {share:.3g}", math.log(2))


def _variance(term: LossTerm, batches: BatchFacts | None) -> float | None:
    leaf = batches.leaves.get(term.target_leaf) if batches else None
    if leaf is not None and leaf.std and leaf.kind == "float":
        return sum(std * std for std in leaf.std) / len(leaf.std)
    return term.target_std**2 if math.isfinite(term.target_std) else None
