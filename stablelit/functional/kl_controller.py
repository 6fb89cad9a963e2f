"""A way to hold a KL term, with its settings: what is asked of `stablelit.functional.kl` step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.functional.kl import (
    ControllerState,
    Number,
    initial_state,
    log_pi_step,
    multiplier_step,
    smooth,
    unless_non_finite,
)
from stablelit.functional.schedules import check_number

KLMode = Literal["weight", "target", "capacity", "hinge"]


@dataclass(frozen=True)
class KLController:
    """One of the ways to hold a KL term, with its settings; the state is passed in and out.

    Args:
        mode: `weight` (the weight is given), `target` (`log_pi_step`), `capacity` or `hinge` (`multiplier_step`).
        kl_target: nats per sample, for every mode but `weight`.
        max_weight: the largest weight.
        min_weight: the smallest weight of `target`.
        proportional: gain on the relative error, `target`.
        integral: gain on its sum, a step.
        smoothing: decay of the moving average of the KL, in [0, 1).
        gamma: immediate part of `capacity` and `hinge`.
        owner: for messages.

    Raises:
        ConfigurationError: an unknown mode, a `kl_target` that is missing or has no effect, a number out of range.
    """

    mode: KLMode
    kl_target: float | None = None
    max_weight: float = 50.0
    min_weight: float = 1e-4
    proportional: float = 0.5
    integral: float = 0.03
    smoothing: float = 0.9
    gamma: float = 1.0
    owner: str = "KLController"

    def __post_init__(self) -> None:
        modes = get_args(KLMode)
        if self.mode not in modes:
            raise bad_argument(self.owner, "mode", self.mode, ", ".join(modes), did_you_mean(str(self.mode), modes))
        if self.mode == "weight" and self.kl_target is not None:
            raise ConfigurationError(
                f"{self.owner}: kl_target={self.kl_target!r} has no effect in mode='weight', which bounds the weight "
                f"and not the KL. Use mode='target' (hold it there) or mode='hinge' (never above), or leave it out."
            )
        if self.mode != "weight":
            if self.kl_target is None:
                raise ConfigurationError(
                    f"{self.owner}: mode={self.mode!r} needs kl_target, the KL to hold in nats per sample."
                )
            check_number(self.owner, "kl_target", self.kl_target, above=0.0)
        check_number(self.owner, "max_weight", self.max_weight, above=0.0)
        if self.mode == "target":
            check_number(self.owner, "min_weight", self.min_weight, above=0.0, at_most=self.max_weight)
        check_number(self.owner, "proportional", self.proportional, at_least=0.0, at_most=10.0)
        check_number(self.owner, "integral", self.integral, above=0.0, at_most=1.0)
        check_number(self.owner, "gamma", self.gamma, at_least=0.0)
        if check_number(self.owner, "smoothing", self.smoothing, at_least=0.0) >= 1.0:
            raise bad_argument(self.owner, "smoothing", self.smoothing, "a number in [0, 1)")

    def initial(self, weight: float, device: torch.device | str = "cpu") -> ControllerState:
        """The state before the first KL, with `weight` in force."""
        if self.mode == "target":
            return initial_state(math.log(max(weight, self.min_weight)), weight, device)
        return initial_state(weight if self.mode == "capacity" else 0.0, weight, device)

    def going_on(self, state: ControllerState, mode: str, first: float) -> ControllerState:
        """A state that another controller has come to: no weight beyond this cap, no integral in other units.

        Args:
            state: of floats.
            mode: of the controller that it is of.
            first: the weight to begin with, where the mode is another one.
        """
        cap = self.max_weight
        if mode != self.mode:
            return self.initial(min(max(first, self.min_weight), cap))._replace(kl=state.kl)
        return state._replace(weight=min(max(float(state.weight), -cap), cap))

    def step(self, state: ControllerState, kl: Number, moving: float) -> ControllerState:
        """The state after the KL of one optimizer step.

        Args:
            state: as it was.
            kl: nats per sample; a value that is not finite changes nothing.
            moving: what a warm-up moves: the target of `target` and `capacity`, the base weight of `hinge`, the
                weight of `weight`.
        """
        if self.mode == "weight":
            given = ControllerState(smooth(state.kl, kl, self.smoothing), state.integral, state.weight)
            return unless_non_finite(state, given, kl)._replace(weight=state.weight * 0.0 + moving)
        if self.mode == "target":
            return log_pi_step(
                state,
                kl,
                moving,
                proportional=self.proportional,
                integral=self.integral,
                decay=self.smoothing,
                min_weight=self.min_weight,
                max_weight=self.max_weight,
            )
        hinge = self.mode == "hinge"
        assert self.kl_target is not None
        return multiplier_step(
            state,
            kl,
            self.kl_target if hinge else moving,
            moving if hinge else 0.0,
            two_sided=not hinge,
            gamma=self.gamma,
            rate=self.integral,
            decay=self.smoothing,
            max_weight=self.max_weight,
        )

    def saturated(self, state: ControllerState) -> Literal["max_weight", "min_weight"] | None:
        """Which limit keeps the KL a quarter or more away from where it should be, if one does."""
        if self.kl_target is None:
            return None
        kl, weight = float(state.kl), float(state.weight)
        if kl > 1.25 * self.kl_target and weight >= 0.999 * self.max_weight:
            return "max_weight"
        if self.mode == "hinge" or kl >= 0.75 * self.kl_target:
            return None
        lowest = self.min_weight if self.mode == "target" else -self.max_weight
        return "min_weight" if weight <= lowest + 0.001 * abs(lowest) else None
