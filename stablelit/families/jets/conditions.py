"""What a jet may be conditioned on, its class and its pT, as numbers that a network takes, and draws of both."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.families.jets.coordinates import JetCoordinates
from stablelit.families.jets.scaler import quantile_levels
from stablelit.functional.schedules import check_number

CONDITIONS = ("label", "pt")
MAX_PULL = 5.0


class Conditions(nn.Module):
    """The condition c of a model p(X | c): a one-hot class, and ln pT in units of its spread in training.

    Args:
        on: of "label" and "pt"; empty for an unconditional model.
        classes: names of the classes, in the order of their numbers.

    Raises:
        ConfigurationError: an unknown condition; a class condition without the names of at least one class.
    """

    label_prob: Tensor

    def __init__(self, on: Sequence[str], classes: Sequence[str]) -> None:
        super().__init__()
        for name in on:
            if name not in CONDITIONS:
                raise bad_argument("JetVAE", "conditional", name, ", ".join(CONDITIONS), did_you_mean(name, CONDITIONS))
        if "label" in on and not classes:
            raise bad_argument(
                "JetVAE",
                "classes",
                list(classes),
                "with conditional=[label], the names of the classes in the data's order",
                "For the toy jets: model.classes=[q,g,t].",
            )
        self.on_label, self.on_pt = "label" in on, "pt" in on
        self.classes = tuple(classes)
        self.dim = (len(self.classes) if self.on_label else 0) + int(self.on_pt)
        # shares of the training jets; equal until they are known
        self.register_buffer("label_prob", torch.full((max(len(self.classes), 1),), 1.0 / max(len(self.classes), 1)))

    def forward(self, label: Tensor, jet_pt: Tensor, coordinates: JetCoordinates) -> Tensor:
        """The condition ``(B, dim)`` of jets with class numbers ``(B,)`` and pT ``(B,)`` in GeV."""
        parts = [jet_pt.new_zeros((len(jet_pt), 0), dtype=torch.float32)]
        if self.on_label:
            parts.append(F.one_hot(label, len(self.classes)).float())
        if self.on_pt:
            quantiles = coordinates.ln_pt_quantiles
            # half of the distance between the levels 0.15 and 0.85: about a standard deviation
            low, middle, high = (round(share * (len(quantiles) - 1)) for share in (0.25, 0.5, 0.75))
            spread = 0.5 * (quantiles[high] - quantiles[low]).clamp_min(2e-3)
            pull = (jet_pt.float().clamp_min(1e-3).log() - quantiles[middle]) / spread
            parts.append(pull.clamp(-MAX_PULL, MAX_PULL)[:, None])
        return torch.cat(parts, dim=-1)

    @torch.no_grad()
    def set_label_counts(self, counts: Tensor) -> None:
        """Takes the shares of classes from their numbers ``(n_classes,)`` in training."""
        self.label_prob.copy_(counts / counts.sum())

    def labels_for(self, n: int, label: str | None, generator: torch.Generator) -> Tensor:
        """Class numbers of n jets to be drawn: `label`'s, or as frequent as in training where it is None.

        Raises:
            ConfigurationError: an unknown class; a class for a model that is not conditioned on it.
        """
        device = self.label_prob.device
        if label is None:
            if not self.on_label:
                return torch.zeros(n, dtype=torch.long, device=device)
            return torch.multinomial(self.label_prob, n, replacement=True, generator=generator)
        if not self.on_label:
            raise ConfigurationError(
                f"sample: label={label!r}, but this model was trained on all classes together. "
                f"Train one with model.conditional=[label]."
            )
        if label not in self.classes:
            near = did_you_mean(str(label), self.classes)
            raise bad_argument("sample", "label", label, ", ".join(self.classes), near)
        return torch.full((n,), self.classes.index(label), dtype=torch.long, device=device)

    def jet_pts_for(
        self, n: int, jet_pt: float | None, coordinates: JetCoordinates, generator: torch.Generator
    ) -> Tensor:
        """Jet pT (GeV) of n jets to be drawn: `jet_pt`; where it is None as in training, whatever the class.

        A model that is not conditioned on it gives the median of the training jets.

        Raises:
            ConfigurationError: a pT that is not positive; a pT for a model that is not conditioned on it.
        """
        quantiles = coordinates.ln_pt_quantiles
        if jet_pt is None:
            if not self.on_pt:
                return coordinates.jet_pt_gev.expand(n)
            share = quantile_levels(len(quantiles) - 1).diff().to(quantiles.device)
            chosen = torch.multinomial(share, n, replacement=True, generator=generator)
            within = torch.rand(n, generator=generator, device=quantiles.device)
            return torch.lerp(quantiles[chosen], quantiles[chosen + 1], within).exp()
        check_number("sample", "jet_pt", jet_pt, above=0.0)
        if not self.on_pt:
            raise ConfigurationError(
                f"sample: jet_pt={jet_pt:g}, but this model does not know the pT of a jet. "
                f"Train one with model.conditional=[pt]."
            )
        least, most = float(quantiles[0].exp()), float(quantiles[-1].exp())
        if not 0.999 * least <= jet_pt <= 1.001 * most:
            warnings.warn(
                f"sample: jet_pt={jet_pt:g} GeV lies outside the training jets' {least:.4g} to {most:.4g} GeV: "
                f"the model has seen no such jet.",
                # past the no_grad wrapper of `sample`: to the line of the caller
                stacklevel=4,
            )
        return torch.full((n,), float(jet_pt), device=quantiles.device)
