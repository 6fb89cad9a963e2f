"""Pictures of sketches: pairs of views, a map of embeddings, episodes with what was predicted.

Each function returns a matplotlib Figure and opens no window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIGHT, WRONG = "tab:green", "tab:red"


def view_pairs(views: Tensor, title: str = "two views of each sketch") -> Figure:
    """First views above, second views below: what the encoder is asked to find alike.

    Args:
        views: ``(2, n, C, S, S)``.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    n = views.shape[1]
    figure = Figure(figsize=(1.1 * max(n, 3), 2.7), layout="constrained")
    axes = figure.subplots(2, n, squeeze=False)
    for row, name in enumerate(("view 1", "view 2")):
        for column in range(n):
            _picture(axes[row, column], views[row, column], "0.8")
        axes[row, 0].set_ylabel(name, fontsize="small")
    low, high = float(views.min()), float(views.max())
    figure.suptitle(f"{title} (values {low:.3g} to {high:.3g})", fontsize="medium")
    return figure


def embedding_map(
    features: Tensor, labels: Tensor, n_classes: int = 10, title: str = "", names: Sequence[str] | None = None
) -> Figure:
    """Features along their two largest principal components, those of the most frequent classes in colour.

    The share of the variance that the components have stands at the axes: a map that shows 95 % of it is that of an
    embedding that has lost most of its dimensions. Where all features are alike, the map says so.

    Args:
        features: ``(n, d)``.
        labels: ``(n,)``, -1 where unknown.
        n_classes: that have a colour.
        title: of the figure.
        names: of the classes, by label; None shows their numbers.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 5.0), layout="constrained")
    axes = figure.subplots()
    finite = torch.isfinite(features).all(dim=1)
    kept, classes = features[finite].double(), labels[finite].numpy()
    if len(kept) < 2 or kept.shape[1] < 2:
        axes.text(0.5, 0.5, "nothing to show", ha="center", va="center", transform=axes.transAxes)
        return figure
    _, size, directions = torch.linalg.svd(kept - kept.mean(dim=0), full_matrices=False)
    places = ((kept - kept.mean(dim=0)) @ directions[:2].T).numpy()
    share = (size.square() / size.square().sum().clamp_min(1e-30)).numpy()
    # float32 features that are alike scatter by their rounding
    alike = bool(size[0] <= 1e-6 * kept.norm())
    known, counts = np.unique(classes[classes >= 0], return_counts=True)
    shown = known[np.argsort(-counts, kind="stable")][:n_classes]
    others = ~np.isin(classes, shown)
    axes.scatter(*places[others].T, s=5, color="0.8", lw=0, label="other classes" if others.any() else None)
    for k, label in enumerate(shown):
        axes.scatter(
            *places[classes == label].T,
            s=16,
            color=f"C{k % 10}",
            lw=0,
            label=f"class {label}" if names is None else names[label],
        )
    axes.set(
        xlabel=f"first principal component ({100 * share[0]:.0f} % of the variance)",
        ylabel=f"second ({100 * share[1]:.0f} %)",
        title=(title or f"embeddings h of {len(kept)} sketches") + (", all alike" if alike else ""),
    )
    # numbers such as -0.0075 would run into each other
    axes.locator_params(axis="x", nbins=5)
    if len(shown) or others.any():
        figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    return figure


def episode(
    support: Tensor,
    query: Tensor,
    predicted: Tensor,
    target: Tensor,
    names: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """A few-shot episode: a class a row, its support framed in black, its queries in green or red by the prediction.

    Args:
        support: ``(W, K, C, S, S)``.
        query: ``(W, Q, C, S, S)``.
        predicted: ``(W, Q)``, classes of the episode.
        target: ``(W, Q)``.
        names: of the W classes.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    way, shot, queries = support.shape[0], min(support.shape[1], 3), min(query.shape[1], 8)
    figure = Figure(figsize=(1.0 * (shot + queries) + 1.2, 1.05 * way + 0.7), layout="constrained")
    axes = figure.subplots(way, shot + queries, squeeze=False)
    for row in range(way):
        for column in range(shot):
            _picture(axes[row, column], support[row, column], "black")
        for column in range(queries):
            right = bool(predicted[row, column] == target[row, column])
            place = axes[row, shot + column]
            _picture(place, query[row, column], RIGHT if right else WRONG)
            if not right:
                place.set_xlabel(f"as {int(predicted[row, column]) + 1}", fontsize="x-small", color=WRONG, labelpad=1)
        name = f"{row + 1}" if names is None else f"{row + 1}: {names[row]}"
        axes[row, 0].set_ylabel(name, fontsize="x-small", rotation=0, ha="right", va="center")
    accuracy = float((predicted == target).float().mean())
    figure.suptitle(
        f"{title or 'an episode'}: {way}-way {support.shape[1]}-shot, accuracy {accuracy:.2f}, chance {1 / way:.2f}",
        fontsize="medium",
    )
    return figure


def _picture(axes: Axes, image: Tensor, frame: str | None = None) -> None:
    # ink is 1: shown black on white
    axes.imshow(image.detach().float().mean(dim=0).numpy(), cmap="gray_r")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=frame is not None, color=frame or "none", linewidth=2)
