"""What was seen of training and evaluation mode."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class BatchNormFact:
    """One batch norm in training mode: what it remembers against what recent batches have.

    Args:
        name: of the module.
        momentum: its share of the newest batch; None for a cumulative average.
        updates: batches that it has counted.
        values: numbers per channel in a batch (samples times positions).
        mean_gap: |running mean - batch mean| over the batch's standard deviation, median over channels.
        variance_ratio: running variance over batch variance, median over channels.
    """

    name: str
    momentum: float | None
    updates: int
    values: int
    mean_gap: float
    variance_ratio: float


@dataclass
class ModeFacts:
    """Facts about training and evaluation mode, as it was when modules were called.

    A module counts as sensitive where its mode changes what it computes: dropout with p > 0, batch norm.

    Args:
        sensitive: sensitive modules in the module.
        looks: training batches looked at.
        evaluating: trainable modules (sensitive ones where there are any) that ran in evaluation mode with gradients
            enabled in the newest look; empty unless *every* trainable part was in evaluation mode, or all sensitive
            ones were and their batch norms have never counted a batch.
        evaluating_looks: looks in a row up to the newest in which it was so.
        evaluating_root: whether the LightningModule itself was too.
        validation_looks: validation batches looked at.
        training_in_validation: sensitive modules that ran in training mode in the newest validation look.
        training_in_validation_looks: looks in a row up to the newest in which it was so.
        training_in_validation_whole: whether the modules around them were in training mode too, and no batch norm was
            in evaluation mode: nobody has only dropout on in validation by mistake.
        dropout: the largest rate of a dropout module, with its name; 0 where there is none.
        batch_norms: batch norms that ran in training mode, averaged over recent looks.
    """

    sensitive: int = 0
    looks: int = 0
    evaluating: list[str] = field(default_factory=list)
    evaluating_looks: int = 0
    evaluating_root: bool = False
    validation_looks: int = 0
    training_in_validation: list[str] = field(default_factory=list)
    training_in_validation_looks: int = 0
    training_in_validation_whole: bool = False
    dropout: float = 0.0
    dropout_name: str = ""
    batch_norms: list[BatchNormFact] = field(default_factory=list)
