"""What an epoch's gradient books say is wrong, and why that is sound.

The clip ratio alone is no finding. Adam divides by the root of the mean square of past gradients, so a factor common
to all of them cancels: clipping every step can be healthy. What counts is what a clip takes away:

- plain SGD steps in proportion to the gradient. With norms of 100 c at the median, the learning rate in force is a
  hundredth of the one that was set (`clip-severe`).
- elsewhere the factor cancels only if it is the same in every step. Where every step is cut to one length and the
  norms differ much, the clip weighs batches anew: worth knowing, not an alarm (`clip-spread`).
- Adam's step is lr g / (|g| + eps): where the root mean square gradient of every parameter is below eps, it no longer
  is a step of about lr (`gradient-vanished`). So is a norm of exactly zero in half of the steps.
- a norm that is infinite in the clip's own precision and finite in truth makes the coefficient zero: the step was lost
  (`clip-norm-overflow`).
- under a gradient scaler non-finite norms are how it finds its factor; a factor below 1 is not reached by a search
  that began above, unless the gradients themselves are not finite (`gradients-non-finite`).
- norms that agree to four digits in half of the steps were cut to that length before they were measured
  (`clip-unseen`), or the data never change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from stablelit.findings import Finding
from stablelit.functional.gradient_record import GradientRecord

_NAMED = 5


def judge_epoch(
    records: Mapping[int, GradientRecord],
    optimizers: Sequence[Any],
    rms: Mapping[int, float],
    dead: Mapping[str, str],
    severe_ratio: float,
    spread_ratio: float,
    manual: bool,
) -> Iterable[Finding]:
    """Findings about the finite norms of an epoch that has enough of them.

    Args:
        records: by the place of their optimizer.
        optimizers: of the trainer.
        rms: the largest root mean square gradient of a parameter, by the place of the optimizer, where it is known.
        dead: parameters that learned nothing, and why.
        severe_ratio: see :class:`~stablelit.callbacks.GradClipMonitor`.
        spread_ratio: likewise.
        manual: whether the module clips itself, perhaps before the norms were measured.
    """
    for index, record in records.items():
        yield from judge_clip(record, optimizers[index], severe_ratio, spread_ratio)
        yield from judge_gradients(record, rms.get(index), optimizers[index])
        if manual:
            yield from judge_manual(record)
    # a clip that overflowed has zeroed all of them
    if dead and not any(record.overflowed for record in records.values()):
        yield nothing_learned(dead, max(record.steps for record in records.values()))


def judge_clip(record: GradientRecord, optimizer: Any, severe_ratio: float, spread_ratio: float) -> Iterable[Finding]:
    """Findings about a clip by norm at a fixed threshold."""
    if record.overflowed:
        yield Finding(
            "clip-norm-overflow",
            "critical",
            f"the clip's norm overflowed in {record.overflowed} of {record.steps} optimizer steps although the true "
            f"norm is finite (largest {record.largest:.4g}): the coefficient was 0 and the gradients were zeroed.",
            {"steps": record.overflowed, "largest_norm": record.largest},
            "Trainer(precision='bf16-true') or '16-mixed', whose gradients are float32",
        )
    ratio, median, max_norm = record.clip_ratio, record.quantile(0.5), record.max_norm
    if ratio is None or max_norm is None or not record.kept:
        return
    severity = median / max_norm
    numbers: dict[str, float | int | str] = {"clip_ratio": ratio, "norm_p50": median, "max_norm": max_norm}
    if isinstance(optimizer, torch.optim.SGD) and severity > severe_ratio:
        yield Finding(
            "clip-severe",
            "warning",
            f"the median norm {median:.4g} is {severity:.3g} times the clip at {max_norm:g}. SGD steps in proportion "
            f"to the gradient, so the learning rate in force is {1 / severity:.2g} of the one that is set.",
            numbers,
            f"Trainer(gradient_clip_val={record.quantile(0.95):.2g}) with a learning rate that suits it, or smaller "
            f"gradients: standardised inputs, losses that are means and not sums",
        )
    spread = record.quantile(0.95) / median if median > 0 else 0.0
    if not isinstance(optimizer, torch.optim.SGD) and ratio >= 0.95 and spread >= spread_ratio:
        yield Finding(
            "clip-spread",
            "info",
            f"{100 * ratio:.0f} % of the steps are clipped to {max_norm:g}, and their norms differ (p95 is "
            f"{spread:.3g} times the median): the clip gives every batch the same weight.",
            {**numbers, "spread": spread},
            f"nothing, where that is wanted; else gradient_clip_val={record.quantile(0.95):.2g} clips outliers alone",
        )
    if ratio == 0.0:
        yield Finding(
            "clip-never-active",
            "info",
            f"the clip at {max_norm:g} changed nothing in {record.finite} optimizer steps: the largest norm is "
            f"{record.largest:.4g}.",
            {**numbers, "norm_max": record.largest},
            f"nothing, where it is a safety net; gradient_clip_val={record.quantile(0.95):.2g} clips one step in 20",
        )


def judge_gradients(record: GradientRecord, rms: float | None, optimizer: Any) -> Iterable[Finding]:
    """Findings about the gradients themselves."""
    finite = record.finite
    if finite and 2 * record.zero >= finite:
        yield Finding(
            "gradient-vanished",
            "warning",
            f"the gradient was exactly zero in {record.zero} of {finite} optimizer steps.",
            {"zero_steps": record.zero, "steps": finite},
            "look for a detach() on the way to the loss, a loss weight of 0, saturated units; in float16 an underflow",
        )
    group = optimizer.param_groups[0]
    eps = float(group.get("eps", 0.0)) if "betas" in group else 0.0
    if rms is not None and 0.0 < rms < eps:
        yield Finding(
            "gradient-vanished",
            "warning",
            f"the root mean square gradient is at most {rms:.3g} in every parameter, below eps={eps:g} of "
            f"{type(optimizer).__name__}: its steps are no longer of the size of the learning rate.",
            {"rms": rms, "eps": eps},
            "a loss that is not divided twice, a larger loss scale, or a smaller eps",
        )


def judge_manual(record: GradientRecord) -> Iterable[Finding]:
    """Findings about norms that somebody may have clipped before they were measured."""
    if record.clip_ratio is None and record.pinned_share() >= 0.5:
        yield Finding(
            "clip-unseen",
            "info",
            f"{100 * record.pinned_share():.0f} % of the norms are {record.largest:.5g} to four digits: the gradients "
            f"were clipped before they were measured, so this is the norm after the clip.",
            {"norm_max": record.largest, "share": record.pinned_share()},
            "clip with self.clip_gradients(optimizer, gradient_clip_val=..., gradient_clip_algorithm='norm')",
        )


def judge_finite(records: Iterable[GradientRecord], trainer: Any) -> Iterable[Finding]:
    """Findings about norms that are not finite; with a gradient scaler it reads its factor.

    Where a guard leaves such steps out, they are for information: the guard decides what is an alarm.
    """
    records, scaler = list(records), scaler_of(trainer)
    guarded = any(getattr(callback, "leaves_out_non_finite", False) for callback in trainer.callbacks)
    skips, steps = sum(record.non_finite for record in records), sum(record.steps for record in records)
    look = "Trainer(detect_anomaly=True) names the operation"
    if skips and scaler is None:
        yield Finding(
            "gradients-non-finite",
            "info" if guarded else "critical",
            f"the gradient's norm was not finite in {skips} of {steps} optimizer steps of this epoch so far.",
            {"steps": skips, "of": steps},
            f"{'' if guarded else 'NonFiniteGuard leaves such steps out; '}{look}; a lower learning rate",
        )
    elif skips and (scale := float(scaler.get_scale())) < min(1.0, scaler._init_scale):
        yield Finding(
            "gradients-non-finite",
            "critical",
            f"the gradient scaler is at {scale:g} after {skips} skipped steps in this epoch: the gradients are not "
            f"finite without any factor.",
            {"scale": scale, "skips": skips},
            f"Trainer(precision='bf16-mixed'), or NonFiniteGuard; {look}",
        )


def scaler_of(trainer: Any) -> Any:
    """The gradient scaler of 16-mixed; None elsewhere."""
    return getattr(trainer.precision_plugin, "scaler", None)


def scaled_clip() -> Finding:
    """A clip on gradients that still carry the scaler's factor."""
    return Finding(
        "clip-of-scaled-gradients",
        "critical",
        "training_step clips gradients that still carry the gradient scaler's factor, so the threshold in force is the "
        "one given over that factor, and changes with it.",
        {},
        "move self.clip_gradients into on_before_optimizer_step(self, optimizer), where they are unscaled, or train "
        "with precision='bf16-mixed'",
    )


def nothing_learned(dead: Mapping[str, str], steps: int) -> Finding:
    """Parameters that learned nothing all epoch."""
    without, zero = ([n for n, why in dead.items() if why == kind] for kind in ("None", "zero"))
    parts = []
    if without:
        parts.append(f"{_some(without)} had no gradient: the loss does not depend on them (unused, detached, no_grad)")
    if zero:
        parts.append(f"{_some(zero)} had exactly zero: a factor of 0 on the way, dead units, or an underflow")
    return Finding(
        "dead-parameters",
        "warning",
        f"{len(dead)} parameters that require a gradient got none in {steps} optimizer steps: {'; '.join(parts)}.",
        {"parameters": len(dead), "without": len(without), "zero": len(zero), "first": next(iter(dead))},
        "use them in the loss, or take them from the optimizer (requires_grad_(False)); GradientReachCheck tells which "
        "loss reaches which module",
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
