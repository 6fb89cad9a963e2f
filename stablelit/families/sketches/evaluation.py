"""What an encoder's output is worth: few-shot accuracy, neighbours and a linear probe, beside what costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from stablelit.families.sketches.dataset import Batch
from stablelit.families.sketches.feature_scores import feature_scores
from stablelit.families.sketches.features import encoded_images
from stablelit.families.sketches.pretrained import untrained_twin
from stablelit.families.sketches.told import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNTRAINED, CALIBRATED, PIXELS = "untrained", "untrained_calibrated", "pixels"
# the untrained encoder is what a score is to be held against
_SUFFIXES = {"trained": "", UNTRAINED: "_baseline", CALIBRATED: "_baseline", PIXELS: "_pixels"}
# enough for a picture
_SHOWN, _SHOWN_CLASSES = 2_000, 10


class EmbeddingBank(Metric):
    """Embeddings of an evaluation, with labels and ids, of all ranks; what a sampler repeated counts once."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name in ("features", "labels", "ids"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, features: Tensor, labels: Tensor, ids: Tensor) -> None:
        """Adds ``(B, d)``, ``(B,)`` and ``(B,)``."""
        self.features.append(features.detach().float())
        self.labels.append(labels)
        self.ids.append(ids)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Features and labels in the order of the ids."""
        ids, order = torch.sort(dim_zero_cat(self.ids), stable=True)
        first = torch.ones_like(ids, dtype=torch.bool)
        first[1:] = ids[1:] != ids[:-1]
        chosen = order[first]
        return dim_zero_cat(self.features)[chosen], dim_zero_cat(self.labels)[chosen]


class EmbeddingEvaluation(nn.Module):
    """One evaluation after another; `figures` shows the last.

    Args:
        few_shot: way and shot of each row.
    """

    def __init__(self, few_shot: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.few_shot = list(few_shot)
        # the encoder's, those of untrained ones, and the pictures themselves
        self.banks = nn.ModuleDict({name: EmbeddingBank() for name in _SUFFIXES})
        # outside of the module's parts: no checkpoint has them
        self._twins: list[tuple[str, nn.Module]] = []
        self._centres: dict[str, Tensor] = {}
        self._shown: tuple[Tensor, Tensor] | None = None

    def reset(self) -> None:
        """Forgets what was collected, not what is shown."""
        for bank in self.banks.values():
            bank.reset()
        self._twins, self._centres = [], {}

    def compare_with_untrained(self, encoder: nn.Module, training_images: Tensor | None) -> None:
        """Makes the untrained encoders, and takes the mean features that others are measured from.

        One has the statistics that batch norms begin with, one those of the training pictures: now this and now that
        is the stronger, and a score is held against the better.

        Args:
            encoder: the trained one.
            training_images: ``(n, C, S, S)``; without them features are centred on those that are evaluated.
        """
        twins = [(UNTRAINED, untrained_twin(encoder))]
        if training_images is not None:
            twins.append((CALIBRATED, untrained_twin(encoder, training_images)))
            features = {name: encoded_images(one, training_images) for name, one in [("trained", encoder), *twins]}
            features[PIXELS] = training_images.flatten(1)
            self._centres = {name: of.float().mean(dim=0) for name, of in features.items()}
        self._twins = twins

    def add(self, h: Tensor, batch: Batch) -> None:
        """Adds the encoder's output ``(B, d)``."""
        self.banks["trained"].update(h, batch["label"], batch["id"])

    def add_baselines(self, batch: Batch) -> None:
        """Adds what untrained encoders and the pictures themselves make of a batch."""
        image = batch["image"]
        found = {PIXELS: image.flatten(1), **{name: encoded_images(twin, image) for name, twin in self._twins}}
        for name, features in found.items():
            self.banks[name].update(features, batch["label"], batch["id"])

    def keep(self) -> None:
        """Keeps some embeddings for a picture."""
        bank = self.banks["trained"]
        if bank.features:
            features, labels = bank.compute()
            self._shown = features[:_SHOWN].cpu(), labels[:_SHOWN].cpu()

    def finish(self, seed: int = 0) -> dict[str, float]:
        """The scores of the encoder, ``_baseline`` (the better untrained one), ``_pixels``, and chance.

        Args:
            seed: of the episodes and of what the linear probe is fitted to.
        """
        self.keep()
        scores: dict[str, float] = {}
        for name, suffix in _SUFFIXES.items():
            bank = self.banks[name]
            if not bank.features:
                continue
            features, labels = (values.cpu() for values in bank.compute())
            centre = self._centres.get(name)
            found = feature_scores(features, labels, self.few_shot, seed, None if centre is None else centre.cpu())
            for key in [key for key in found if not key.endswith(("_interval", "_chance"))]:
                if found[key] <= scores.get(key + suffix, -1.0):
                    continue
                scores[key + suffix] = found[key]
                if f"{key}_interval" in found:
                    scores[f"{key}{suffix}_interval"] = found[f"{key}_interval"]
                if not suffix:
                    scores[f"{key}_chance"] = found[f"{key}_chance"]
        for way, shot in self.few_shot:
            if scores and f"few_shot_{way}w{shot}s" not in scores:
                say(f"no {way}-way {shot}-shot episodes: fewer than {way} classes have more than {shot} sketches.")
        return scores

    def figures(self, classes: Sequence[str] | None = None) -> dict[str, Figure]:
        """The last embeddings as a map; none before the first evaluation.

        Args:
            classes: names of the classes; None shows their numbers.
        """
        from stablelit.families.sketches import figures

        if self._shown is None:
            return {}
        return {"embedding_map": figures.embedding_map(*self._shown, n_classes=_SHOWN_CLASSES, names=classes)}
