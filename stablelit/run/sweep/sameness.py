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


def identity_of(config: DictConfig) -> str:
    """The same text for two configurations that train the same: what no object gets is left out."""
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]
    for key in list(plain):
        try:
            plain[key] = (
                OmegaConf.to_container(config[key], resolve=True) if OmegaConf.is_config(config[key]) else config[key]
            )
        except Exception:
            # what it stands for is known only in the job
            continue
    referred = json.dumps(OmegaConf.to_container(config, resolve=False), default=str)
    for key in _NOT_WHAT_IT_DOES:
        plain.pop(key, None)
    for group in _GROUPS_BY_NAME:
        members = plain.get(group)
        if isinstance(members, dict) and "_target_" not in members:
            plain[group] = {k: v for k, v in members.items() if isinstance(v, dict) and "_target_" in v}
    for unused in _unused_by_the_model(plain):
        # a learning rate that another section refers to is used there, and stands there resolved
        plain.pop(unused, None)
    plain["pacing"] = plain.get("pacing") if "${pacing" in referred else None
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()


def same_runs(identities: Mapping[int, str], plan: SweepPlan) -> list[str]:
    """A text for each set of values that makes no difference."""
    first_of: dict[str, int] = {}
    told: dict[str, list[tuple[int, int]]] = {}
    for number, identity in sorted(identities.items()):
        first = first_of.setdefault(identity, number)
        if first != number:
            mine, its = (swept_values(plan.jobs[n], plan) for n in (number, first))
            differing = [f"{a} and {b.partition('=')[2]}" for a, b in zip(its, mine, strict=False) if a != b]
            told.setdefault(", ".join(differing) or "the same values", []).append((first, number))
    texts = []
    for what, pairs in told.items():
        pair, more = pairs[0], f" (and {len(pairs) - 1} more pairs)" if len(pairs) > 1 else ""
        jobs = f"jobs {pair[0]} and {pair[1]}{more} would be the same run" if plan.complete else "the same run"
        texts.append(
            f"{what}: {jobs}; nothing that is trained here reads the difference\n"
            f"    Leave it out of the sweep, or choose what uses it: its callback may not be in `callbacks=`, and a module "
            f"may make its own optimizer."
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
