"""Pictures of distributions: what real jets, prior samples and reconstructions are distributed like.

Each function returns a matplotlib Figure and opens no window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from stablelit.families.jets.metrics import Jets, axis_distance, jet_momentum

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REAL, GENERATED, RECONSTRUCTED = "0.35", "tab:red", "tab:blue"


def mass_spectrum(
    real: Tensor, generated: Tensor, w1: float, floor: float, raw: Tensor | None = None, title: str = ""
) -> Figure:
    """Relative jet mass of real jets and of prior samples, with the ratio below and the distance beside its floor.

    Args:
        real: ``(n,)`` m / pT.
        generated: ``(m,)`` m / pT.
        w1: Wasserstein-1 distance of the two.
        floor: the same of real against real.
        raw: ``(k,)`` m / pT of samples as the decoder drew them, where `generated` are calibrated.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    reals, fakes = real.cpu().numpy(), generated.cpu().numpy()
    # generated tails must be seen, but a single absurd jet must not squeeze the picture
    top = max(float(np.quantile(reals, 0.999)), min(float(np.quantile(fakes, 0.99)), 2 * float(reals.max()))) * 1.05
    edges = np.linspace(0.0, max(top, 1e-3), max(8, min(50, len(reals) // 20)) + 1)
    beyond = float((fakes > edges[-1]).mean())
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    spectrum, ratio = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    counts = {}
    kinds = [("real", reals, REAL, "-"), ("prior samples", fakes, GENERATED, "-")]
    if raw is not None:
        kinds.append(("not calibrated", raw.cpu().numpy(), GENERATED, ":"))
    for name, values, colour, line in kinds:
        filled = name == "real"
        counts[name], _ = np.histogram(values, bins=edges)
        height = counts[name] / len(values) / np.diff(edges)
        spectrum.stairs(
            height,
            edges,
            color=colour,
            fill=filled,
            alpha=0.4 if filled else 1.0,
            lw=1.6 if line == "-" else 1.0,
            ls=line,
            label=f"{name} ({len(values)})",
        )
    spectrum.set_ylabel("density")
    spectrum.set_ylim(bottom=0)
    spectrum.legend(frameon=False)
    text = f"$W_1$ = {1e3 * w1:.2f}e-3\nreal vs real: {1e3 * floor:.2f}e-3"
    if beyond > 0:
        text += f"\n{100 * beyond:.1f} % beyond the axis"
    spectrum.text(0.97, 0.62, text, transform=spectrum.transAxes, ha="right", va="top")
    if title:
        spectrum.set_title(title)
    some = counts["real"] > 0
    n_real, n_fake = counts["real"][some], counts["prior samples"][some]
    value = n_fake / len(fakes) / (n_real / len(reals))
    error = value * np.sqrt(1 / n_real + 1 / np.maximum(n_fake, 1))
    centre = 0.5 * (edges[1:] + edges[:-1])[some]
    ratio.errorbar(centre, value, yerr=error, fmt=".", color=GENERATED, lw=1)
    ratio.axhline(1.0, color=REAL, lw=1)
    ratio.set(ylim=(0, 2.5), ylabel="ratio", xlabel="jet mass / jet pT")
    return figure


def spectra(real: Jets, generated: Jets, distances: Mapping[str, float], title: str = "") -> Figure:
    """Number of particles, sum of ptrel, ptrel and distance to the axis, of real jets and of prior samples.

    Args:
        real: real jets.
        generated: prior samples.
        distances: the W1 of each by the names of `JetMetrics`, ``multiplicity_w1`` and ``multiplicity_w1_floor`` and so
            on; those that are missing are not written.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 6.2), layout="constrained")
    for axes, (name, label, unit) in zip(figure.subplots(2, 2).flat, _SPECTRA, strict=True):
        sides = [_values(name, jets) for jets in (real, generated)]
        edges = _edges(name, sides[0])
        beyond = float(((sides[1] < edges[0]) | (sides[1] > edges[-1])).mean())
        for values, colour, filled in zip(sides, (REAL, GENERATED), (True, False), strict=True):
            height = np.histogram(values, bins=edges)[0] / len(values)
            if name != "multiplicity":
                height = height / np.diff(np.log(edges) if name == "ptrel" else edges)
            kind = "real" if filled else "prior samples"
            axes.stairs(height, edges, color=colour, fill=filled, alpha=0.4 if filled else 1.0, lw=1.6, label=kind)
        text = []
        if (value := distances.get(f"{name}_w1")) is not None:
            text = [f"$W_1$ = {value:.3g}", f"real vs real: {distances.get(f'{name}_w1_floor', np.nan):.2g}"]
        if beyond > 0:
            text.append(f"{100 * beyond:.1f} % beyond")
        left = name in ("multiplicity", "pt")
        place = {"x": 0.03 if left else 0.97, "ha": "left" if left else "right"}
        axes.text(y=0.95, s="\n".join(text), transform=axes.transAxes, va="top", fontsize="small", **place)
        axes.set(xlabel=label, ylabel=unit, xscale="log" if name == "ptrel" else "linear")
        axes.set_ylim(bottom=0)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    if title:
        figure.suptitle(title)
    return figure


# the first names are those of the distances
_SPECTRA = (
    ("multiplicity", "particles in a jet", "share of jets"),
    ("pt", "sum of the particles' momenta, pT / jet pT", "density"),
    ("ptrel", "particle pT / jet pT", "density in ln pT"),
    ("delta_r", "distance to the axis (rad)", "density"),
)


def _values(name: str, jets: Jets) -> Any:
    particles, mask = jets
    if name == "multiplicity":
        return mask.sum(dim=1).cpu().numpy()
    if name == "pt":
        return jet_momentum(*jets).pt.cpu().numpy()
    return (particles[..., 2] if name == "ptrel" else axis_distance(particles))[mask].cpu().numpy()


def _edges(name: str, real: Any) -> Any:
    if name == "multiplicity":
        return np.arange(real.min(), real.max() + 2) - 0.5
    low, high = np.quantile(real, [0.001, 0.999])
    if name == "delta_r":
        low = 0.0
    margin = 0.05 * max(high - low, 1e-3)
    if name == "ptrel":
        return np.geomspace(low / 1.2, max(high, 1.01 * low) * 1.2, 41)
    return np.linspace(max(0.0, low - margin), high + margin, 41)


def residual_spectra(residuals: Tensor, baseline: Tensor, names: Sequence[str], title: str = "") -> Figure:
    """Residuals of reconstructed jets, beside those where each jet is reconstructed as another real one.

    Args:
        residuals: ``(n, k)``, NaN where there is none; see `JetResiduals`.
        baseline: ``(n, k)``.
        names: of the k quantities.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.0 * len(names), 3.4), layout="constrained")
    grid = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name, mine, other in zip(grid, names, residuals.T, baseline.T, strict=True):
        mine, other = (side[~side.isnan()].cpu().numpy() for side in (mine, other))
        if not len(mine):
            axes.set_axis_off()
            continue
        low, median, high = np.quantile(mine, [0.25, 0.5, 0.75])
        edges = np.linspace(*_range(np.concatenate([mine, other])), 41)
        for values, colour, filled in ((other, REAL, True), (mine, RECONSTRUCTED, False)):
            height = np.histogram(values, bins=edges)[0] / max(len(values), 1) / np.diff(edges)
            kind = "another real jet" if filled else "reconstructed"
            axes.stairs(height, edges, color=colour, fill=filled, alpha=0.4 if filled else 1.0, lw=1.6, label=kind)
        axes.axvline(0.0, color=REAL, lw=1, ls=":")
        beyond = float(((mine < edges[0]) | (mine > edges[-1])).mean())
        text = f"median {median:+.3f}\ninterquartile range {high - low:.3f}"
        text += f"\n{100 * beyond:.1f} % beyond" if beyond > 0 else ""
        axes.text(0.97, 0.95, text, transform=axes.transAxes, ha="right", va="top", fontsize="small")
        axes.set(xlabel=f"residual of {name}", ylabel="density" if name == names[0] else "")
        axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    if title:
        figure.suptitle(title)
    return figure


def _range(values: Any) -> tuple[float, float]:
    """Where most of the values lie, with 0 inside."""
    low, high = np.quantile(values, [0.01, 0.97])
    return min(float(low), -1e-3), max(float(high), 1e-3)
