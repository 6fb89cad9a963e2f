"""Two jobs that would do the same: what is swept between them reaches nothing."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from stablelit.run.sweep.grouping import swept_values
from stablelit.run.sweep.plan import SweepPlan

# where a run lies; one that has another name is meant to be another
_NOT_WHAT_IT_DOES = ("hydra", "run_dir", "runs", "resume", "logger", "allow_targets", "retry_failed")
_GROUPS_BY_NAME = ("callbacks", "logger")


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain data; what is known only in the job stands as it is written."""
    plain: dict[str, Any] = {}
    for key in map(str, config):
        node = config._get_node(key)
        try:
            plain[key] = OmegaConf.to_container(config[key], resolve=True) if OmegaConf.is_config(node) else config[key]
        except Exception:
            plain[key] = OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else str(node)
    return plain


def identity_of(plain: dict[str, Any]) -> str:
    """The same text for two resolved configurations that train the same: what no object gets is left out."""
    kept = {key: value for key, value in plain.items() if key not in _NOT_WHAT_IT_DOES}
    for group in _GROUPS_BY_NAME:
        members = kept.get(group)
        if isinstance(members, dict) and "_target_" not in members:
            kept[group] = {k: v for k, v in members.items() if isinstance(v, dict) and "_target_" in v}
    for unused in ("pacing", *_unused_by_the_model(kept)):
        # what another section refers to stands there, resolved
        kept.pop(unused, None)
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def same_runs(identities: Mapping[int, str], plan: SweepPlan) -> list[str]:
    """A text for each set of values that makes no difference."""
    first_of: dict[str, int] = {}
    told: dict[str, list[tuple[int, int]]] = {}
    for number, identity in sorted(identities.items()):
        first = first_of.setdefault(identity, number)
        if first != number:
            mine, its = (swept_values(plan.jobs[n], plan) for n in (number, first))
            differing = [f"{a} and {b.partition('=')[2]}" for a, b in zip(its, mine, strict=False) if a != b]
            told.setdefault(", ".join(differing), []).append((first, number))
    texts = []
    for what, pairs in told.items():
        pair, more = pairs[0], f" (and {len(pairs) - 1} more pairs)" if len(pairs) > 1 else ""
        jobs = f"jobs {pair[0]} and {pair[1]}{more} would be the same run" if plan.complete else "the same run"
        if not what:
            values = " ".join(swept_values(plan.jobs[pair[0]], plan))
            texts.append(f"{values}: {jobs}\n    Name each value once.")
            continue
        texts.append(
            f"{what}: {jobs}; nothing that is trained here reads the difference\n"
            "    Leave it out of the sweep, or choose what uses it: its callback may not be in `callbacks=`, or the "
            "module makes its own optimizer."
        )
    return texts


def _unused_by_the_model(plain: Mapping[str, Any]) -> list[str]:
    model = plain.get("model")
    if not isinstance(model, dict) or "_target_" not in model:
        return []
    try:
        accepted = inspect.signature(get_object(model["_target_"])).parameters
    except (TypeError, ValueError):
        return []
    if any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        return []
    return [name for name in ("optimizer", "lr_schedule") if name not in accepted or name in model]
