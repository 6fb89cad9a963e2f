"""Rules about rows and labels: in which order they come, and which are in both parts."""

from __future__ import annotations

import math
from functools import lru_cache

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.evidence.batches import LabelFacts, LabelOrder, LeafFacts
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules.unlike import UNLIKE_RULES, features_in_another_order
from stablelit.findings import Finding

# log of the probability that a shuffled order looks as sorted as this: 1e-15
_IMPOSSIBLE = -34.5
_SHARED = 0.05
_FEWEST_SHARED = 8
_SAME_BATCHES = 4
_MISSING_IMPOSSIBLE = -20.0
_OTHER_SCALE = 5.0
_OTHER_PLACE = 3.0
_OTHER_PLACE_OF_A_MIX = 1.2
_OTHER_CLOUD = 20.0
_DRIFT = 10.0
_OF_CLASSES = ("cross_entropy", "nll", "bce", "bce_with_logits")
# rows that nothing shuffles may drift slowly: the steps 0 to 4, 8, 16 and 32 span enough to see it
_DRIFT_IN_ORDER, _LOOKS_IN_ORDER = 4.0, 8


def log_chance_of_runs(order: LabelOrder) -> float:
    """Ln of the probability that a random order of these labels has as few runs as it has different labels.

    ``P = d! prod_i c_i! / n!`` for d labels that occur c_i times, n in all: each of the d! orders of whole blocks, out
    of ``n! / prod_i c_i!`` orders. Where they rise it is one order of these.
    """
    n = sum(order.counts)
    blocks = math.lgamma(len(order.counts) + 1) if order.descents else 0.0
    return blocks + sum(math.lgamma(c + 1) for c in order.counts) - math.lgamma(n + 1)


def _labels_sorted(evidence: Evidence) -> Finding | None:
    """Every label comes in one stretch: rows lie in the order of their labels, and are not shuffled."""
    labels = evidence.batches.labels if evidence.batches else None
    if labels is None or evidence.settings.overfit_batches:
        return None
    order = labels.order
    # (B) one that goes on over the end of a batch tells sorted rows from batches of few classes made on purpose
    goes_on = order.continued >= 2 and order.continued >= 0.3 * (order.looks - 1)
    is_sorted = order.looks >= 3 and order.runs == len(order.counts) and (order.descents == 0 or goes_on)
    if not is_sorted or len(order.counts) < 2 or log_chance_of_runs(order) > _IMPOSSIBLE:
        return None
    n = sum(order.counts)
    kind = "values rise" if order.continuous else f"{len(order.counts)} labels come in as many stretches"
    return Finding(
        "labels-sorted",
        "critical",
        f"{labels.leaf}: in {n} rows of an epoch of training {kind}, which a shuffled order has with a probability of "
        f"1e{log_chance_of_runs(order) / math.log(10):.0f}.",
        {"rows": n, "stretches": order.runs, "stretches_expected": _expected_runs(order), "looks": order.looks},
        "shuffle=True in the training DataLoader.",
    )


def _expected_runs(order: LabelOrder) -> float:
    """``n - (sum_i c_i^2 - n) / n``: neighbours differ unless they are two of a kind."""
    n = sum(order.counts)
    return n - (sum(c * c for c in order.counts) - n) / n


def _rows_shared(evidence: Evidence) -> Finding | None:
    """Rows of validation that are rows of training, beyond what few different rows explain."""
    facts = evidence.batches
    if facts is None or evidence.settings.overfit_batches:
        return None
    rows = facts.rows
    if rows.masked or facts.edges is not None or not rows.validation or not rows.training:
        return None
    # a row of training that has a twin in training: as often, one of validation has one there by chance
    by_chance = rows.training_twins / rows.training
    seen = min(1.0, rows.training_distinct / rows.in_training) if rows.in_training and not by_chance else 1.0
    found = rows.shared / rows.validation
    beyond = (found - by_chance) / max(1 - by_chance, 1e-9)
    noise = math.sqrt(by_chance * (1 - by_chance) / rows.validation + by_chance / rows.training)
    share = min(1.0, beyond / max(seen, 1e-9))
    if rows.shared < _FEWEST_SHARED or share < _SHARED or found - by_chance < 6 * noise:
        return None
    return Finding(
        "validation-rows-in-training",
        "critical" if share > 0.2 else "warning",
        f"{rows.shared} of {rows.validation} rows of validation are rows of training too"
        + (f", of which {seen:.0%} were seen, so about {share:.0%} are" if seen < 1 else f" ({share:.0%})")
        + " (expected: none): a validation score says little about new samples.",
        {"shared": rows.shared, "validation_rows": rows.validation, "share": share, "share_expected_below": _SHARED},
        "Split before rows are copied, augmented or drawn with replacement, and by what rows come from; where one "
        "function is to be fitted and nothing held out, mute=['validation-rows-in-training'].",
    )


def _same_batch(evidence: Evidence) -> Finding | None:
    """One and the same batch, although there are others."""
    facts = evidence.batches
    if facts is None or evidence.settings.overfit_batches or not facts.collated:
        return None
    if facts.rows.same_batches < _SAME_BATCHES or (evidence.settings.steps_per_epoch or math.inf) <= 1:
        return None
    return Finding(
        "same-batch-every-step",
        "critical",
        f"{facts.rows.same_batches} batches in a row were equal in every value (expected: different ones).",
        {"equal_batches": facts.rows.same_batches, "equal_batches_expected": 1},
        "Look at what __getitem__ or the sampler does with its index.",
    )


def _labels_missing(evidence: Evidence) -> Finding | None:
    """A class that validation has and training cannot have by chance alone."""
    facts = evidence.batches
    labels = facts.labels if facts else None
    operations = evidence.operations
    if labels is None or operations is None or not labels.counts or not labels.validation_counts:
        return None
    if not any(term.kind in _OF_CLASSES and term.target_leaf == labels.leaf for term in operations.terms):
        return None
    missing = [c for c in labels.validation_counts if c not in labels.counts and c >= 0]
    # other classes on purpose; one class alone is no purpose
    if not missing or (len(missing) > 0.5 * len(labels.validation_counts) and len(labels.counts) > 1):
        return None
    order = labels.order
    if order.looks >= 2 and order.runs < 0.5 * _expected_runs(order):
        return None
    n, n_val = sum(labels.counts.values()), sum(labels.validation_counts.values())
    worst = max(missing, key=lambda c: labels.validation_counts[c])
    share = labels.validation_counts[worst] / n_val
    # of validation rows that are sorted themselves the first batches say nothing of shares
    share = min(share, 2.0 / len(labels.validation_counts))
    if labels.validation_counts[worst] < 5 or n * math.log1p(-share) > _MISSING_IMPOSSIBLE:
        return None
    return Finding(
        "labels-missing-in-training",
        "critical",
        f"Class {worst} of {labels.leaf} has {labels.validation_counts[worst]} of {n_val} rows of validation and none "
        f"of {n} rows of training (expected: about {share * n:.0f}).",
        {"class": worst, "missing_classes": len(missing), "training_rows": n, "expected_rows": share * n},
        "Split by class (stratified), and look for a filter that drops this class.",
    )


def _validation_differs(evidence: Evidence) -> Finding | None:
    """Inputs of validation lie elsewhere, or on another scale."""
    facts = evidence.batches
    if facts is None or not facts.validation_looks:
        return None
    for leaf in facts.of_role("input"):
        other = facts.validation.get(leaf.name)
        if other is None or not _comparable(leaf, other, facts.in_order):
            continue
        moment, place = differences(leaf, other)
        if place <= 1 and 1 / _OTHER_SCALE < moment < _OTHER_SCALE:
            continue  # of nearly every run
        # raw numbers in training and standardised ones in validation: a point beside a cloud
        a_point = place > 1 and max(other.std) < min(s for s in leaf.std if s) / _OTHER_CLOUD
        farthest = _OTHER_PLACE_OF_A_MIX if _same_mix(facts.labels) else _OTHER_PLACE
        if 1 / _OTHER_SCALE < moment < _OTHER_SCALE and place < farthest and not a_point:
            continue
        return Finding(
            "validation-input-differs",
            "critical",
            f"{leaf.name} of validation lies {place:.3g} standard deviations of training away from it (expected: below "
            f"1), and spreads {moment:.3g} times as far about its mean (expected: about 1).",
            {
                "place": place,
                "place_expected_below": farthest,
                "spread": moment,
                "spread_expected_below": _OTHER_SCALE,
            },
            "Give validation the preprocessing of training, with the statistics of training.",
        )
    return None


def _validation_input(evidence: Evidence) -> Finding | None:
    return _validation_differs(evidence) or features_in_another_order(evidence)


def differences(training: LeafFacts, validation: LeafFacts) -> tuple[float, float]:
    """How far validation spreads about the mean of training, and how far its mean is from there.

    ``sqrt(mean_j [s'_j^2 + (m'_j - m_j)^2] / mean_j s_j^2)`` and ``sqrt(mean_j (m'_j - m_j)^2 / mean_j s_j^2)``. Over
    classes the first is 1 on average even where a batch of validation holds a single class.
    """
    return _differences(*map(tuple, (training.mean, training.std, validation.mean, validation.std)))


@lru_cache(maxsize=8)
def _differences(
    mean: tuple[float, ...], std: tuple[float, ...], other_mean: tuple[float, ...], other_std: tuple[float, ...]
) -> tuple[float, float]:
    # after the first looks they stay what they are
    spread = sum(s * s for s in std)
    gap = sum((a - b) ** 2 for a, b in zip(mean, other_mean, strict=True))
    around = sum(s * s for s in other_std) + gap
    return math.sqrt(around / spread), math.sqrt(gap / spread)


def _same_mix(labels: LabelFacts | None) -> bool:
    """Whether the rows of validation that were looked at are of the classes of training, in about their shares."""
    if labels is None or len(labels.counts) < 2 or not labels.validation_seen:
        return False
    n, n_val = sum(labels.counts.values()), sum(labels.validation_seen.values())
    classes = labels.counts.keys() | labels.validation_seen.keys()
    gaps = [abs(labels.counts.get(c, 0) / n - labels.validation_seen.get(c, 0) / n_val) for c in classes]
    return sum(gaps) / 2 < 0.25


def _comparable(training: LeafFacts, validation: LeafFacts, in_order: bool) -> bool:
    enough = training.rows >= 64 and validation.rows >= 64
    # rows that come in an order of their own: what was seen of them is not what they are
    if not training.drift < (_DRIFT_IN_ORDER if in_order else _DRIFT):
        return False
    if in_order and training.looks < _LOOKS_IN_ORDER:
        return False
    return enough and len(training.mean) == len(validation.mean) > 0 and any(training.std)


ROW_RULES: tuple[Rule, ...] = (
    Rule(
        "same-batch-every-step",
        Rank.DATA,
        ("batches",),
        _same_batch,
        explains=("*", "validation-input-differs", "labels-missing-in-training", "labels-sorted"),
        about="batches in a row are equal in every value",
    ),
    Rule(
        "labels-sorted",
        Rank.DATA,
        ("batches.labels",),
        _labels_sorted,
        explains=("*", "labels-missing-in-training", "validation-input-differs", "validation-is-another-task"),
        about="rows of training come in the order of their labels",
    ),
    Rule(
        "labels-missing-in-training",
        Rank.DATA,
        ("batches.labels",),
        _labels_missing,
        explains=("overfitting", "labels-unrelated-to-input", "validation-is-another-task"),
        about="a class that only validation has",
    ),
    Rule(
        "validation-input-differs",
        Rank.DATA,
        ("batches",),
        _validation_input,
        explains=(
            "overfitting",
            "batch-norm-statistics-off",
            "labels-unrelated-to-input",
            "validation-is-another-task",
        ),
        about="inputs of validation lie elsewhere, on another scale, or in another order of features",
    ),
    Rule(
        "validation-rows-in-training",
        Rank.DATA,
        ("batches",),
        _rows_shared,
        about="rows of validation are rows of training",
    ),
    *UNLIKE_RULES,
)
