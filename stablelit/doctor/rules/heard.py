"""Where the findings of other callbacks, and of the families, stand among causes.

The doctor does not look for these itself: it hears them, and ranks them with its own. One that it hears by the name of
a rule stands where the rule does.
"""

from __future__ import annotations

from dataclasses import dataclass

from stablelit.doctor.rule import Rank


@dataclass(frozen=True)
class Place:
    """Where a finding stands.

    Args:
        rank: among causes.
        explains: names of findings that follow from it.
    """

    rank: Rank
    explains: tuple[str, ...] = ()


_NO_ORDER = ("nothing-predicted", "nearly-all-predicted", "threshold-at-the-grids-end", "not-above-chance")
_CONTRASTIVE = ("contrastive-at-chance", "dimensional-collapse", "not-learning", "plateau")
_AT_CHANCE = (*_CONTRASTIVE, "output-constant", "dead-units", "vanishing-gradients", "input-constant")
_LOADING = ("labels-sorted", "same-batch-every-step", "order-repeats", "padding")

HEARD: dict[str, Place] = {
    # data
    "blank-input": Place(Rank.DATA, _AT_CHANCE),
    "input-not-normalised": Place(Rank.DATA, (*_AT_CHANCE, "input-unscaled")),
    "mispaired-views": Place(Rank.DATA, _AT_CHANCE),
    "train-not-shuffled": Place(Rank.DATA, _LOADING),
    "order-repeats": Place(Rank.DATA, _LOADING),
    "labels-without-positives": Place(Rank.DATA, (*_NO_ORDER, "constant-scores")),
    "no-positives": Place(Rank.DATA, (*_NO_ORDER, "constant-scores")),
    "noise-leaves-residues": Place(Rank.DATA),
    "scale-dependent": Place(Rank.DATA),
    "columns-repeat-each-other": Place(Rank.DATA),
    # structure
    "gradient-does-not-reach": Place(Rank.STRUCTURE, (*_NO_ORDER, "graph-empty", "worse-than-empty-graph", "*")),
    "encoder-not-optimised": Place(Rank.STRUCTURE, (*_AT_CHANCE, "parameters-missing-from-optimizer")),
    "dead-parameters": Place(Rank.STRUCTURE, ("parameters-without-gradient", "dead-units")),
    # what the loss is made of
    "constant-loss-term": Place(
        Rank.LOSS_MADE_WRONG, ("not-learning", "plateau", "initial-loss-far-from-chance", "loss-summed")
    ),
    "reduction-mismatch": Place(Rank.LOSS_MADE_WRONG, ("posterior-collapse", "cap-ineffective")),
    # settings
    "clip-norm-overflow": Place(Rank.SETTINGS),
    "clip-severe": Place(Rank.SETTINGS, ("clip-too-tight", "exploding-gradients")),
    "clip-of-scaled-gradients": Place(Rank.SETTINGS, ("clip-too-tight",)),
    "accumulation-adds-no-negatives": Place(Rank.SETTINGS),
    "negatives-not-gathered": Place(Rank.SETTINGS),
    "batch-norm-per-rank": Place(Rank.SETTINGS),
    "batch-norm-per-chunk": Place(Rank.SETTINGS),
    "curriculum-unfinished": Place(Rank.SETTINGS),
    "curriculum-inside-warmup": Place(Rank.SETTINGS),
    "monitor-moves-with-difficulty": Place(Rank.SETTINGS),
    "warmup-never-finishes": Place(Rank.SETTINGS),
    "cap-ineffective": Place(Rank.SETTINGS, ("over-coding", "overfitting")),
    "kl-target-out-of-reach": Place(Rank.SETTINGS),
    "cache-below-window": Place(Rank.SETTINGS, ("padding",)),
    "subset-read-at-random": Place(Rank.SETTINGS, ("padding",)),
    # families
    "dead-encoder": Place(Rank.FAMILY, _AT_CHANCE),
    "collapsed-projector": Place(Rank.FAMILY, _AT_CHANCE),
    "slow-start": Place(Rank.FAMILY, _CONTRASTIVE),
    "worse-than-independent": Place(Rank.FAMILY, _CONTRASTIVE),
    "weak-augmentation": Place(Rank.FAMILY),
    "dimensional-collapse": Place(Rank.FAMILY, ("output-constant",)),
    "constant-scores": Place(Rank.FAMILY, _NO_ORDER),
    "nothing-predicted": Place(Rank.FAMILY, ("not-above-chance", "threshold-at-the-grids-end")),
    "nearly-all-predicted": Place(Rank.FAMILY, ("not-above-chance", "threshold-at-the-grids-end")),
    "directions-collapsed": Place(Rank.FAMILY, ("no-better-than-constant",)),
    "directions-not-finite": Place(Rank.FAMILY, ("no-better-than-constant", "directions-collapsed")),
    "worse-than-unigram": Place(Rank.FAMILY),
    # what passes through
    "gradients-non-finite": Place(Rank.PROPAGATION, ("loss-not-finite",)),
    "non-finite-embeddings": Place(Rank.PROPAGATION, ("loss-not-finite",)),
    "kl-non-finite": Place(Rank.PROPAGATION, ("loss-not-finite",)),
    "gradient-vanished": Place(Rank.PROPAGATION, ("vanishing-gradients",)),
}
