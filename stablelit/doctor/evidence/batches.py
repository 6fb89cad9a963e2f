"""What was seen of inputs, labels and rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class LeafFacts:
    """One tensor of a batch, over all looks.

    Args:
        name: where it lies: ``batch[0]``, ``batch['image']``, ``batch.x``.
        kind: of its numbers.
        shape: in the newest look.
        role: what the loss does with it; empty where that is not known.
        looks: batches seen.
        rows: first axis, over all looks.
        varying_looks: looks of at least two rows in which these were not all equal.
        non_finite: looks with a NaN or an infinity in it.
        largest: the largest finite absolute value.
        rms: root mean square of all finite values.
        mean: of each feature (the last axis of (N, D) and (N, T, D); the channel of pictures), at most 256 of them.
        std: of each feature, over rows and looks.
        drift: variance between looks over that within them, 1 on average where rows come in a random order (the F of
            an analysis of variance, its numerator and denominator averaged over features); NaN below three looks.
    """

    name: str
    kind: Literal["float", "integer", "boolean"]
    shape: tuple[int, ...] = ()
    role: Literal["input", "target", ""] = ""
    looks: int = 0
    rows: int = 0
    varying_looks: int = 0
    non_finite: int = 0
    largest: float = 0.0
    rms: float = 0.0
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    drift: float = float("nan")


@dataclass
class LabelOrder:
    """In which order labels came, in one epoch of training (looks may leave gaps: an order survives them).

    Args:
        continuous: whether they are numbers to regress on rather than classes.
        looks: batches seen in this epoch.
        counts: rows of each class, in the order of its first appearance; of every value where `continuous`.
        runs: stretches of equal labels.
        descents: neighbours of which the second is smaller.
        continued: looks that begin with the label with which the look before ended.
    """

    continuous: bool = False
    looks: int = 0
    counts: list[int] = field(default_factory=list)
    runs: int = 0
    descents: int = 0
    continued: int = 0


@dataclass
class LabelFacts:
    """The target, where it is a class per sample or a number per sample.

    Args:
        leaf: name of the leaf.
        counts: rows of each class in training, over all looks; empty where it is no class.
        validation_counts: the same in validation.
        validation_seen: of these, in the batches that were looked at.
        order: in the epoch in which most was seen.
    """

    leaf: str
    counts: dict[int, int] = field(default_factory=dict)
    validation_counts: dict[int, int] = field(default_factory=dict)
    validation_seen: dict[int, int] = field(default_factory=dict)
    order: LabelOrder = field(default_factory=LabelOrder)


@dataclass
class RowFacts:
    """Rows by a hash of their largest leaf.

    Args:
        training: rows of training hashed in its first epoch, at most 20,000.
        training_distinct: of these.
        training_twins: of these, rows that are there more than once.
        in_training: rows in the training data; None where it is not known.
        validation: rows of validation hashed, at most 20,000, each pass once.
        shared: rows of validation that are rows of training too.
        same_batches: the most batches in a row that were equal.
        masked: whether batches carry a mask of which rows count (one graph for training and validation).
    """

    training: int = 0
    training_distinct: int = 0
    training_twins: int = 0
    in_training: int | None = None
    validation: int = 0
    shared: int = 0
    same_batches: int = 1
    masked: bool = False


@dataclass
class EdgeFacts:
    """Edges of graphs, ``edge_index`` of shape (2, E).

    Args:
        looks: batches seen.
        nodes: over all looks.
        edges: over all looks, without self loops.
        self_loops: over all looks.
    """

    looks: int = 0
    nodes: int = 0
    edges: int = 0
    self_loops: int = 0


@dataclass
class BatchFacts:
    """Facts about inputs, labels and rows.

    Args:
        looks: batches of training seen.
        validation_looks: batches of validation seen.
        leaves: tensors of training batches, by name.
        validation: tensors of validation batches, by name.
        labels: of the target.
        rows: who is in which part.
        edges: of graphs; None where batches hold none.
        reached: leaves with a value that is not finite in a batch whose loss was not finite.
        stored_non_finite: tensors that the training data set holds, with the rows that are not finite in them.
        collated: whether a loader makes batches of single samples.
        in_order: whether rows of training come as they are stored, or as a stream gives them.
    """

    looks: int = 0
    validation_looks: int = 0
    leaves: dict[str, LeafFacts] = field(default_factory=dict)
    validation: dict[str, LeafFacts] = field(default_factory=dict)
    labels: LabelFacts | None = None
    rows: RowFacts = field(default_factory=RowFacts)
    edges: EdgeFacts | None = None
    reached: list[str] = field(default_factory=list)
    stored_non_finite: dict[str, int] = field(default_factory=dict)
    collated: bool = False
    in_order: bool = False

    def of_role(self, role: str) -> list[LeafFacts]:
        """The leaves of training with that role."""
        return [leaf for leaf in self.leaves.values() if leaf.role == role]
