"""Tests for a noisy curve: does it fall, how fast, is it flat, has it jumped, does it swing.

They look at block medians (a dozen numbers), so that a judgement costs microseconds whatever the length of the run, and
at one estimate of the noise, so that nothing depends on the scale of the loss. The Mann-Kendall test of direction and
the noise of a series are those of `functional.trends`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from stablelit.functional.medians import SIGMA_PER_MAD, Floats, median_of, medians_of_rows
from stablelit.functional.trends import mann_kendall_z, noise_of

# the median of normal noise is noisier than its mean: its variance is pi/2 times as large
_MEDIAN_VARIANCE = math.pi / 2
_LONGEST_LAG = 32
_LONGEST_BLOCK = 128


def autocorrelation_time(values: Floats) -> float:
    r"""How many neighbours say the same, :math:`\tau = \frac12 + \sum_{l=1}^{M} \rho_l`; 0.5 where all are independent.

    Of the residuals about a parabola, summed up to the first l > 6 tau (Sokal's window) or rho <= 0. The variance of a
    mean of n is :math:`2 \tau \sigma^2 / n`.

    Source: Sokal 1997, Monte Carlo methods in statistical mechanics, section 3.

    Args:
        values: (n,), finite.
    """
    n = len(values)
    if n < 16:
        return 0.5
    # a parabola takes the trend away without following the noise; on this grid its three parts are orthogonal
    x = np.linspace(-1.0, 1.0, n)
    bow = x * x - float(x @ x) / n
    residual = values - values.mean()
    residual = residual - x * (float(residual @ x) / float(x @ x)) - bow * (float(residual @ bow) / float(bow @ bow))
    power = float(residual @ residual)
    if power <= 0.0:
        return 0.5
    tau = 0.5
    for lag in range(1, min(_LONGEST_LAG, n // 4)):
        correlation = float(residual[:-lag] @ residual[lag:]) / power
        # what is beyond the first lag without correlation is the parabola's doing
        if correlation <= 0.0 or lag > 6.0 * tau:
            break
        tau += correlation
    return tau


def theil_sen(values: Floats, confidence_z: float = 1.96) -> tuple[float, float, float]:
    r"""The median slope per point between all pairs, and Sen's interval about it.

    .. math::
        b = \mathrm{med}_{i<k} \frac{x_k - x_i}{k - i}, \qquad
        \text{ranks } \tfrac12 (N \mp z \sqrt{n (n-1) (2n+5) / 18}) \text{ of the } N = n(n-1)/2 \text{ slopes}

    Source: Sen 1968, JASA 63, 1379, equation 2.6.

    Args:
        values: (n,), at equal distances.
        confidence_z: 1.96 is an interval of 95 %.

    Returns:
        Slope, lower and upper end; three zeros for fewer than two values.
    """
    n = len(values)
    if n < 2:
        return 0.0, 0.0, 0.0
    later, earlier = _pairs(n)
    slopes = np.sort((values[later] - values[earlier]) / (later - earlier))
    spread = confidence_z * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    # as many slopes below the lower end as above the upper one
    outside = max(0, math.floor((len(slopes) - spread) / 2) - 1)
    return median_of(slopes), float(slopes[outside]), float(slopes[-1 - outside])


@lru_cache(maxsize=64)
def _pairs(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    earlier, later = np.triu_indices(n, 1)
    return later, earlier


def cusum(z: Floats, slack: float = 0.5) -> float:
    r"""The one-sided cumulative sum :math:`S_t = \max(0, S_{t-1} + z_t - k)` at its end: high after a lasting rise.

    Args:
        z: (n,), standardised and independent.
        slack: k, half the shift that is looked for.
    """
    total = np.cumsum(z - slack)
    return float(total[-1] - min(0.0, float(total.min()))) if len(total) else 0.0


def cusum_run_length(threshold: float, slack: float = 0.5) -> float:
    r"""Steps until `cusum` passes a threshold by chance: :math:`(e^{2kh'} - 1 - 2kh') / 2k^2`, :math:`h' = h + 1.166`.

    Source: Siegmund 1985, Sequential Analysis, section 2.6.
    """
    edge = 2.0 * slack * (threshold + 1.166)
    return (math.exp(edge) - 1.0 - edge) / (2.0 * slack * slack)


def is_flat(values: Floats, margin: float, noise: float = 0.0) -> bool:
    r"""Whether a curve is *shown* to be flat: two one-sided tests at 5 %, not the absence of a trend.

    Both ends of Sen's interval of the slope, times the length, lie within the margin, and so does the standard error
    of the change between the halves where the noise of a value is known.

    Source: Schuirmann 1987, J. Pharmacokin. Biopharm. 15, 657 (two one-sided tests).

    Args:
        values: (n,), block medians.
        margin: change over the whole length that does not matter, above 0.
        noise: standard error of a value; 0 is not known.
    """
    n = len(values)
    if n < 4 or margin <= 0.0:
        return False
    _, low, high = theil_sen(values, 1.645)
    if max(abs(low), abs(high)) * (n - 1) >= margin:
        return False
    half = n // 2
    change = abs(float(values[half:].mean() - values[:half].mean()))
    return change + 1.645 * 2.0 * noise / math.sqrt(n) < margin


def sign_change_rate(values: Floats) -> float:
    """The share of neighbouring differences that turn: 2/3 for independent noise, 0 for a trend, 1 for a zigzag."""
    steps = np.diff(values)
    steps = steps[steps != 0.0]
    return float((steps[1:] * steps[:-1] < 0.0).mean()) if len(steps) > 1 else 0.0


def spike_z(values: Floats, at: int, window: int = 64) -> float:
    r"""How far one value is above the median of those before it, in robust standard deviations.

    .. math:: z_t = (x_t - \mathrm{med}_W) / \max(1.4826\,\mathrm{MAD}_W, 10^{-3} |\mathrm{med}_W|)

    W are the `window` values before t. 0 where there are fewer than 16 of them.

    Args:
        values: (n,), finite.
        at: t, counted from the start.
        window: values looked back on.
    """
    if min(at, window) < 16:
        return 0.0
    middle, unit = _usual(values, at, window)
    return (float(values[at]) - middle) / unit


def comes_back(values: Floats, at: int, window: int = 64, patience: int = 16) -> bool | None:
    """Whether a series is back within four robust standard deviations some steps after a spike; None is too early.

    Args:
        values: (n,), finite.
        at: where the spike is.
        window: values before it that say what is usual.
        patience: steps that may pass.
    """
    after = values[at + 1 : at + 1 + patience]
    middle, unit = _usual(values, at, window)
    if len(after) and bool((after <= middle + 4.0 * unit).any()):
        return True
    return False if len(after) == patience else None


def _usual(values: Floats, at: int, window: int) -> tuple[float, float]:
    """The median of those before a value, and the unit in which it is said how far off the value is."""
    before = values[max(0, at - window) : at]
    middle = median_of(before)
    deviation = SIGMA_PER_MAD * median_of(np.abs(before - middle))
    return middle, max(deviation, 1e-3 * abs(middle), float(np.finfo(np.float64).tiny))


@dataclass(frozen=True)
class Course:
    """A curve in a dozen numbers: where it began, where it stands, and how well these are known.

    Args:
        points: finite values.
        start: the first value: the level before anything was learned.
        start_noise: standard deviation of a value near the start.
        late: median of the last quarter.
        late_noise: its standard error.
        blocks: medians of (at most) twelve blocks of equal length, oldest first.
        block_noise: standard error of one of them.
        noise: standard deviation of one value.
        tau: the autocorrelation time in points.
        first_step: of the curve.
        last_step: of the curve.
    """

    points: int
    start: float
    start_noise: float
    late: float
    late_noise: float
    blocks: Floats
    block_noise: float
    noise: float
    tau: float
    first_step: float
    last_step: float

    @property
    def drop(self) -> float:
        """How far it has fallen since the start."""
        return self.start - self.late

    @property
    def drop_noise(self) -> float:
        """The standard error of that."""
        return math.hypot(self.start_noise, self.late_noise)

    @cached_property
    def trend(self) -> float:
        """Mann-Kendall's z of the blocks: below -3 it falls."""
        return mann_kendall_z(self.blocks.tolist())

    @property
    def best(self) -> float:
        """The lowest block."""
        return float(self.blocks.min())


def course_of(steps: Floats, values: Floats, blocks: int = 12) -> Course:
    """The course of a curve.

    Blocks are at least two autocorrelation times long where that leaves six or more of them.

    Args:
        steps: (n,), ascending.
        values: (n,), finite, at least one.
        blocks: at most.
    """
    n = len(values)
    # noise and correlation are those of now: at most the last 512, so that a long run costs what a short one does
    recent = values[-min(n, max(64, min(512, n // 2))) :]
    noise, tau = noise_of(recent), autocorrelation_time(recent)
    count = min(blocks, n)
    while count > 6 and n // count < 2.0 * tau:
        count -= 1
    length = n // count
    table = values[n - count * length :].reshape(count, length)
    if length > 2 * _LONGEST_BLOCK:
        # of a long run the median of means: it costs a tenth
        table = table[:, length % _LONGEST_BLOCK :].reshape(count, _LONGEST_BLOCK, -1).mean(2)
    medians = medians_of_rows(table)
    tail = max(1, n // 4)
    return Course(
        points=n,
        start=float(values[0]),
        start_noise=noise_of(values[:64]),
        late=median_of(medians[-max(1, count // 4) :]) if tail > 4096 else median_of(values[-tail:]),
        late_noise=_error_of_median(noise, tau, tail),
        blocks=medians,
        block_noise=_error_of_median(noise, tau, length),
        noise=noise,
        tau=tau,
        first_step=float(steps[0]),
        last_step=float(steps[-1]),
    )


def _error_of_median(noise: float, tau: float, n: int) -> float:
    return noise * math.sqrt(max(1.0, 2.0 * tau) * (_MEDIAN_VARIANCE if n > 2 else 1.0) / n)
