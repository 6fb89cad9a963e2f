r"""TOY sensors with a known graph: a linear structural equation model, ten thousand rows in some milliseconds.

.. math:: x_t = x_t W + \sum_{l=1}^{p} x_{t-l} A_l + e_t, \qquad e_t = a\, e_{t-1} + u_t

:math:`W_{ij} \neq 0` is the edge i -> j within a row, :math:`A_{l,ij}` the edge from i to j a lag l later. Use them to
try software, never as evidence about real sensors: by their scale alone such data give most of the graph away
(`sortability`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from stablelit.errors import bad_argument, did_you_mean
from stablelit.families.causal.corruption import check_corruption, corrupt
from stablelit.families.causal.graphs import check_graph, random_dag, weights_of
from stablelit.families.causal.panel import Floats, SensorPanel
from stablelit.families.causal.sortability import r2_sortability, varsortability
from stablelit.functional.schedules import check_count, check_number

_OWNER = "SyntheticSEM"
_STUDENT_NU = 5.0
_LARGEST_RADIUS = 0.95
_DECADES = 3.0

# each with mean 0 and variance 1
_NOISES = {
    "gaussian": lambda rng, shape: rng.standard_normal(shape),
    "laplace": lambda rng, shape: rng.laplace(scale=np.sqrt(0.5), size=shape),
    "gumbel": lambda rng, shape: (rng.gumbel(size=shape) - np.euler_gamma) * (np.sqrt(6.0) / np.pi),
    "student": lambda rng, shape: rng.standard_t(_STUDENT_NU, shape) * np.sqrt((_STUDENT_NU - 2) / _STUDENT_NU),
}


@dataclass(frozen=True)
class SyntheticDraw:
    """What a `SyntheticSEM` makes.

    Args:
        panel: what arrives, with the true graph.
        weights: ``(d, d)`` W in the panel's units: ``clean = clean W + lags + noise + constant``.
        lag_weights: ``(p, d, d)`` A in the panel's units.
        clean: ``(T, d)`` the signal before any corruption, in the panel's units.
        noise_scale: ``(d,)`` standard deviation of e in the panel's units.
        shares: by corruption, the share of all cells that were changed or lost.
    """

    panel: SensorPanel
    weights: Floats
    lag_weights: Floats
    clean: Floats
    noise_scale: Floats
    shares: dict[str, float]

    @cached_property
    def varsortability(self) -> float:
        """Of what arrives and the true graph; NaN where there is no edge."""
        return varsortability(self.panel.values, self.weights, self.panel.mask)

    @cached_property
    def r2_sortability(self) -> float:
        """Likewise."""
        return r2_sortability(self.panel.values, self.weights, self.panel.mask)


class SyntheticSEM:
    """A linear structural equation model of toy sensors.

    Graph, weights, noise, units and corruption draw from streams of their own: other corruption leaves the clean signal
    as it is, other units or more rows leave the graph.

    Args:
        nodes: d, at least 2.
        rows: T.
        graph: "ER" (Erdos-Renyi) or "SF" (scale-free), see `graphs.random_dag`.
        degree: expected edges a node: 2 is ER2, ``2 d`` edges. None is 2, or all pairs where fewer nodes have fewer.
        edges: how many edges exactly, in place of `degree`.
        noise: "gaussian", "laplace", "gumbel" or "student" (5 degrees of freedom).
        noise_scale: standard deviation of e. One number is equal variances, which least squares needs; a pair draws
            one for each column, uniform between them.
        weight_range: of the absolute weights, uniform, with a random sign.
        autoregression: a, in (-1, 1). e keeps its standard deviation whatever a is.
        lags: p, how many rows back edges reach; 0 is none.
        lag_degree: expected edges into a node at each lag, from itself or others.
        lag_weight_range: of their absolute weights. A process that would not die out is damped: ``A_l`` is multiplied
            by ``c^l``, which makes its spectral radius 0.95.
        corruption: name to rate or settings, see `corruption`: ``{mcar: 0.1, spikes: {rate: 0.01, size: 8}}``.
        units: "none"; "log_uniform", which multiplies each column by 10^U(-3, 3); or a range such as [0, 2775], in
            which each column begins at the lower end and has a span of its own, up to a thousandth, the largest all.
        seed: of everything.

    Raises:
        ConfigurationError: an argument out of range.

    Example:
        >>> draw = SyntheticSEM(nodes=5, rows=100, edges=6, seed=0).draw()
        >>> draw.panel.values.shape, int(draw.panel.truth.sum())
        ((100, 5), 6)
    """

    def __init__(
        self,
        nodes: int = 13,
        rows: int = 2500,
        graph: str = "ER",
        degree: float | None = None,
        edges: int | None = None,
        noise: str = "gaussian",
        noise_scale: float | Sequence[float] = 1.0,
        weight_range: Sequence[float] = (0.5, 2.0),
        autoregression: float = 0.0,
        lags: int = 0,
        lag_degree: float = 1.0,
        lag_weight_range: Sequence[float] = (0.2, 0.5),
        corruption: Mapping[str, Any] | None = None,
        units: str | Sequence[float] = "none",
        seed: int = 0,
    ) -> None:
        nodes = check_count(_OWNER, "nodes", nodes, 2)
        if degree is None:
            degree = min(2.0, (nodes - 1) / 2) if graph == "ER" else min(2.0, nodes - 1.0)
        check_graph(_OWNER, nodes, graph, degree, edges)
        if noise not in _NOISES:
            raise bad_argument(_OWNER, "noise", noise, ", ".join(_NOISES), did_you_mean(str(noise), _NOISES))
        if isinstance(units, str) and units not in ("none", "log_uniform"):
            raise bad_argument(_OWNER, "units", units, "'none', 'log_uniform' or a range [low, high]")
        self.nodes, self.graph, self.degree, self.edges = nodes, graph, degree, edges
        self.rows = check_count(_OWNER, "rows", rows, 2)
        self.noise = noise
        single = not isinstance(noise_scale, Sequence)
        self.noise_scale = _pair("noise_scale", [noise_scale] * 2 if single else noise_scale, above=0.0)
        self.weight_range = _pair("weight_range", weight_range, above=0.0)
        self.autoregression = check_number(_OWNER, "autoregression", autoregression, at_least=-0.999, at_most=0.999)
        self.lags = check_count(_OWNER, "lags", lags, 0)
        self.lag_degree = check_number(_OWNER, "lag_degree", lag_degree, at_least=0.0, at_most=float(nodes))
        self.lag_weight_range = _pair("lag_weight_range", lag_weight_range, above=0.0)
        self.corruption = check_corruption(_OWNER, corruption)
        self.units = units if isinstance(units, str) else _pair("units", units)
        if not isinstance(self.units, str) and self.units[0] == self.units[1]:
            raise bad_argument(_OWNER, "units", units, "a range whose ends differ")
        self.seed = check_count(_OWNER, "seed", seed, 0)

    def settings(self) -> dict[str, Any]:
        """Everything that a draw depends on, as plain data."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    def draw(self) -> SyntheticDraw:
        """The data; the same at every call."""
        of_graph, of_weights, of_noise, of_units, of_corruption = np.random.default_rng(self.seed).spawn(5)
        truth = random_dag(self.nodes, of_graph, self.graph, self.degree, self.edges)
        weights = weights_of(truth, *self.weight_range, of_weights)
        scale = of_weights.uniform(*self.noise_scale, self.nodes)
        lag_weights = self._lag_weights(weights, of_weights)
        clean = self._signal(weights, lag_weights, scale, of_noise)

        unit, offset = self._units(clean, of_units)
        clean = clean * unit + offset
        ratio = unit[None, :] / unit[:, None]
        values, mask, shares = corrupt(clean, self.corruption, of_corruption)
        names = tuple(f"x{i}" for i in range(self.nodes))
        panel = SensorPanel(np.where(mask, values, 0.0), mask, names, truth=truth).validate(_OWNER)
        return SyntheticDraw(panel, weights * ratio, lag_weights * ratio, clean, scale * unit, shares)

    def _signal(self, weights: Floats, lag_weights: Floats, scale: Floats, rng: np.random.Generator) -> Floats:
        before = _burn_in(max(abs(self.autoregression), _spectral_radius(weights, lag_weights)))
        shape = (before + self.rows, self.nodes)
        innovations = _NOISES[self.noise](rng, shape) * np.sqrt(1.0 - self.autoregression**2)
        noise = filtered(innovations, np.array([[self.autoregression]])) * scale
        mixing = np.linalg.inv(np.eye(self.nodes) - weights)
        signal = noise @ mixing
        if self.lags:
            wide = np.zeros((len(signal), self.lags * self.nodes))
            wide[:, : self.nodes] = signal
            signal = filtered(wide, _companion(weights, lag_weights))[:, : self.nodes]
        return np.ascontiguousarray(signal[before:])

    def _lag_weights(self, weights: Floats, rng: np.random.Generator) -> Floats:
        lagged = np.zeros((self.lags, self.nodes, self.nodes))
        for lag in range(self.lags):
            joined = rng.random((self.nodes, self.nodes)) < self.lag_degree / self.nodes
            lagged[lag] = weights_of(joined, *self.lag_weight_range, rng)
        radius = _spectral_radius(weights, lagged)
        if radius > _LARGEST_RADIUS:
            lagged *= ((_LARGEST_RADIUS / radius) ** np.arange(1, self.lags + 1))[:, None, None]
        return lagged

    def _units(self, clean: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
        if isinstance(self.units, str):
            unit = 10.0 ** rng.uniform(-_DECADES, _DECADES, self.nodes)
            return unit if self.units == "log_uniform" else np.ones(self.nodes), np.zeros(self.nodes)
        low, high = self.units
        span = 10.0 ** rng.uniform(-_DECADES, 0.0, self.nodes)
        unit = (high - low) * span / span.max() / np.ptp(clean, axis=0)
        return unit, low - unit * clean.min(axis=0)


def filtered(inputs: Floats, transition: Floats) -> Floats:
    r"""``y_t = y_{t-1} F + u_t``, without a loop over rows.

    :math:`(1 - F L)^{-1} = \prod_k (1 + F^{2^k} L^{2^k})` with the lag operator L: as many passes as T has binary
    digits, fewer where F dies out sooner.

    Args:
        inputs: ``(T, n)`` u.
        transition: ``(n, n)`` F, or ``(1, 1)`` for the same number in every column.
    """
    outputs = inputs.copy()
    shift, power = 1, transition
    while shift < len(outputs) and np.abs(power).max() > 1e-17:
        earlier = outputs[:-shift]
        outputs[shift:] += earlier * power if power.size == 1 else earlier @ power
        shift, power = 2 * shift, power @ power
    return outputs


def _companion(weights: Floats, lag_weights: Floats) -> Floats:
    lags, nodes = lag_weights.shape[:2]
    companion = np.eye(lags * nodes, k=nodes)
    companion[:, :nodes] = (lag_weights @ np.linalg.inv(np.eye(nodes) - weights)).reshape(lags * nodes, nodes)
    return companion


def _spectral_radius(weights: Floats, lag_weights: Floats) -> float:
    return float(np.abs(np.linalg.eigvals(_companion(weights, lag_weights))).max()) if len(lag_weights) else 0.0


def _burn_in(radius: float) -> int:
    """Rows until a start from nothing is forgotten to a millionth."""
    return 0 if radius == 0.0 else int(np.ceil(np.log(1e-6) / np.log(radius)))


def _pair(name: str, given: Any, above: float | None = None) -> tuple[float, float]:
    allowed = "a pair [low, high] of numbers, low not above high" + ("" if above is None else f", both above {above:g}")
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != 2:
        raise bad_argument(_OWNER, name, given, allowed)
    low, high = (check_number(_OWNER, name, value, above=above) for value in given)
    if low > high:
        raise bad_argument(_OWNER, name, given, allowed)
    return low, high
