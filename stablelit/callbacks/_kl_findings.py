"""What KLCapCallback has to say at an epoch's end."""

from __future__ import annotations

from typing import Any

from stablelit.findings import Finding, FindingReporter
from stablelit.functional.kl import ControllerState
from stablelit.functional.kl_controller import KLController


def report_kl_findings(
    reporter: FindingReporter,
    trainer: Any,
    controller: KLController,
    state: ControllerState,
    skipped: int,
    progress: float,
) -> None:
    """Reports a KL that was not finite, and a controller that has nothing left to turn.

    Args:
        reporter: takes the findings.
        trainer: of the run.
        controller: with its settings.
        state: where it stands.
        skipped: optimizer steps whose KL was not finite.
        progress: of the warm-up; before its end a KL away from its target is no news.
    """
    if skipped:
        reporter.report(
            trainer,
            Finding(
                "kl-non-finite",
                "warning",
                f"the KL was not finite in {skipped} optimizer steps; the controller left them out.",
                {"steps": skipped},
                "clamp the log variance to [-30, 20] and compute the KL in float32",
            ),
        )
    limit = controller.saturated(state) if progress >= 1.0 else None
    if limit is None or controller.kl_target is None:
        return
    kl, weight = float(state.kl), float(state.weight)
    remedy = "a larger max_weight" if limit == "max_weight" else "an encoder that can hold more"
    reporter.report(
        trainer,
        Finding(
            "kl-target-out-of-reach",
            "warning",
            f"the KL is {kl:.3g} nats where {controller.kl_target:g} were asked for, and the weight is at its limit "
            f"{weight:.3g} ({limit}).",
            {"kl": kl, "kl_target": controller.kl_target, "weight": weight},
            f"{remedy}, or another kl_target",
        ),
    )
