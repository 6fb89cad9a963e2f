"""What sensors and their lines do to a signal, and which cells then are missing.

In the order of the chain from the sensor to the file, whatever order they are given in; `rate` is a share of cells,
`size` is in standard deviations of the clean column:

| name | settings | what it does | missing |
|---|---|---|---|
| `drift` | size 1 | adds a random walk that ends `size` away (root mean square) | nothing |
| `noise` | size 0.1 | adds white Gaussian noise to every cell | nothing |
| `spikes` | rate, size 8 | adds `size` with a random sign to single cells | nothing |
| `clip` | rate | cuts at the two quantiles outside of which `rate` of the cells lie: an end of range | nothing |
| `stuck` | rate, length 20 | repeats the last value for stretches of `length` rows on average | nothing |
| `mcar` | rate, length 1 | nothing | completely at random, in stretches of `length` rows on average |
| `mar` | rate, slope 2 | nothing | the likelier, the larger one column is that is never missing itself |
| `mnar` | rate, slope 2 | nothing | the likelier, the larger the cell's own value is |

`slope` is the rise of the log-odds of being missing per standard deviation. `rate` of `mar` and `mnar` is the mean over
the columns that may be missing. With `mcar` or `mnar` beside it, `mar` is no longer at random in the strict sense: its
driving column has holes too. A bare number is `size` for drift and noise, and `rate` for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from stablelit.errors import bad_argument, did_you_mean
from stablelit.families.causal.panel import Bools, Floats
from stablelit.functional.schedules import check_number

Settings = dict[str, dict[str, float]]

# what may be set, with the default; the first one is what a bare number means, and has no default where it is a rate
_SETTINGS: dict[str, dict[str, float | None]] = {
    "drift": {"size": 1.0},
    "noise": {"size": 0.1},
    "spikes": {"rate": None, "size": 8.0},
    "clip": {"rate": None},
    "stuck": {"rate": None, "length": 20.0},
    "mcar": {"rate": None, "length": 1.0},
    "mar": {"rate": None, "slope": 2.0},
    "mnar": {"rate": None, "slope": 2.0},
}
_MOST_MISSING = 0.95
_ROWS_FOR_RATE = 2000


class Corrupted(NamedTuple):
    """A signal as it arrives.

    Args:
        values: ``(T, d)``, also where it is missing.
        mask: ``(T, d)`` True where it arrived.
        shares: by name, the share of all cells that were changed or lost; of drift and noise there is none.
    """

    values: Floats
    mask: Bools
    shares: dict[str, float]


def check_corruption(owner: str, corruption: Mapping[str, Any] | None) -> Settings:
    """The settings of every corruption, complete and in the order in which they act.

    Args:
        owner: for messages.
        corruption: name to a number, or to a mapping of settings; None is none.

    Raises:
        ConfigurationError: an unknown name or setting (near names are given), a number out of range, no rate.
    """
    if corruption is None:
        return {}
    if not isinstance(corruption, Mapping):
        raise bad_argument(owner, "corruption", corruption, "a mapping, e.g. {mcar: 0.1, spikes: {rate: 0.01}}")
    for name in corruption:
        if name not in _SETTINGS:
            raise bad_argument(owner, "corruption", name, ", ".join(_SETTINGS), did_you_mean(str(name), _SETTINGS))
    return {name: _complete(owner, name, corruption[name]) for name in _SETTINGS if name in corruption}


def corrupt(clean: Floats, settings: Settings, rng: np.random.Generator) -> Corrupted:
    """What arrives of a clean signal; it is not changed itself.

    Every corruption draws from a stream of its own, so that adding one leaves the others as they are.

    Args:
        clean: ``(T, d)``.
        settings: from `check_corruption`.
        rng: what it draws from.
    """
    values, mask = clean.copy(), np.ones(clean.shape, dtype=bool)
    sd = clean.std(axis=0)
    streams = dict(zip(_SETTINGS, rng.spawn(len(_SETTINGS)), strict=True))
    shares: dict[str, float] = {}
    for name, chosen in settings.items():
        if name in _LOSSES:
            lost = _LOSSES[name](values, streams[name], **chosen)
            mask &= ~lost
            shares[name] = float(lost.mean())
        else:
            changed = _CHANGES[name](values, sd, streams[name], **chosen)
            if "rate" in chosen:
                shares[name] = float((changed != values).mean())
            values = changed
    return Corrupted(values, mask, shares)


def _drift(values: Floats, sd: Floats, rng: np.random.Generator, size: float) -> Floats:
    walk = np.cumsum(rng.standard_normal(values.shape), axis=0)
    return values + walk * (size * sd / np.sqrt(len(values)))


def _noise(values: Floats, sd: Floats, rng: np.random.Generator, size: float) -> Floats:
    return values + size * sd * rng.standard_normal(values.shape)


def _spikes(values: Floats, sd: Floats, rng: np.random.Generator, rate: float, size: float) -> Floats:
    sign = np.where(rng.random(values.shape) < 0.5, -1.0, 1.0)
    return np.where(rng.random(values.shape) < rate, values + sign * size * sd, values)


def _clip(values: Floats, sd: Floats, rng: np.random.Generator, rate: float) -> Floats:
    del sd, rng
    return np.clip(values, *np.quantile(values, (rate / 2, 1 - rate / 2), axis=0))


def _stuck(values: Floats, sd: Floats, rng: np.random.Generator, rate: float, length: float) -> Floats:
    del sd
    stuck = _stretches(values.shape, rate, length, rng)
    rows = np.arange(len(values))[:, None]
    last = np.maximum.accumulate(np.where(stuck, 0, rows), axis=0)
    return np.take_along_axis(values, last, axis=0)


def _lost_at_random(values: Floats, rng: np.random.Generator, rate: float, length: float) -> Bools:
    return _stretches(values.shape, rate, length, rng)


def _lost_by_another(values: Floats, rng: np.random.Generator, rate: float, slope: float) -> Bools:
    driver = int(rng.integers(values.shape[1]))
    lost = rng.random(values.shape) < _logistic_shares(values[:, [driver]], rate, slope)
    lost[:, driver] = False
    return lost


def _lost_by_itself(values: Floats, rng: np.random.Generator, rate: float, slope: float) -> Bools:
    return rng.random(values.shape) < _logistic_shares(values, rate, slope)


def _logistic_shares(values: Floats, rate: float, slope: float) -> Floats:
    """``sigmoid(b + slope z)`` of the standardised columns, with the `b` of each column that makes the mean `rate`."""
    z = slope * (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), np.finfo(float).tiny)
    # some thousand rows tell the mean to a hundredth of its value
    some = z[:: max(1, len(z) // _ROWS_FOR_RATE)]
    low, high = -50.0 - np.abs(z).max(axis=0), 50.0 + np.abs(z).max(axis=0)
    for _ in range(40):
        middle = (low + high) / 2
        above = _sigmoid(middle + some).mean(axis=0) > rate
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return _sigmoid((low + high) / 2 + z)


def _sigmoid(x: Floats) -> Floats:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _stretches(shape: tuple[int, ...], rate: float, length: float, rng: np.random.Generator) -> Bools:
    """Stretches that begin at random and last a geometric number of rows; `rate` of the cells lie in one.

    With begins at probability p and lengths that go on with probability q = 1 - 1 / length, a cell lies in none with
    ``prod_k (1 - p q^k)``, which is solved for p. At length 1 cells are independent.
    """
    if rate == 0.0:
        return np.zeros(shape, dtype=bool)
    before = int(np.ceil(20 * length)) if length > 1 else 0
    going_on = (1.0 - 1.0 / length) ** np.arange(before + 1)
    low, high = 0.0, rate
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.log1p(-middle * going_on).sum() > np.log1p(-rate) else (low, middle)
    rows = np.arange(before + shape[0])[:, None]
    begins = rng.random((len(rows), shape[1])) < high
    ends = np.where(begins, rows + rng.geometric(1.0 / length, begins.shape), 0)
    return (np.maximum.accumulate(ends, axis=0) > rows)[before:]


_CHANGES: dict[str, Callable[..., Floats]] = {
    "drift": _drift,
    "noise": _noise,
    "spikes": _spikes,
    "clip": _clip,
    "stuck": _stuck,
}
_LOSSES: dict[str, Callable[..., Bools]] = {"mcar": _lost_at_random, "mar": _lost_by_another, "mnar": _lost_by_itself}


def _complete(owner: str, name: str, given: Any) -> dict[str, float]:
    known = _SETTINGS[name]
    chosen = dict(given) if isinstance(given, Mapping) else {next(iter(known)): given}
    for setting in chosen:
        if setting not in known:
            hint = did_you_mean(str(setting), known)
            raise bad_argument(owner, f"corruption.{name}", setting, f"the settings {', '.join(known)}", hint)
    complete: dict[str, float] = {}
    for setting, default in known.items():
        value = chosen.get(setting, default)
        where = f"corruption.{name}.{setting}"
        if setting == "rate":
            complete[setting] = check_number(owner, where, value, at_least=0.0, at_most=_MOST_MISSING)
        else:
            complete[setting] = check_number(owner, where, value, at_least=1.0 if setting == "length" else 0.0)
    return complete
