r"""From a graph that may have cycles to one that has none: how the constraint is tightened while training.

================================  ==================================================================================
`path`                            minimise :math:`\mu\,(L + \lambda \|W\|_1) + h_s(W)` for falling :math:`\mu`; as
                                  :math:`\mu \to 0` the minimiser is acyclic (Bello et al. 2022, algorithm 1)
`augmented_lagrangian`            minimise :math:`L + \lambda \|W\|_1 + \alpha h + \frac{\rho}{2} h^2`; at the end of
                                  a round :math:`\alpha \leftarrow \alpha + \rho h`, and :math:`\rho` rises tenfold
                                  where h did not fall to a quarter (Zheng et al. 2018, algorithm 1)
`fixed`                           minimise :math:`\lambda_r L + \lambda_s \|W\|_1 + \lambda_a h`, whatever comes of it
================================  ==================================================================================

All of its state is in buffers, so that a resumed run is where it was. Stages are counted in optimizer steps; shares of
the planned run are resolved once.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.functional.schedules import check_number, parse_duration

PathKind = Literal["path", "augmented_lagrangian", "fixed"]
PATH_KINDS: tuple[str, ...] = get_args(PathKind)

_OWNER = "ConstraintPath"
# NOTEARS' settings, as in its code: github.com/xunzheng/notears, linear.py
RHO_GROWTH, SUFFICIENT_FALL, RHO_LARGEST = 10.0, 0.25, 1e16
# NOTEARS' 1e-8 is for L-BFGS; Adam at a constant rate stays at 1e-6 to 1e-5, and rho would rise for ever
H_TOLERANCE = 1e-5


class ConstraintPath(nn.Module):
    """The weights of the objective's terms, and how they change.

    Args:
        kind: see the module's table.
        mu: of `path`, one a stage, falling.
        s: of `path` with the log-determinant, one a stage, or one for all.
        stage_lengths: of `path`, one a stage, or one for all: optimizer steps or a share of the run (``"0.16dur"``).
            The last stage goes on to the end of the run. None shares the run out evenly, twice as much for the last.
        round_length: of `augmented_lagrangian`: optimizer steps or a share of the run.

    Raises:
        ConfigurationError: an argument out of range, lists of different lengths.
    """

    stage: Tensor
    steps: Tensor
    ends: Tensor
    mu: Tensor
    s: Tensor
    alpha: Tensor
    rho: Tensor
    last_h: Tensor

    def __init__(
        self,
        kind: PathKind = "path",
        mu: Sequence[float] = (10.0, 1.0, 0.1, 0.01),
        s: float | Sequence[float] = (1.0, 0.9, 0.8, 0.7),
        stage_lengths: int | str | Sequence[int | str] | None = None,
        round_length: int | str = "0.05dur",
    ) -> None:
        super().__init__()
        if kind not in PATH_KINDS:
            raise bad_argument(_OWNER, "kind", kind, ", ".join(PATH_KINDS))
        self.kind = kind
        self.mus = _numbers("mu", mu)
        if any(later > sooner for sooner, later in zip(self.mus, self.mus[1:], strict=False)):
            raise bad_argument(_OWNER, "mu", mu, "numbers above 0 that do not rise")
        stages = len(self.mus)
        self.scales = _numbers("s", [s] * stages if isinstance(s, int | float) else s)
        if len(self.scales) != stages:
            raise bad_argument(_OWNER, "s", s, f"one number, or one for each of the {stages} stages of mu")
        if stage_lengths is None:
            stage_lengths = [f"{1 / (stages + 1)}dur"] * stages
        elif isinstance(stage_lengths, int | str):
            stage_lengths = [stage_lengths] * stages
        if len(stage_lengths) != stages:
            raise bad_argument(_OWNER, "stage_lengths", list(stage_lengths), f"one for each of the {stages} stages")
        self.lengths = [_length("stage_lengths", length) for length in stage_lengths]
        self.round_length = _length("round_length", round_length)
        self.register_buffer("stage", torch.tensor(0))
        self.register_buffer("steps", torch.tensor(0))
        # the step after which each stage, or round, is over; empty until the run's length is known
        self.register_buffer("ends", torch.full((stages if kind == "path" else 1,), -1))
        self.register_buffer("mu", torch.tensor(self.mus[0] if kind == "path" else 1.0, dtype=torch.float64))
        self.register_buffer("s", torch.tensor(self.scales[0] if kind == "path" else 1.0, dtype=torch.float64))
        self.register_buffer("alpha", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("rho", torch.tensor(1.0, dtype=torch.float64))
        self.register_buffer("last_h", torch.tensor(math.inf, dtype=torch.float64))

    def restart(self) -> None:
        """Back to the beginning of the path, for a fit that goes on with nothing."""
        fresh = ConstraintPath(self.kind, self.mus, self.scales)  # type: ignore[arg-type]
        for name, buffer in self.named_buffers():
            buffer.copy_(fresh.get_buffer(name))

    @property
    def is_planned(self) -> bool:
        """Whether the stages' lengths are known in steps."""
        return bool(self.ends[0] >= 0)

    @property
    def in_last_stage(self) -> bool:
        """Whether the constraint is as tight as it will be; `fixed` always is."""
        if self.kind == "path":
            return int(self.stage) == len(self.mus) - 1
        return self.kind == "fixed" or float(self.last_h) <= H_TOLERANCE

    def plan(self, total_steps: int | float) -> None:
        """Resolves the lengths, once: a run that is resumed for longer keeps its stages.

        Raises:
            ConfigurationError: a share of a run without a length, or more stages than steps.
        """
        if self.is_planned or self.kind == "fixed":
            return
        lengths = self.lengths if self.kind == "path" else [self.round_length]
        if any(unit == "dur" for _, unit in lengths) and not math.isfinite(total_steps):
            raise ConfigurationError(
                f"{_OWNER}: its stages are shares of the run, and the run has no length. Set trainer.max_epochs or "
                f"trainer.max_steps, or give stage_lengths in optimizer steps."
            )
        counts = [max(1, round(amount * total_steps) if unit == "dur" else int(amount)) for amount, unit in lengths]
        ends = torch.tensor(counts).cumsum(0)
        before_last = int(ends[-2]) if len(ends) > 1 else 0
        # a run of a handful of steps (fast_dev_run, a smoke test) is no path
        if self.kind == "path" and total_steps > len(counts) and before_last >= total_steps:
            raise ConfigurationError(
                f"{_OWNER}: the last of {len(counts)} stages would begin after {before_last} optimizer steps, and "
                f"the run has {total_steps:g}. Train longer, or shorten stage_lengths: an unfinished path leaves "
                f"cycles."
            )
        self.ends.copy_(ends)

    @torch.no_grad()
    def count_step(self, h: Tensor) -> bool:
        """Counts an optimizer step; at the end of a stage or round the weights change.

        Args:
            h: acyclicity before the step, 0-dim.

        Returns:
            Whether the weights have changed.
        """
        self.steps += 1
        if self.kind == "path":
            if int(self.steps) < int(self.ends[self.stage]) or self.in_last_stage or not self.is_planned:
                return False
            self.stage += 1
            self.mu.fill_(self.mus[int(self.stage)])
            self.s.fill_(self.scales[int(self.stage)])
            return True
        if self.kind == "augmented_lagrangian" and self.is_planned and int(self.steps) % int(self.ends[0]) == 0:
            now = float(h)
            if now <= H_TOLERANCE:
                self.last_h.fill_(now)
                return False
            if now > SUFFICIENT_FALL * float(self.last_h):
                self.rho.mul_(RHO_GROWTH).clamp_(max=RHO_LARGEST)
            self.alpha += self.rho * now
            self.last_h.fill_(now)
            self.stage += 1
            return True
        return False

    def constraint_term(self, h: Tensor, lambda_acyclic: Tensor) -> Tensor:
        """What stands in the objective for the constraint."""
        if self.kind == "augmented_lagrangian":
            return self.alpha * h + 0.5 * self.rho * h**2
        return h if self.kind == "path" else lambda_acyclic * h


def path_of(settings: Mapping[str, Any]) -> ConstraintPath:
    """The path of a configuration's mapping.

    Raises:
        ConfigurationError: a setting that it does not have, or out of range.
    """
    known = list(inspect.signature(ConstraintPath).parameters)
    for name in settings:
        if name not in known:
            raise ConfigurationError(
                f"{_OWNER} has no setting {name!r}. {did_you_mean(str(name), known)} Allowed: {', '.join(known)}."
            )
    return ConstraintPath(**settings)


def _numbers(name: str, values: object) -> list[float]:
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise bad_argument(_OWNER, name, values, "a list of numbers above 0")
    return [float(check_number(_OWNER, name, value, above=0.0)) for value in values]


def _length(name: str, length: int | str) -> tuple[float, str]:
    duration = parse_duration(length, name, _OWNER)
    if duration.unit not in ("st", "dur") or duration.amount == 0:
        raise bad_argument(_OWNER, name, length, "optimizer steps ('500st') or a share of the run ('0.1dur'), above 0")
    return duration.amount, duration.unit
