"""What a validation or a test of sequences collects: the bound beside what needs no model, and by mask rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stablelit.families.proteins.alphabet import N_RESIDUES
from stablelit.families.proteins.metrics import MaskRateCrossEntropy, ResidueBound, ResidueCounts
from stablelit.families.proteins.scoring import SequenceBound
from stablelit.findings import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLEARLY = 3.0
"""Standard errors by which a bound must be off before it is a finding."""


class BoundEvaluation(nn.Module):
    """One evaluation after another.

    Scores, all in nats per residue unless the name says otherwise: ``nll`` with ``nll_se``, ``perplexity`` and
    ``bits_per_residue``; ``nll_baseline``, of guessing by the training residues' frequencies; ``gap_to_unigram``, by
    how much the bound is below that; where the law of the data is known, ``nll_truth`` of the same sequences under it,
    ``gap_to_truth``, by how much the bound is above that, and the law's ``entropy``;
    ``score_excess``, what scores that do not add up would cost on top; and ``ce_mask_<percent>``, the cross entropy of
    a masked residue where up to so much of a sequence is masked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bound, self.excess = ResidueBound(), ResidueBound()
        self.by_mask_rate = MaskRateCrossEntropy()
        self.residues = ResidueCounts()
        self.findings: list[Finding] = []
        self._unigram = torch.full((N_RESIDUES,), 1.0 / N_RESIDUES, dtype=torch.float64)
        self._entropy, self._truth = math.nan, math.nan
        self._last: dict[str, Any] = {}

    def begin(self, data: Any = None, split: str = "val") -> None:
        """Forgets what was collected, not the last result.

        Args:
            data: a datamodule that may know the frequencies of its training residues (`unigram()`), the entropy of
                their law (`entropy`), and what it says of the sequences of a split (`true_nll(split)`); nats per
                residue, or None.
            split: that is evaluated.
        """
        for metric in (self.bound, self.excess, self.by_mask_rate, self.residues):
            metric.reset()
        self.findings = []
        unigram = getattr(data, "unigram", None)
        if callable(unigram):
            self._unigram = torch.as_tensor(unigram(), dtype=torch.float64)
        entropy, true_nll = getattr(data, "entropy", None), getattr(data, "true_nll", None)
        truth = true_nll(split) if callable(true_nll) else None
        self._entropy, self._truth = (math.nan if known is None else float(known) for known in (entropy, truth))

    def add(self, batch: dict[str, Tensor], nats: Tensor, excess: Tensor | None = None) -> None:
        """Adds some sequences.

        Args:
            batch: with ``tokens`` and ``loss_mask`` ``(B, L)``.
            nats: ``(B,)``, their bounds.
            excess: ``(B,)``, what unnormalised scores cost on top, nats.
        """
        residues = batch["loss_mask"].sum(1)
        self.residues.update(batch["tokens"], batch["loss_mask"])
        self.bound.update(nats, residues)
        if excess is not None:
            self.excess.update(excess, residues)

    def add_masked(self, loss_mask: Tensor, drawn: SequenceBound) -> None:
        """Adds what the masked residues of one draw cost, where there are masks; `loss_mask` ``(B, L)``."""
        if drawn.masked_nats is not None and drawn.masked is not None:
            rate = drawn.masked / loss_mask.sum(1).clamp(min=1)
            self.by_mask_rate.update(drawn.masked_nats, drawn.masked, rate)
        else:
            # a metric that nothing was ever added to warns when it is asked
            nothing = loss_mask.new_zeros(0)
            self.by_mask_rate.update(nothing, nothing, nothing)

    def finish(self) -> dict[str, Tensor]:
        """The scores; `findings` has what is to be known about them."""
        scores = dict(self.bound.compute())
        scores["nll_baseline"] = self.residues.cross_entropy(self._unigram.to(scores["nll"].device))
        scores["gap_to_unigram"] = scores["nll_baseline"] - scores["nll"]
        if math.isfinite(self._entropy):
            scores["entropy"] = torch.as_tensor(self._entropy, dtype=torch.float64)
        if math.isfinite(self._truth):
            scores["nll_truth"] = torch.as_tensor(self._truth, dtype=torch.float64)
            scores["gap_to_truth"] = scores["nll"] - self._truth
        if int(self.excess.sequences):
            scores["score_excess"] = self.excess.compute()["nll"]
        costs = self.by_mask_rate.compute()
        # of all ranks: they must log the same names
        if bool(costs.isfinite().any()):
            for edge, cost in zip(self.by_mask_rate.edges, costs, strict=True):
                scores[f"ce_mask_{round(100 * edge)}"] = cost
        self.findings = bound_findings(scores)
        self._last = {
            "edges": self.by_mask_rate.edges,
            "costs": costs.cpu(),
            "counts": self.residues.compute().cpu(),
            "unigram": self._unigram.cpu(),
            "baseline": float(scores["nll_baseline"]),
            "entropy": self._entropy,
        }
        return {name: torch.as_tensor(value).float() for name, value in scores.items()}

    def figures(self) -> dict[str, Figure]:
        """Pictures of the last evaluation; none before the first."""
        from stablelit.families.proteins import figures

        if not self._last:
            return {}
        last = self._last
        pictures = {"residue_frequencies": figures.residue_frequencies(last["counts"], last["unigram"])}
        if bool(last["costs"].isfinite().any()):
            levels = {"unigram": last["baseline"]}
            pictures["cross_entropy_by_mask_rate"] = figures.cross_entropy_by_mask_rate(
                last["edges"], last["costs"], levels
            )
        return pictures


def bound_findings(scores: dict[str, Tensor]) -> list[Finding]:
    """What an evaluation says that somebody ought to know.

    Args:
        scores: of `BoundEvaluation.finish`.
    """
    numbers = {name: float(scores[name]) for name in ("nll", "nll_se", "nll_baseline", "nll_truth") if name in scores}
    nll, error, baseline = numbers["nll"], numbers["nll_se"], numbers["nll_baseline"]
    truth = numbers.get("nll_truth", -math.inf)
    if not math.isfinite(error):
        return []
    found = []
    if nll > baseline + CLEARLY * error:
        message = (
            f"the bound is {nll:.3f} +- {error:.3f} nats per residue, and guessing by the frequencies of the training "
            f"residues costs {baseline:.3f}: nothing is known of the sequences yet."
        )
        found.append(Finding("worse-than-unigram", "warning", message, numbers, "train for longer"))
    if nll < truth - CLEARLY * error:
        message = (
            f"the bound is {nll:.3f} +- {error:.3f} nats per residue, below the {truth:.3f} that the law of the data "
            f"itself says of these sequences. No model can be: the loss, its weights or the data are wrong."
        )
        remedy = "compare data.corpus with what the sequences were drawn from"
        found.append(Finding("below-the-truth", "critical", message, numbers, remedy))
    return found
