"""Rules about data: what is not finite, not scaled, constant or empty."""

from __future__ import annotations

import math

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.evidence.batches import LeafFacts
from stablelit.doctor.evidence.operations import FirstUse, LossTerm
from stablelit.doctor.levels import initial_loss_over_chance
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules._chance import loss_now, loss_terms, whole_term
from stablelit.doctor.rules._loss_course import after_run_in
from stablelit.doctor.rules.rows import ROW_RULES
from stablelit.findings import Finding

_LARGE_INPUT = 30.0
# norm of a row: that of a row brought to length 1 is thirty times as large, whatever its length
_SMALL_ROW = 0.03
_UNEVEN_FEATURES = 300.0
_OFFSET_INPUT = 20.0
_SUFFERS_ABOVE = 2.0
_LARGE_TARGET = 30.0
_TARGET_OVER_OUTPUT = 300.0
# an untrained last layer with default weights gives outputs of about this size, a zeroed one none
_USUAL_OUTPUT = 0.1
_PLAIN_OUTPUTS = frozenset({"linear", "addmm", "matmul", "conv1d", "conv2d", "conv3d", "relu", "rnn_tanh"})
_ENOUGH_LOOKS = 3


def _not_finite(evidence: Evidence, role: str) -> Finding | None:
    """A NaN that reaches the loss: seen in a batch, or in the data set where the loss has become one."""
    facts = evidence.batches
    if facts is None:
        return None
    for name in facts.reached:
        leaf = facts.leaves.get(name)
        if leaf is not None and _passes_for(leaf) == role:
            return _not_finite_finding(role, f"{name} holds values that are not finite", name, leaf.non_finite)
    loss = evidence.curve("loss")
    if not len(loss) or math.isfinite(loss.last):
        return None
    for name, rows in facts.stored_non_finite.items():
        if _passes_for(facts.leaves.get(name.rsplit(".", 1)[-1])) == role:
            return _not_finite_finding(role, f"{rows} rows of {name} in the training data are not finite", name, rows)
    return None


def _passes_for(leaf: LeafFacts | None) -> str:
    """What the loss does not compare with is taken for an input."""
    return "target" if leaf is not None and leaf.role == "target" else "input"


def _not_finite_finding(role: str, what: str, name: str, count: int) -> Finding:
    return Finding(
        f"{role}-not-finite",
        "critical",
        f"{what}, and neither is the loss (expected: none).",
        {"leaf": name, "count": count, "count_expected": 0},
        f"Drop or fill these rows of {name} before training: torch.isfinite(x).flatten(1).all(1).",
    )


def _input_not_finite(evidence: Evidence) -> Finding | None:
    return _not_finite(evidence, "input")


def _target_not_finite(evidence: Evidence) -> Finding | None:
    return _not_finite(evidence, "target")


def _input_unscaled(evidence: Evidence) -> Finding | None:
    """The first weights get numbers of a size that no norm takes away, and the loss shows it."""
    facts = evidence.operations
    if facts is None:
        return None
    for use in facts.uses:
        what = _out_of_scale(use)
        suffers = _suffers(evidence) if what else None
        if what and suffers:
            return Finding(
                "input-unscaled",
                "critical",
                f"{use.leaf} meets the first weights ({use.operation}, {use.where}) {what}, and {suffers}.",
                {
                    "rms": use.rms,
                    "rms_expected_below": _LARGE_INPUT,
                    "offset_over_spread": use.offset_over_spread,
                    "offset_expected_below": _OFFSET_INPUT,
                    "feature_spread": use.feature_spread,
                    "feature_spread_expected_below": _UNEVEN_FEATURES,
                },
                f"Standardise {use.leaf} per feature, (x - mean) / std of training, or put a norm layer first.",
            )
    return None


def _out_of_scale(use: FirstUse) -> str:
    if use.is_normalised or not math.isfinite(use.rms):
        return ""
    if use.feature_spread > _UNEVEN_FEATURES and use.rms > 1.0:
        return f"with features of which one varies {use.feature_spread:.3g} times as much as most (expected: about 1)"
    if 0.0 < use.rms * math.sqrt(max(use.features, 1)) < _SMALL_ROW:
        return f"at a root mean square of {use.rms:.3g} (expected: about 1)"
    if use.rms > _LARGE_INPUT:
        return f"at a root mean square of {use.rms:.3g} (expected: about 1)"
    if use.offset_over_spread > _OFFSET_INPUT and use.rms > 1.0:
        return f"with means {use.offset_over_spread:.3g} times their standard deviations (expected: about 0)"
    return ""


def _suffers(evidence: Evidence) -> str | None:
    """What is wrong with the loss: at the start, or after tens of steps."""
    found = whole_term(evidence)
    loss = evidence.curve("loss")
    if len(loss) >= 2 and not math.isfinite(loss.last) and bool(math.isfinite(loss.values[0])):
        return "the loss is not finite any more"
    for term in [found[0]] if found else loss_terms(evidence):
        ratio = initial_loss_over_chance(term, evidence.batches)
        if ratio is not None and ratio > _SUFFERS_ABOVE and (evidence.operations and evidence.operations.step <= 1):
            return f"the loss begins at {ratio:.3g} times its chance level"
    now = loss_now(evidence)
    if found is not None and now is not None and after_run_in(evidence, 100) and now > 0.9 * found[1].uniform:
        return f"after {evidence.step} steps the loss is still at {now / found[1].uniform:.2g} times its chance level"
    return None


def _target_unscaled(evidence: Evidence) -> Finding | None:
    """Numbers to regress on that are hundreds of times what an untrained output is."""
    facts = evidence.operations
    for term in facts.terms if facts is not None else []:
        over = term.target_rms / max(term.prediction_rms, _USUAL_OUTPUT)
        if term.kind not in ("mse", "l1", "huber") or term.made_by not in _PLAIN_OUTPUTS:
            continue
        if term.target_rms > _LARGE_TARGET and over > _TARGET_OVER_OUTPUT and not _has_learnt(evidence, term):
            return Finding(
                "target-unscaled",
                "critical",
                f"Targets at {term.where} have a root mean square of {term.target_rms:.3g} (mean "
                f"{term.target_mean:.3g}, spread {term.target_std:.3g}), {over:.3g} times the untrained output "
                "(expected: about 1).",
                {
                    "target_rms": term.target_rms,
                    "output_rms": term.prediction_rms,
                    "ratio": over,
                    "ratio_expected_below": _TARGET_OVER_OUTPUT,
                },
                "Standardise the target, (y - mean) / std of the training data, and scale predictions back.",
            )
    return None


def _has_learnt(evidence: Evidence, term: LossTerm) -> bool:
    """Whether the loss is already below what knowing the mean would give (of a run that goes on)."""
    found, now = whole_term(evidence), loss_now(evidence)
    return found is not None and now is not None and now < 0.5 * found[1].value


def _input_constant(evidence: Evidence) -> Finding | None:
    """Every sample of every look is the same, while what is asked of it is not."""
    facts = evidence.batches
    if facts is None or facts.edges is not None:
        return None
    inputs = facts.of_role("input")
    targets = facts.of_role("target")
    if not inputs or any(leaf.varying_looks or len(leaf.shape) < 2 or leaf.looks < _ENOUGH_LOOKS for leaf in inputs):
        return None
    rows = min(leaf.rows for leaf in inputs)
    if rows < 2 * min(leaf.looks for leaf in inputs):
        return None
    # what asks nothing of them varies at least in validation
    others_vary = any(facts.validation[leaf.name].varying_looks for leaf in inputs if leaf.name in facts.validation)
    if targets and not any(leaf.varying_looks for leaf in targets) and not others_vary:
        return None
    others = [leaf for leaf in facts.leaves.values() if leaf.role == "" and leaf.kind == "float"]
    if any(leaf.varying_looks for leaf in others):
        return None
    names = ", ".join(leaf.name for leaf in inputs)
    return Finding(
        "input-constant",
        "critical",
        f"All {rows} samples of {names} seen so far are equal within their batch (expected: samples that differ).",
        {"leaf": names, "rows": rows, "varying_looks": 0},
        f"Look at what fills {names}: a file read wrongly, a mask over all of it, a scale of 0, an index that stays.",
    )


def _graph_without_edges(evidence: Evidence) -> Finding | None:
    """No edge but self loops in any look."""
    edges = evidence.batches.edges if evidence.batches else None
    if edges is None or edges.looks < _ENOUGH_LOOKS or edges.edges or edges.nodes < 2 * edges.looks:
        return None
    loops = f"{edges.self_loops} self loops and no other edge" if edges.self_loops else "no edge"
    return Finding(
        "graph-without-edges",
        "critical",
        f"{edges.looks} batches of graphs with {edges.nodes} nodes hold {loops} (expected: edges between nodes).",
        {"nodes": edges.nodes, "edges": 0, "self_loops": edges.self_loops, "looks": edges.looks},
        "Look at what builds edge_index: a radius or a number of neighbours too small, a filter that takes all.",
    )


DATA_RULES: tuple[Rule, ...] = (
    Rule(
        "input-not-finite",
        Rank.DATA,
        ("batches", "curves.loss"),
        _input_not_finite,
        explains=("*", "loss-not-finite"),
        about="a NaN or an infinity of the input reaches the loss",
    ),
    Rule(
        "target-not-finite",
        Rank.DATA,
        ("batches", "curves.loss"),
        _target_not_finite,
        explains=("*", "loss-not-finite"),
        about="a NaN or an infinity of the target reaches the loss",
    ),
    Rule(
        "input-constant",
        Rank.DATA,
        ("batches",),
        _input_constant,
        explains=("*", "labels-sorted", "labels-missing-in-training", "target-constant", "few-different-rows"),
        about="all samples are the same",
    ),
    Rule(
        "graph-without-edges",
        Rank.DATA,
        ("batches.edges",),
        _graph_without_edges,
        explains=("*",),
        about="graphs hold no edge, or self loops alone",
    ),
    *ROW_RULES,
    Rule(
        "input-unscaled",
        Rank.SCALE,
        ("operations",),
        _input_unscaled,
        explains=("*", "initial-loss-far-from-chance", "target-unscaled", "learning-rate-too-high", "dead-units"),
        about="the first weights get numbers far from 1, and the loss shows it",
    ),
    Rule(
        "target-unscaled",
        Rank.SCALE,
        ("operations",),
        _target_unscaled,
        explains=("*", "initial-loss-far-from-chance", "learning-rate-too-low", "learning-rate-too-high"),
        about="targets are hundreds of times what an untrained output is",
    ),
)
