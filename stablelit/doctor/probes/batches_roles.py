"""Which leaf of a batch is the input, and which the target."""

from __future__ import annotations

import re

from stablelit.doctor.evidence.batches import LeafFacts
from stablelit.doctor.evidence.operations import OperationFacts

_TARGET = re.compile(r"(y|ys|target|targets|label|labels|class_id|gt)$")
_INPUT = re.compile(r"(x|xs|input|inputs|image|images|features|pixel_values|input_ids|data)$")


def target_leaf(leaves: dict[str, LeafFacts], operations: OperationFacts | None) -> str:
    """By what the loss compares with; else by its name, or its place in a pair; empty where that says nothing."""
    met = {term.target_leaf for term in operations.terms if term.target_leaf} if operations else set()
    if operations and operations.traced:
        return met.pop() if len(met) == 1 else ""
    named = [name for name in leaves if _TARGET.search(_last(name))]
    if len(named) == 1:
        return named[0]
    return "batch[1]" if set(leaves) == {"batch[0]", "batch[1]"} and len(leaves["batch[1]"].shape) == 1 else ""


def input_leaves(leaves: dict[str, LeafFacts], operations: OperationFacts | None, target: str) -> set[str]:
    """By what meets the first weights; else by its name, or its place in a pair."""
    if operations and operations.uses:
        return {name for use in operations.uses for name in use.leaf.split("+")}
    named = {name for name in leaves if _INPUT.search(_last(name))}
    if not named and target and set(leaves) == {"batch[0]", "batch[1]"}:
        named = {"batch[0]"} - {target}
    return named - {target}


def _last(name: str) -> str:
    """``y`` of ``batch['y']`` and of ``batch.y``."""
    return re.split(r"[.\[]", name)[-1].strip("]'\"").lower()
