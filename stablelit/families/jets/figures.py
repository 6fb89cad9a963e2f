"""Pictures of a jet model: jets, the latent code, its information; distributions are in `spectra`.

Each function returns a matplotlib Figure and opens no window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stablelit.families.jets.metrics import Jets, jet_momentum
from stablelit.families.jets.spectra import GENERATED, REAL, RECONSTRUCTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {"real": REAL, "reconstructed": RECONSTRUCTED, "prior sample": GENERATED}
# square points of a particle that carries the whole pT of its jet
AREA_OF_ALL_PT = 700.0
ACTIVE_NATS = 0.01
MOST_CLASSES = 10


def jets_in_eta_phi(jets: Mapping[str, Jets], classes: Sequence[str] = (), title: str = "") -> Figure:
    """Jets as their particles lie about the axis, a row for each kind; the area of a marker is the particle's pT.

    All panels have one scale, that of the real jets; what lies beyond it is counted in its panel.

    Args:
        jets: by kind, of "real", "reconstructed" and "prior sample", as many of each as there are to be columns.
        classes: the name of each real jet's class, one a column; empty leaves it out.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    n_columns = max(kind.n_jets for kind in jets.values())
    real = jets.get("real", next(iter(jets.values())))
    half = 1.1 * max(0.1, float(real.particles[..., :2].abs().amax(dim=-1)[real.mask].max()))
    # in inches; a layout that is solved for costs more than the drawing
    width, height = 2.0 * n_columns + 1.8, 2.15 * len(jets) + 0.7
    figure = Figure(figsize=(width, height))
    grid = figure.subplots(len(jets), n_columns, sharex=True, sharey=True, squeeze=False)
    figure.subplots_adjust(
        left=0.85 / width, right=1 - 0.9 / width, bottom=0.5 / height, top=1 - 0.35 / height, wspace=0.1, hspace=0.2
    )
    for row, (kind, some) in zip(grid, jets.items(), strict=True):
        row[0].set_ylabel(f"{kind}\n$\\Delta\\phi$ (rad)")
        momentum = jet_momentum(*some)
        for place, axes in enumerate(row):
            axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
            if place >= some.n_jets:
                axes.set_axis_off()
                continue
            eta, phi, ptrel = some.particles[place][some.mask[place]].float().cpu().T.numpy()
            axes.scatter(eta, phi, s=AREA_OF_ALL_PT * ptrel, color=KINDS.get(kind, GENERATED), alpha=0.55, lw=0)
            name = f"{classes[place]}: " if kind == "real" and classes else ""
            axes.set_title(f"{name}n = {len(eta)}, m/pT = {float(momentum.mass[place]):.2f}", fontsize="small")
            if beyond := int(((abs(eta) > half) | (abs(phi) > half)).sum()):
                axes.text(0.96, 0.03, f"{beyond} beyond", transform=axes.transAxes, ha="right", fontsize="x-small")
    for axes in grid[-1]:
        axes.set_xlabel("$\\Delta\\eta$")
    scale = [
        grid[0][0].scatter([], [], s=AREA_OF_ALL_PT * share, color=REAL, alpha=0.55, lw=0, label=f"{share:g}")
        for share in (0.3, 0.1, 0.01)
    ]
    figure.legend(handles=scale, title="pT / jet pT", loc="upper right", frameon=False, labelspacing=1.0)
    if title:
        figure.suptitle(title)
    return figure


def latent_code(
    mean: Tensor, mass: Tensor, label: Tensor | None = None, classes: Sequence[str] = (), title: str = ""
) -> Figure:
    """Posterior means in the plane of their two largest principal components, by mass and by class.

    The prior is a unit Gaussian in every plane: of its draws 86 % lie within the dashed circle of radius 2. Means that
    fill it use the code; all of them at its centre are a collapse; means far outside are codes that no prior sample
    will ever have.

    Args:
        mean: ``(n, d)`` posterior means, two jets at least.
        mass: ``(n,)`` m / pT.
        label: ``(n,)`` numbers of the classes; None, fewer than two different ones or more than ten leave the panel
            out.
        classes: names of the classes by their number.
        title: of the figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    plane, share = principal_plane(mean)
    x, y = plane.T.cpu().numpy()
    known = [] if label is None else sorted(set(label.tolist()))
    by_class = 1 < len(known) <= MOST_CLASSES
    figure = Figure(figsize=(10.4 if by_class else 5.8, 4.8), layout="constrained")
    panels = figure.subplots(1, 2 if by_class else 1, sharex=True, sharey=True, squeeze=False)[0]
    size = min(16.0, max(5.0, 9000.0 / len(x)))
    order = mass.argsort().cpu().numpy()  # the rare heavy ones on top
    values = mass.cpu().numpy()[order]
    low, high = np.quantile(values, [0.01, 0.99])
    points = panels[-1].scatter(x[order], y[order], c=values, s=size, lw=0, vmin=low, vmax=high, cmap="viridis")
    figure.colorbar(points, ax=panels[-1], label="jet mass / jet pT", extend="both")
    if by_class:
        assert label is not None
        numbers = label.cpu().numpy()
        for place, number in enumerate(known):
            name, mine = classes[number] if number < len(classes) else str(number), numbers == number
            colour = f"C{place}"
            panels[0].scatter(x[mine], y[mine], s=size, lw=0, color=colour, alpha=0.5, label=f"{name} ({mine.sum()})")
        panels[0].legend(frameon=False, markerscale=2.0, loc="best")
    # a code that has collapsed is to be seen as a point inside the prior, not as a cloud in axes of its size
    half = max(2.2, 1.05 * float(np.abs(plane.cpu().numpy()).max()))
    for axes in panels:
        axes.add_patch(Circle((0, 0), 2.0, fill=False, ls="--", color=REAL, lw=1))
        axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
        axes.set_xlabel(f"first principal component ({100 * float(share[0]):.0f} % of the variance)")
    panels[0].set_ylabel(f"second principal component ({100 * float(share[1]):.0f} %)")
    figure.suptitle(title or f"posterior means of {len(x)} jets; dashed: 86 % of the prior")
    return figure


def principal_plane(values: Tensor) -> tuple[Tensor, Tensor]:
    """Values ``(n, d)`` in their two directions of largest variance, ``(n, 2)``, and those variances' shares ``(2,)``.

    The origin stays where it is. A direction is turned so that its largest component is positive: the picture of one
    epoch is not the mirror image of the last one's. One dimension has zeros for a second.
    """
    points = values.detach().double()
    if points.shape[1] == 1:
        points = torch.cat([points, torch.zeros_like(points)], dim=1)
    variance, directions = torch.linalg.eigh(points.T.cov())
    variance, directions = variance.flip(0).clamp_min(0.0), directions.flip(1)[:, :2]
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    share = variance[:2] / variance.sum().clamp_min(torch.finfo(variance.dtype).tiny)
    return points @ (directions * torch.where(largest < 0, -1.0, 1.0)), share


def kl_per_dimension(kl_per_dim: Tensor, title: str = "") -> Figure:
    """Mean KL of each latent dimension (nats), largest first, and how many of them are above 0.01 nats.

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
    axes.axhline(ACTIVE_NATS, color=REAL, lw=1, ls=":")
    active = f"{int((values > ACTIVE_NATS).sum())} of {len(values)} above {ACTIVE_NATS:g} nats"
    text = f"{values.sum():.2f} nats in all\n{active}"
    axes.text(0.97, 0.93, text, transform=axes.transAxes, ha="right", va="top")
    if title:
        axes.set_title(title)
    return figure
