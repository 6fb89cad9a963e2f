"""What a history of evaluations says of a variational module: the rules of PosteriorMonitor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from stablelit.callbacks._clock import planned
from stablelit.findings import Finding
from stablelit.functional.trends import change_of, falls, noise_of, rises

Record = Mapping[str, float]
"""One evaluation: `weight`, `kl`, `recon`, `loss`, `kl_share` of training; `val_kl`, `neg_elbo` of validation; `active`
and `dims`. NaN is unknown."""

FIELDS = ("weight", "kl", "recon", "loss", "kl_share", "val_kl", "neg_elbo", "active", "dims")
_ONE_BIT = math.log(2.0)


def judge(history: Sequence[Record], patience: int, cap: float | None, suspect: Record) -> list[Finding]:
    """All rules.

    Args:
        history: the evaluations so far, oldest first.
        patience: evaluations a state must last; a trend is looked for over twice as many.
        cap: the largest weight that a callback gives; None where nobody caps.
        suspect: from `reduction_suspect`, of the first batch.
    """
    found = [
        posterior_collapse(history, patience),
        over_coding_or_overfitting(history, patience),
        cap_ineffective(history, patience, cap),
        reduction_mismatch(history, suspect),
    ]
    return [finding for finding in found if finding is not None]


def posterior_collapse(history: Sequence[Record], patience: int) -> Finding | None:
    """The KL is above the information about the sample, so a KL of a tenth of a nat says that the code says nothing.

    Also where fewer than a twentieth of the units are active *and* the KL is below one bit (ln 2): a wide code that
    uses few units well is no collapse. Silent while the KL rises, and where the weight is 0.
    """
    last = history[-patience:]
    if len(last) < patience or any(r["weight"] == 0.0 for r in last):
        return None
    kls = [_kl(r) for r in last]
    if not all(_collapsed(r, kl) for r, kl in zip(last, kls, strict=True)) or kls[-1] > 1.2 * kls[0] + 1e-6:
        return None
    now, kl = last[-1], kls[-1]
    units = "" if math.isnan(now["active"]) else f", {now['active']:.0f} of {now['dims']:.0f} units are active"
    return Finding(
        "posterior-collapse",
        "warning",
        f"the code says nothing of the sample: KL {kl:.3g} nats over {patience} evaluations{units}.",
        {"kl": kl, "weight": _plain(now["weight"]), "active_units": _plain(now["active"])},
        "a warm-up of the weight, KLCapCallback(mode='free_bits'), a kl_target, or a decoder that cannot do without z",
    )


def over_coding_or_overfitting(history: Sequence[Record], patience: int) -> Finding | None:
    """Validation (weight 1) rises since its best evaluation by more than its noise while training goes on falling.

    With a KL that rises the module writes down its training samples (over-coding); else it is overfitting. The trend is
    looked for over at least twice `patience` evaluations *behind* the best one, which is no part of it: the best of a
    noisy series always has worse ones behind it.
    """
    rows = [r for r in history if math.isfinite(r["neg_elbo"])]
    series = [r["neg_elbo"] for r in rows]
    if len(series) < 2 * patience + 1:
        return None
    best = min(range(len(series)), key=series.__getitem__)
    behind = rows[best + 1 :]
    # correlated noise shows over a lag; the first steep fall is none of it
    late = series[max(0, best - 2 * patience) :]
    noise = max(noise_of(series), noise_of(late, patience))
    if len(behind) < 2 * patience or not rises(series[best + 1 :], noise):
        return None
    recons, losses, kls = ([r[k] for r in behind] for k in ("recon", "loss", "kl"))
    learns = falls(recons) if all(map(math.isfinite, recons)) else falls(losses)
    if not learns:
        return None
    over_codes = all(map(math.isfinite, [*recons, *kls])) and rises(kls)
    evidence: dict[str, float | int | str] = {
        "best": series[best],
        "now": series[-1],
        "evaluations": len(behind),
        "kl": _plain(kls[-1]),
    }
    rise = f"validation rose from {series[best]:.4g} to {series[-1]:.4g} nats in {len(behind)} evaluations"
    if over_codes:
        return Finding(
            "over-coding",
            "warning",
            f"{rise} while the KL rose from {kls[0]:.3g} to {kls[-1]:.3g} and the training reconstruction fell: the "
            f"code holds the training samples.",
            evidence,
            "a larger weight or a kl_target; a smaller weight buys more KL. Keep the best checkpoint",
        )
    return Finding(
        "overfitting",
        "warning",
        f"{rise} while training went on falling.",
        evidence,
        "keep the best checkpoint (early stopping), more data or augmentation, dropout, a smaller decoder",
    )


def cap_ineffective(history: Sequence[Record], patience: int, cap: float | None) -> Finding | None:
    """A weight below 1 that stands still at its cap, and a KL that grows against it and buys nothing.

    At the optimum the KL falls with the weight (dKL*/dbeta < 0): a lower cap makes it worse. All must hold over twice
    `patience` evaluations: the KL rises by more than its noise and by a fifth; the term is below 5 % of the loss, so
    that it cannot hold it; and recon + KL (of validation, where known) does not fall, so that the nats are not paid
    for by the reconstruction, as they are where a young model learns.
    """
    last = history[-2 * patience :]
    weights, kls = [r["weight"] for r in last], [r["kl"] for r in last]
    if len(last) < 2 * patience or not all(map(math.isfinite, [*weights, *kls])):
        return None
    weight = weights[-1]
    still = max(weights) - min(weights) <= 1e-3 * abs(weight)
    at_cap = cap is None or weight >= 0.999 * cap
    if not (still and at_cap and 0.0 <= weight < 1.0) or not all(r["kl_share"] < 0.05 for r in last):
        return None
    bounds = [r["neg_elbo"] for r in last]
    if not all(map(math.isfinite, bounds)):
        bounds = [r["recon"] + r["kl"] for r in last]
    if not all(map(math.isfinite, bounds)) or change_of(bounds) < 0.0:
        return None
    if not rises(kls) or change_of(kls) < 0.2 * abs(kls[0]):
        return None
    return Finding(
        "cap-ineffective",
        "warning",
        f"the weight stands at {weight:.3g}, {100 * last[-1]['kl_share']:.2g} % of the loss, and the KL grew from "
        f"{kls[0]:.3g} to {kls[-1]:.3g} nats in {len(last)} evaluations: a lower cap makes it worse.",
        {"weight": weight, "kl_before": kls[0], "kl": kls[-1], "kl_share": last[-1]["kl_share"]},
        "raise the cap (callbacks.kl_cap.max_weight=1.0), or hold the KL itself (callbacks.kl_cap.mode=target "
        "callbacks.kl_cap.kl_target=20)",
    )


def reduction_suspect(recon: float, variance: float, features: int) -> dict[str, float]:
    r"""Whether a first reconstruction looks like a mean over features; empty where it does not.

    Before it has learned, a decoder's squared error is at least the variance v of a feature: a sum over D features is
    some D v, a mean some v. Below D v / 20, of at least 20 features, no untrained sum can be (a likelihood below 0 is
    no squared error).
    """
    if features < 20 or not variance > 0.0 or not 0.0 < recon < 0.05 * features * variance:
        return {}
    return {"recon": recon, "variance": variance, "features": float(features)}


def reduction_mismatch(history: Sequence[Record], suspect: Record) -> Finding | None:
    """A mean over D features beside a KL in nats is a weight D times as large: told where it has done its work.

    A mean-squared error with weight b is the sum with weight b D. Told where b D is at least 10 and the KL has sunk
    below a twentieth of a nat a feature in two evaluations running; where b was chosen as some 1 / D nothing is wrong.
    """
    last = history[-2:]
    if not suspect or len(last) < 2:
        return None
    features = suspect["features"]
    if not all(r["weight"] * features >= 10.0 and _kl(r) < 0.05 * features for r in last):
        return None
    weight, kl = last[-1]["weight"], _kl(last[-1])
    return Finding(
        "reduction-mismatch",
        "warning",
        f"the first reconstruction was {suspect['recon']:.3g} for {features:.0f} features of variance "
        f"{suspect['variance']:.3g}: a mean over features, it seems, beside a KL that is a sum. Weight {weight:.3g} "
        f"counts {weight * features:.3g}-fold, and the KL is down to {kl:.3g} nats.",
        {**suspect, "weight": weight, "kl": kl},
        f"sum the reconstruction over features and take its mean over samples, or a weight of some {1 / features:.2g}",
    )


def unfinished_warmup(trainer: Any, writer: Any) -> Finding | None:
    """Of the callback that writes the weight, if one with a clock does: a warm-up longer than the planned run.

    Such a run is refused unless the callback was told to allow it, and then this says so.
    """
    clock = getattr(writer, "clock", None)
    if clock is None:
        return None
    unit = clock.duration.unit if clock.duration.amount else clock.delay.unit
    end, length = clock.delay.amount + clock.duration.amount, planned(trainer, unit)
    if end <= length:
        return None
    return Finding(
        "warmup-never-finishes",
        "warning",
        f"the warm-up of {writer.writes_scalar} ends after {end:g}{unit} and the run after {length:g}{unit}: no part "
        f"of it trains the objective that it was to end with.",
        {"warmup": end, "run": length, "unit": unit},
        "a shorter warm-up (callbacks.kl_cap.warmup=0.1dur) or a longer run",
    )


def _kl(record: Record) -> float:
    return record["val_kl"] if math.isfinite(record["val_kl"]) else record["kl"]


def _collapsed(record: Record, kl: float) -> bool:
    return kl < 0.1 or (record["active"] < 0.05 * record["dims"] and kl < _ONE_BIT)


def _plain(value: float) -> float | str:
    return "unknown" if math.isnan(value) else value
