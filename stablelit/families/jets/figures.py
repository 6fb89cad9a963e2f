"""Pictures of a jet model. Each function returns a matplotlib Figure and opens no window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REAL, GENERATED = "0.35", "tab:red"


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


def kl_per_dimension(kl_per_dim: Tensor, title: str = "") -> Figure:
    """Mean KL of each latent dimension (nats), largest first: which dimensions carry information.

    Args:
        kl_per_dim: ``(d,)`` nats.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    values = np.sort(kl_per_dim.detach().cpu().numpy())[::-1]
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.bar(np.arange(1, len(values) + 1), values, color="tab:blue")
    axes.set(xlabel="latent dimension, by information", ylabel="KL (nats)", xlim=(0.3, len(values) + 0.7))
    axes.text(0.97, 0.93, f"{values.sum():.2f} nats in all", transform=axes.transAxes, ha="right", va="top")
    if title:
        axes.set_title(title)
    return figure
