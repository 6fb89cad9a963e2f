"""From the sums of all ranks to one evaluation: what is logged, what the rules read, what could not be told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stablelit.callbacks._posterior_findings import FIELDS
from stablelit.callbacks._posterior_sums import merged, validation_values

_MEASURED = ("mutual_information", "marginal_kl", "active_units_by_mean", "mean_sigma", "rms_mean")


class Evaluation(NamedTuple):
    """Values by their log names, one record of the history, and the merged sums of training."""

    logged: dict[str, float]
    record: dict[str, float]
    train: dict[str, Any]


def evaluation(ranks: Sequence[Mapping[str, Any]], threshold: float, logged_bound: float) -> Evaluation:
    """One evaluation.

    Args:
        ranks: of each rank ``train`` (`TrainSums.plain`), ``validation`` (`ValidationSums.plain`, or empty) and
            ``shares`` (of gradients).
        threshold: nats, above which a dimension counts as active.
        logged_bound: the negative bound of validation, where it was logged and is not in the sums; else NaN.
    """
    train = merged([rank["train"] for rank in ranks])
    held_out = validation_values([rank["validation"] for rank in ranks]) if ranks[0]["validation"] else {}
    shares = [share for rank in ranks for share in rank["shares"]]
    mean = train["mean"]
    per_dim = held_out.get("kl_per_dim") or train["per_dim"]
    logged: dict[str, float] = {name: float(held_out[name]) for name in _MEASURED if name in held_out}
    if per_dim:
        logged["active_units"] = float(sum(kl > threshold for kl in per_dim))
        logged["kl_per_dim_max"] = max(per_dim)
    if "loss" in mean and "~weighted" in mean:
        term, rest = abs(mean["~weighted"]), abs(mean["loss"] - mean["~weighted"])
        logged["kl_share"] = term / (term + rest) if term + rest else 0.0
    if shares:
        logged["gradient_share"] = sum(shares) / len(shares)
    known = {
        "weight": mean.get("~weight"),
        "kl": mean.get("~kl"),
        "recon": mean.get("~recon"),
        "loss": mean.get("loss"),
        "kl_share": logged.get("kl_share"),
        "val_kl": held_out.get("kl"),
        "neg_elbo": held_out["recon"] + held_out["kl"] if {"recon", "kl"} <= held_out.keys() else logged_bound,
        "active": logged.get("active_units"),
        "dims": len(per_dim) or None,
    }
    record = {field: math.nan if known[field] is None else float(known[field]) for field in FIELDS}
    return Evaluation(logged, record, train)


def what_is_missing(found: Evaluation, keys: Mapping[str, str], validated: bool) -> str:
    """What cannot be told of this module, and what would tell it; empty where all can."""
    missing = []
    if "active_units" not in found.logged:
        missing.append(f"active units (return {keys['kl_per_dim']!r}, (B, d))")
    if validated and "mutual_information" not in found.logged:
        two = f"{keys['mean']!r} and {keys['logvar']!r}"
        missing.append(f"mutual information (return {two} from validation_step, or give encode=)")
    if "kl_share" not in found.logged:
        missing.append(f"the KL's share of the loss (no number at {keys['weight']!r}: give weight=)")
    if math.isnan(found.record["neg_elbo"]):
        missing.append("over-coding and overfitting (return recon and kl from validation_step, or give neg_elbo=)")
    return "; ".join(missing)
