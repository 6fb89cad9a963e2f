"""Everything that predicted directions are measured by, beside what needs no network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from stablelit.errors import bad_argument
from stablelit.families.neutrinos.metrics.angular_resolution import AngularResolution
from stablelit.families.neutrinos.metrics.direction_bias import DirectionBias
from stablelit.families.neutrinos.metrics.kappa_calibration import KappaCalibration
from stablelit.families.neutrinos.metrics.mean_angular_error import MeanAngularError
from stablelit.families.neutrinos.metrics.pulse_count import AngularErrorByPulseCount
from stablelit.findings import Finding

LEAST_EVENTS = 100
"""Fewer say nothing about a bias, and no finding is made of them."""
COLLAPSED, SPREAD = 0.9, 0.2
NO_BETTER = 0.99


class DirectionMetrics(nn.Module):
    """All metrics of directions at once; under DDP they are summed over ranks in `compute`, and nowhere else.

    `compute` returns ``angular_error_mean_rad``, ``angular_error_median_rad``, ``angular_error_68_rad`` and
    ``angular_error_90_rad``; ``coverage_50``, ``coverage_68``, ``coverage_90``, ``kappa_ks``, ``pull_width``,
    ``log10_kappa_median`` and ``log10_kappa_99``; ``z_bias``, ``resultant_length``, ``resultant_length_true`` and
    ``events``, how many; and, where they are known, ``line_fit_error_mean_rad`` and ``constant_error_mean_rad``.

    Args:
        constant_direction: ``(3,)`` the best constant guess, see `line_fit.constant_direction`; None has no comparison
            with it until `compare_with_constant` is called.

    Raises:
        ConfigurationError: a constant direction that is not a unit vector.
    """

    constant: Tensor

    def __init__(self, constant_direction: np.ndarray | Tensor | None = None) -> None:
        super().__init__()
        self.angular_error = MeanAngularError()
        self.resolution = AngularResolution()
        self.calibration = KappaCalibration()
        self.bias = DirectionBias()
        self.pulse_count = AngularErrorByPulseCount()
        self.line_fit_error = MeanAngularError()
        self.constant_error = MeanAngularError()
        self.register_buffer("constant", torch.zeros(3), persistent=False)
        self._has_constant = False
        if constant_direction is not None:
            self.compare_with_constant(constant_direction)

    def compare_with_constant(self, direction: np.ndarray | Tensor) -> None:
        """Takes ``(3,)`` as the constant guess to compare with from now on.

        Raises:
            ConfigurationError: not a unit vector.
        """
        given = torch.as_tensor(direction, dtype=torch.float64)
        if given.shape != (3,) or not abs(float(given.norm()) - 1.0) < 1e-3:
            raise bad_argument(type(self).__name__, "constant_direction", direction, "a unit vector (3,)")
        self.constant = given.to(self.constant)
        self._has_constant = True

    def update(self, f: Tensor, t: Tensor, pulse_count: Tensor | None = None, line_fit: Tensor | None = None) -> None:
        """Adds events.

        Args:
            f: ``(B, 3)`` predictions, kappa = |f|.
            t: ``(B, 3)`` unit vectors.
            pulse_count: ``(B,)`` pulses of each event.
            line_fit: ``(B, 3)`` directions of the line fit; zeros, where it has none, count as a random guess.

        Raises:
            DataError: other shapes.
        """
        for metric in (self.angular_error, self.resolution, self.calibration, self.bias):
            metric.update(f, t)
        # what is not given is added as no events: a metric without an update warns, and ranks sum the same things
        none = t[:0]
        if pulse_count is not None:
            self.pulse_count.update(f, t, pulse_count)
        else:
            self.pulse_count.update(none, none, none[:, 0])
        if line_fit is not None:
            self.line_fit_error.update(line_fit, t)
        else:
            self.line_fit_error.update(none, none)
        if self._has_constant:
            self.constant_error.update(self.constant.expand_as(t), t)
        else:
            self.constant_error.update(none, none)

    def compute(self) -> dict[str, Tensor]:
        """The numbers of the class, ``()`` float64 each."""
        found = {"angular_error_mean_rad": self.angular_error.compute()}
        for metric in (self.resolution, self.calibration, self.bias):
            found.update(metric.compute())
        baselines = {"line_fit_error_mean_rad": self.line_fit_error, "constant_error_mean_rad": self.constant_error}
        found.update({name: value for name, m in baselines.items() if not (value := m.compute()).isnan()})
        return found

    def by_pulse_count(self) -> dict[str, Tensor]:
        """``least_pulses``, ``count``, ``mean_rad``, ``median_rad`` of each class of pulse counts; see there."""
        return self.pulse_count.compute()

    def reset(self) -> None:
        """Forgets the events."""
        for metric in self.children():
            metric.reset()  # type: ignore[operator]


def direction_findings(scores: Mapping[str, float | Tensor]) -> list[Finding]:
    """Predictions that are not finite, have become one direction, or are no better than one.

    Of fewer than a hundred events only the first is said. Of a model that has just begun to learn, all are no news.

    Args:
        scores: what `DirectionMetrics.compute` returned.
    """
    values = {name: float(value) for name, value in scores.items()}
    n_events = int(values["events"])
    mean = values["angular_error_mean_rad"]
    constant = values.get("constant_error_mean_rad", float("inf"))
    length, true_length = values["resultant_length"], values["resultant_length_true"]
    numbers: dict[str, float | int | str] = {"events": n_events, "angular_error_mean_rad": mean}
    if n_events and mean != mean:
        return [
            Finding(
                "directions-not-finite",
                "critical",
                f"Of {n_events} predicted directions some are NaN or infinite.",
                {"events": n_events},
                "model.learning_rate, smaller",
            )
        ]
    if n_events < LEAST_EVENTS:
        return []
    found = []
    if length > COLLAPSED and true_length < SPREAD:
        found.append(
            Finding(
                "directions-collapsed",
                "critical",
                f"All predictions are nearly one direction: their mean has length {length:.3f}, that of the truths "
                f"{true_length:.3f} (z is {values['z_bias']:+.3f} too large).",
                {**numbers, "resultant_length": length, "resultant_length_true": true_length},
                "model.learning_rate, smaller",
            )
        )
    if mean > NO_BETTER * constant:
        found.append(
            Finding(
                "no-better-than-constant",
                "warning",
                f"The mean angular error is {mean:.4f} rad; the training set's mean direction, for every event, scores "
                f"{constant:.4f} rad.",
                {**numbers, "constant_error_mean_rad": constant},
                "more epochs or events; model.learning_rate; whether the truths belong to their events",
            )
        )
    return found
