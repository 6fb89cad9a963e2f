r"""How difficulty d in [0, 1] changes the noise that training sees; at d = 1 all are t uniform in [eps, 1], weight 1.

==============  ======================================================================================================
`truncate`      t up to the share d of its range: a part of the loss's integral, weight d
`mixture`       (1 - d) of the times below `t_easy`, d everywhere; importance weights keep the objective what it is
`power`         :math:`t = u^{1 + b (1 - d)}`: small times more often
`sigma_scale`   sigma and its rate times d, in corruption, conditioning and weight alike
`beta`          mask rates from Beta(`a`, `b`) with 1 - d and uniform with d
`corrupt_only`  the post-mortem's: sigma times d in the corruption, while weight and conditioning keep sigma. With masks
                it weighs mask rates anew; with the uniform graph it trains a wrong score. Its value is no bound
==============  ======================================================================================================

Nothing here makes one loss comparable with that of another d: compare with `trivial_losses`, or at d = 1.

Sources: Bengio et al. 2009 (curricula end at the target); Hayes et al. 2025 (ESM3: 80 % Beta(3, 9), 20 % uniform);
Kim et al. 2025 (arXiv:2403.10348: high noise is the easy end for Gaussian diffusion, hence `order`).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.families.proteins.diffusion.noise import Noise, minus_log
from stablelit.families.proteins.diffusion.randomness import RandomSource, uniform
from stablelit.families.proteins.diffusion.time_sampling import times
from stablelit.functional.schedules import check_flag, check_number

MODES = ("truncate", "mixture", "power", "sigma_scale", "beta", "corrupt_only")
ORDERS = ("easy_first", "hard_first")
_SCALES_SIGMA = ("sigma_scale", "corrupt_only")
_MAY_BE_WEIGHTED = ("power", "beta")
_TABLE = 2048


@dataclass(frozen=True)
class NoiseDraw:
    r"""The noise of a batch, each ``(B,)``.

    Args:
        t: time.
        corruption_sigma: at which to corrupt.
        sigma: of which the model is told and by which its score is weighed; another only with `corrupt_only`.
        rate: :math:`\sigma'`.
        weight: by which the sequence's loss is multiplied.
        replayed: bool, sequences at full difficulty whatever d is.
    """

    t: Tensor
    corruption_sigma: Tensor
    sigma: Tensor
    rate: Tensor
    weight: Tensor
    replayed: Tensor


@dataclass(frozen=True)
class NoiseCurriculum:
    """The noise of training at a difficulty.

    Args:
        mode: a name in `MODES`.
        order: `easy_first` begins with little noise, `hard_first` with much; the latter is not for modes that scale
            sigma.
        replay: share of the sequences that are always drawn at d = 1, in [0, 1].
        eps: smallest time, in [0, 1).
        t_easy: of `mixture`, the share of the range that is easy, in (0, 1].
        bias: of `power`, at least 0; the exponent at d = 0 is 1 + bias.
        a: of `beta`, at least 1.
        b: of `beta`, at least 1.
        importance_weights: for `power` and `beta`: weights that keep the objective that of d = 1.

    Raises:
        ConfigurationError: an unknown mode or order, a number outside its range, an order or weights that the mode
            cannot have.
    """

    mode: str = "truncate"
    order: str = "easy_first"
    replay: float = 0.0
    eps: float = 1e-3
    t_easy: float = 0.3
    bias: float = 2.0
    a: float = 3.0
    b: float = 9.0
    importance_weights: bool = False

    def __post_init__(self) -> None:
        owner = type(self).__name__
        for name, known in (("mode", MODES), ("order", ORDERS)):
            value = getattr(self, name)
            if value not in known:
                raise bad_argument(owner, name, value, ", ".join(known), did_you_mean(str(value), known))
        check_number(owner, "replay", self.replay, at_least=0.0, at_most=1.0)
        times(torch.zeros(()), self.eps)
        check_number(owner, "t_easy", self.t_easy, above=0.0, at_most=1.0)
        check_number(owner, "bias", self.bias, at_least=0.0)
        check_number(owner, "a", self.a, at_least=1.0)
        check_number(owner, "b", self.b, at_least=1.0)
        if self.order == "hard_first" and self.mode in _SCALES_SIGMA:
            raise bad_argument(
                owner, "order", self.order, f"easy_first with mode={self.mode}, which only takes noise away"
            )
        if check_flag(owner, "importance_weights", self.importance_weights) and self.mode not in _MAY_BE_WEIGHTED:
            raise bad_argument(
                owner,
                "importance_weights",
                True,
                f"False with mode={self.mode}, whose weights are fixed (True with {', '.join(_MAY_BE_WEIGHTED)})",
            )

    def draw(self, difficulty: float | Tensor, u: Tensor, noise: Noise, generator: RandomSource) -> NoiseDraw:
        """The noise of a batch at a difficulty.

        Args:
            difficulty: d in [0, 1]; above 0 with `sigma_scale`. A tensor is taken as it is.
            u: ``(B,)`` uniform in [0, 1), see `sample_uniform`.
            noise: the schedule.
            generator: which sequences are replayed; not asked where `replay` is 0.

        Raises:
            ConfigurationError: a number outside [0, 1].
        """
        if not isinstance(difficulty, Tensor):
            check_difficulty("NoiseCurriculum", self.mode, difficulty)
        if self.replay == 0.0:
            return self.at(difficulty, u, noise, torch.zeros_like(u, dtype=torch.bool))
        # numbers of their own: u decides the time, and a replay that depended on it would favour times
        return self.at(difficulty, u, noise, uniform(tuple(u.shape), generator, u.device) < self.replay)

    def at(self, d: float | Tensor, u: Tensor, noise: Noise, replayed: Tensor) -> NoiseDraw:
        """`draw` with the replayed sequences given, ``(B,)`` bool, and d unchecked."""
        share, weight = self._share(d, u)
        if self.order == "hard_first":
            share = 1 - share
        share, weight = torch.where(replayed, u, share), torch.where(replayed, 1.0, weight)
        if self.mode == "beta":
            return self._by_mask_rate(share, weight, noise, replayed)
        t = times(share, self.eps)
        sigma, rate = noise.sigma(t), noise.rate(t)
        factor = torch.where(replayed, 1.0, torch.ones_like(u) * d)
        if self.mode == "sigma_scale":
            sigma, rate = sigma * factor, rate * factor
        corruption = sigma * factor if self.mode == "corrupt_only" else sigma
        return NoiseDraw(t, corruption, sigma, rate, weight, replayed)

    def _share(self, d: float | Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """The share of the range of times (of mask rates with `beta`) that u falls on, and its weight."""
        one = torch.ones_like(u)
        if self.mode == "truncate":
            return u * d, one * d
        if self.mode == "mixture":
            easy_density = (1 - d) / self.t_easy + d
            easy_mass = easy_density * self.t_easy
            is_easy = u < easy_mass
            beyond = self.t_easy + (u - easy_mass) / (one * d).clamp(min=1e-12)
            share = torch.where(is_easy, u / easy_density, beyond).clamp(max=1.0)
            return share, torch.where(is_easy, one / easy_density, 1 / (one * d).clamp(min=1e-12))
        if self.mode == "power":
            exponent = 1 + self.bias * (1 - d)
            weight = exponent * u ** (exponent - 1) if self.importance_weights else one
            return u**exponent, weight
        if self.mode == "beta":
            return self._beta_share(d, u)
        return u, one

    def _beta_share(self, d: float | Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        grid = torch.linspace(0, 1, _TABLE + 1, dtype=torch.float64, device=u.device)
        cumulative = (1 - d) * _beta_cumulative(self.a, self.b, u.device) + d * grid
        place = torch.searchsorted(cumulative, u.double(), right=True).clamp(1, _TABLE)
        low = cumulative[place - 1]
        mass = (cumulative[place] - low).clamp(min=1e-300)
        share = (grid[place - 1] + (u - low) / mass / _TABLE).clamp(0, 1)
        # the table's own density, so that weights fit what is drawn
        weight = 1 / (mass * _TABLE) if self.importance_weights else torch.ones_like(share)
        return share.to(u.dtype), weight.to(u.dtype)

    def _by_mask_rate(self, share: Tensor, weight: Tensor, noise: Noise, replayed: Tensor) -> NoiseDraw:
        r"""The mask rate for a clock: :math:`\sigma = -\log(1 - \lambda)`, :math:`d\sigma/d\lambda = e^\sigma`."""
        wide = share.double()
        lowest, highest = (noise.mask_probability(torch.full_like(wide, t)) for t in (self.eps, 1.0))
        width = highest - lowest
        kept = (1 - highest) + width * (1 - wide)
        sigma = minus_log(kept, lowest + width * wide)
        # as with `times`, no factor makes up for what eps leaves out
        rate = width / (1 - self.eps) / kept
        t, sigma, rate = (x.to(share.dtype) for x in (noise.t_of(sigma), sigma, rate))
        return NoiseDraw(t, sigma, sigma, rate, weight, replayed)


def check_difficulty(owner: str, mode: str, difficulty: object) -> float:
    """A number in [0, 1], above 0 where sigma itself is scaled.

    Raises:
        ConfigurationError: anything else.
    """
    d = check_number(owner, "difficulty", difficulty, at_least=0.0, at_most=1.0)
    if d == 0 and mode == "sigma_scale":
        raise bad_argument(owner, "difficulty", difficulty, "a number above 0 with mode=sigma_scale: no noise, no loss")
    return d


def build_noise_curriculum(
    settings: str | Mapping[str, Any] | NoiseCurriculum | None, owner: str = "build_noise_curriculum"
) -> NoiseCurriculum:
    """A curriculum from a mode's name or a mapping of settings; None is `truncate`.

    Raises:
        ConfigurationError: an unknown mode or setting (near ones given), a setting outside its range.
    """
    if isinstance(settings, NoiseCurriculum):
        return settings
    if settings is None or isinstance(settings, str):
        return NoiseCurriculum(mode=settings or "truncate")
    known = list(inspect.signature(NoiseCurriculum).parameters)
    for key in settings:
        if key not in known:
            raise ConfigurationError(
                f"{owner}: the noise curriculum has no setting {key!r}. {did_you_mean(str(key), known)} "
                f"Allowed: {', '.join(known)}."
            )
    return NoiseCurriculum(**settings)


@lru_cache(maxsize=8)
def _beta_cumulative(a: float, b: float, device: torch.device) -> Tensor:
    """Cumulative Beta(a, b) on an even grid of [0, 1], by the trapezium rule."""
    v = torch.linspace(0, 1, _TABLE + 1, dtype=torch.float64, device=device)
    density = v ** (a - 1) * (1 - v) ** (b - 1)
    cumulative = torch.cat([density[:1] * 0, torch.cumulative_trapezoid(density)])
    return cumulative / cumulative[-1]
