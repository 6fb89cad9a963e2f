"""Pictures of a model of sequences: where along the noise it loses, and which residues there are.

Each function returns a matplotlib Figure and opens no window. Costs are in nats per residue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from stablelit.families.proteins.alphabet import AMINO_ACIDS, N_RESIDUES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODEL, TRAINING, LEVEL = "tab:blue", "tab:orange", "0.45"
_STYLES = ("--", ":", "-.")


def cross_entropy_by_mask_rate(
    edges: Sequence[float], costs: Tensor, levels: Mapping[str, float] | None = None, title: str = ""
) -> Figure:
    """The cross entropy of a masked residue over the share of its sequence that is masked, with levels to compare with.

    Where nothing is left to see, at 1, the best that can be said is the unigram's; the fewer masks, the more is known.

    Args:
        edges: ``(K,)`` upper ends of the bins of the share; the first begins at 0.
        costs: ``(K,)`` nats, NaN where a bin is empty.
        levels: nats by name, drawn as lines: the unigram's.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.stairs(costs.numpy(), [0.0, *edges], baseline=None, color=MODEL, lw=2, label="model")
    for (name, level), style in zip((levels or {}).items(), _STYLES * 9, strict=False):
        axes.axhline(level, color=LEVEL, ls=style, lw=1, label=f"{name}: {level:.3f}")
    axes.set(
        xlabel="masked share of the sequence", ylabel="cross entropy of a masked residue (nats)", xlim=(0, edges[-1])
    )
    axes.legend(frameon=False, fontsize="small")
    if title:
        figure.suptitle(title)
    return figure


def residue_frequencies(counts: Tensor, unigram: Tensor, drawn: Tensor | None = None, title: str = "") -> Figure:
    """The share of each residue in some sequences beside that in training, in the alphabet's order.

    Args:
        counts: ``(20,)``, of the sequences that were evaluated.
        unigram: ``(20,)`` shares in training.
        drawn: ``(20,)`` counts of generated sequences; None leaves them out.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots()
    places = np.arange(N_RESIDUES)
    bars = {"evaluated": counts} | ({} if drawn is None else {"generated": drawn})
    width = 0.8 / len(bars)
    for i, (name, number) in enumerate(bars.items()):
        share = number.double() / number.sum().clamp(min=1)
        middle = places + (i - (len(bars) - 1) / 2) * width
        label = f"{name}, {int(number.sum()):,} residues"
        axes.bar(middle, 100 * share.numpy(), width, color=(MODEL, "tab:green")[i], alpha=0.7, label=label)
    axes.plot(places, 100 * unigram.numpy(), "_", color=TRAINING, ms=14, mew=2, label="training")
    axes.set(ylabel="share (%)", xlabel="residue", xlim=(-0.7, N_RESIDUES - 0.3))
    axes.set_xticks(places, list(AMINO_ACIDS))
    axes.legend(frameon=False, fontsize="small")
    if title:
        figure.suptitle(title)
    return figure
