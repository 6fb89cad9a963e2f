r"""What a KL says, by its *rate*: nats a latent dimension.

A KL of 73 in 128 dimensions is 0.57 nats each, less than one bit: no explosion. What it cannot say is judged nowhere:
whether it was summed or averaged over dimensions is not in a log, so each rule holds for both. The optimum falls with
the weight, :math:`dKL^*/d\beta \le 0`: a smaller weight buys more KL, never less.
"""

from __future__ import annotations

import re

import numpy as np

from stablelit.doctor.evidence import Curve, Evidence
from stablelit.findings import Finding
from stablelit.functional.trends import change_of, rises

_COLLAPSED_NATS, _FALLEN = 0.01, 30.0
_MANY_NATS = 6.0
_SHARE, _RISE = 1e-3, 1.5
_HALF = 0.5
# of what had been gained
_LOST = 0.75
_RECONSTRUCTION = re.compile(r"logged/.*recon", re.IGNORECASE)
_VALIDATION = re.compile(r"(^|[/_\-. ])(val|valid|validation|dev|eval|test)([/_\-. ]|$)", re.IGNORECASE)
_LOOKED_AT = 64


def collapse(evidence: Evidence) -> Finding | None:
    r"""KL < 0.01 nats over all dimensions even if it was averaged over them and multiplied by its weight.

    :math:`d \cdot KL / \min(1, w) < 0.01` over the last quarter of the run; below 0.01 not one dimension is active
    (Burda et al. 2016, arXiv:1509.00519, Var > 0.01). A weight that is not logged may be any: then the KL must also
    have fallen by a factor of thirty, which a weight that warms up does not do.
    """
    kl, dims = evidence.curve("kl").finite(), evidence.curve("latent_dim").last
    if len(kl) < 8 or not _is_past_half(evidence) or not dims >= 1:
        return None
    late = kl.tail(max(4, len(kl) // 4)).values
    largest = float(np.abs(late).max())
    weight = evidence.curve("kl_weight").finite()
    if len(weight):
        last = float(weight.last)
        if last <= 0.0 or largest * dims / min(1.0, last) >= _COLLAPSED_NATS:
            return None
    elif largest * dims >= _COLLAPSED_NATS or float(kl.values.max()) < _FALLEN * max(largest, 1e-12):
        return None
    if rises(late.tolist()):
        return None
    now = float(weight.last) if len(weight) else float("nan")
    remedy = "a warm-up of the KL weight, free bits, or a decoder that cannot do without the code"
    if now > 0:
        remedy = f"{evidence.settings.override('kl_weight', now / 10)}: a smaller KL weight; or {remedy}"
    return Finding(
        "posterior-collapse",
        "warning",
        f"the KL is {float(np.median(late)):.2g} nats over {dims:.0f} dimensions; below {_COLLAPSED_NATS:g} in all, "
        f"not one of them says anything of the sample.",
        {"kl": float(np.median(late)), "latent_dim": int(dims), "kl_max": float(kl.values.max())},
        remedy,
    )


def over_coding(evidence: Evidence) -> Finding | None:
    """More than 6 nats a dimension, rising over the later half, and validation that rises with it."""
    kl, dims = evidence.curve("kl").finite(), evidence.curve("latent_dim").last
    validation = evidence.curve("val_loss").finite()
    if len(kl) < 12 or len(validation) < 12 or not dims >= 1 or _ramps(evidence):
        return None
    nats = float(np.median(kl.tail(max(4, len(kl) // 4)).values)) / dims
    middle = 0.5 * evidence.step
    if nats <= _MANY_NATS or not rises(kl.since(middle).blocks(12).tolist()):
        return None
    if not rises(validation.since(middle).blocks(12).tolist()):
        return None
    return Finding(
        "over-coding",
        "warning",
        f"the KL is {nats:.3g} nats a dimension (expected below {_MANY_NATS:g}) and rises, while validation got "
        f"worse: the code holds the training samples.",
        {"kl_per_dim": nats, "latent_dim": int(dims), "val_loss": float(validation.last)},
        "a larger KL weight or a target for the KL; a smaller weight buys more KL",
    )


def weight_too_small(evidence: Evidence) -> Finding | None:
    """The KL has risen by half and more, and its term is below a thousandth of the loss: nothing holds it. A note.

    Where the loss rises too it is a warning: a term so small is not what makes it rise, and no weight of it mends that.
    """
    kl, weight = evidence.curve("kl").finite(), evidence.curve("kl_weight").finite()
    loss = evidence.curve("loss").finite()
    if len(kl) < 4 or not len(weight) or not len(loss) or not _is_past_half(evidence):
        return None
    recent = float(np.median(np.abs(loss.values[-_LOOKED_AT:])))
    if float(kl.last) * float(weight.last) >= 10 * _SHARE * recent:  # most runs, for next to nothing
        return None
    values, losses = kl.blocks(12), loss.blocks(12)
    first, now, size = float(values[0]), float(values[-1]), float(np.abs(losses[-3:]).mean())
    if first <= 0 or now < _RISE * first or change_of(values.tolist()) <= 0 or size <= 0:
        return None
    share = float(weight.values.max()) * now / size
    if share >= _SHARE:
        return None
    dims = evidence.curve("latent_dim").last
    rate = f", {now / dims:.2g} nats in each of {dims:.0f} dimensions" if dims >= 1 else ""
    told = f"the KL rose from {first:.3g} to {now:.3g}{rate}; its term is {share:.1g} of the loss, which cannot hold it"
    facts: dict[str, float | int | str] = {"kl": now, "weight": float(weight.last), "share": share}
    facts |= {"kl_per_dim": now / dims} if dims >= 1 else {}
    remedy = "for samples from the prior: a larger weight or a target for the KL, since a smaller weight buys more KL"
    if len(losses) == 12 and rises(losses.tolist()):
        return Finding(
            "kl-weight-too-small",
            "warning",
            f"the loss rose from {losses[0]:.3g} to {losses[-1]:.3g}, and not by its KL: {told}, nor make it rise.",
            {**facts, "loss_first": float(losses[0]), "loss": float(losses[-1])},
            "average the reconstruction over what it sums and look at the scale of inputs and targets first, then "
            f"lower the learning rate; {remedy}",
        )
    return Finding("kl-weight-too-small", "info", f"{told}. A smaller one would let it rise further.", facts, remedy)


def weight_too_large(evidence: Evidence) -> Finding | None:
    """Above a weight of 1, most of what reconstruction plus KL had gained is lost again while the weight rose.

    Their sum is the bound at weight 1, whatever the weight of training is. A weight above 1 on purpose (beta-VAE, 4)
    costs a little of it: of a run whose weight rises to 1, 4, 10 and 30 it loses 0, 4, 33 and 250 per cent of what it
    had gained (measured).
    """
    kl, weight, recon = evidence.curve("kl").finite(), evidence.curve("kl_weight").finite(), _reconstruction(evidence)
    if len(kl) < 6 or len(recon) != len(kl) or len(weight) != len(kl) or not weight.last > 1.0:
        return None
    bound, kls, weights = kl.values + recon.values, kl.values, weight.values
    best = int(np.argmin(bound))
    late = slice(max(best + 1, len(bound) - max(3, len(bound) // 4)), None)
    if len(bound[late]) < 3 or weights[late].min() < 1.2 * weights[best] or kls[late].max() >= kls[best]:
        return None
    now, low, first = float(bound[late].min()), float(bound[best]), float(bound[0])
    if now - low < max(_LOST * (first - low), 0.1 * abs(low)):
        return None
    return Finding(
        "kl-weight-too-large",
        "warning",
        f"reconstruction + KL (the bound at weight 1) was {low:.4g} at a KL weight of {weights[best]:.3g} and is "
        f"{now:.4g} or more at {weight.last:.3g} (it began at {first:.4g}), while the KL fell from {kls[best]:.3g} to "
        f"{kls[-1]:.3g} nats: the code is given up for the prior.",
        {"weight": float(weight.last), "bound_best": low, "bound": now, "bound_first": first, "kl": float(kls[-1])},
        f"{evidence.settings.override('kl_weight', 1.0)}: the weight of the bound; above 4 hardly anybody's beta-VAE",
    )


def _reconstruction(evidence: Evidence) -> Curve:
    """What training has logged under a name that says reconstruction."""
    names = [n for n in evidence.curves if _RECONSTRUCTION.search(n) and not _VALIDATION.search(n)]
    return evidence.curve(min(names, key=len)).finite() if names else Curve()


def weight_without_cap(evidence: Evidence) -> Finding | None:
    """In a run that is over, the weight rose until the end: by a tenth and more in the last quarter. A note."""
    weight = evidence.curve("kl_weight").finite()
    if not evidence.ended or len(weight) < 8:
        return None
    late = weight.tail(len(weight) // 4 + 1).values
    if float(late[0]) <= 0 or np.any(np.diff(late) < 0) or float(late[-1]) < 1.1 * float(late[0]):
        return None
    if float(late[-1]) <= 1.01 * float(np.median(late)):
        return None
    return Finding(
        "kl-weight-without-cap",
        "info",
        f"the KL weight still rose at the end, from {float(late[0]):.3g} to {float(late[-1]):.3g} in the last "
        f"quarter: losses of different epochs are not of one objective.",
        {"weight": float(late[-1]), "before": float(late[0])},
        "end the warm-up at a known weight; compare epochs at a weight of 1",
    )


def _is_past_half(evidence: Evidence) -> bool:
    if evidence.ended or evidence.planned_steps is None:
        return evidence.ended
    return evidence.step >= _HALF * evidence.planned_steps


def _ramps(evidence: Evidence) -> bool:
    difficulty: Curve = evidence.curve("difficulty").finite()
    return len(difficulty) > 1 and float(difficulty.last) > float(difficulty.values[len(difficulty) // 2])
