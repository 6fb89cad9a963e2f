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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNTRAINED, PIXELS = "untrained", "pixels"
# the untrained encoder is what a score is to be held against
_SUFFIXES = {UNTRAINED: "_baseline", PIXELS: "_pixels"}
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
        # the encoder's, an untrained one's, and the pictures themselves
        self.banks = nn.ModuleDict({name: EmbeddingBank() for name in ("trained", UNTRAINED, PIXELS)})
        self._twin: list[nn.Module] = []
        self._centres: dict[str, Tensor] = {}
        self._shown: tuple[Tensor, Tensor] | None = None

    def reset(self) -> None:
        """Forgets what was collected, not what is shown."""
        for bank in self.banks.values():
            bank.reset()
        # lists: neither is a part of the module whose weights a checkpoint has
        self._twin, self._centres = [], {}

    def compare_with_untrained(self, encoder: nn.Module, training_images: Tensor | None) -> None:
        """Makes the untrained encoder, and takes the mean features that others are measured from.

        Args:
            encoder: the trained one.
            training_images: ``(n, C, S, S)``; without them features are centred on those that are evaluated.
        """
        twin = untrained_twin(encoder, images=training_images)
        self._twin = [twin]
        if training_images is not None:
            features = {
                "trained": encoded_images(encoder, training_images),
                UNTRAINED: encoded_images(twin, training_images),
            }
            features[PIXELS] = training_images.flatten(1)
            self._centres = {name: of.float().mean(dim=0) for name, of in features.items()}

    def add(self, h: Tensor, batch: Batch) -> None:
        """Adds the encoder's output ``(B, d)``."""
        self.banks["trained"].update(h, batch["label"], batch["id"])

    def add_baselines(self, batch: Batch) -> None:
        """Adds what an untrained encoder and the pictures themselves make of a batch."""
        image = batch["image"]
        for name, features in ((UNTRAINED, encoded_images(self._twin[0], image)), (PIXELS, image.flatten(1))):
            self.banks[name].update(features, batch["label"], batch["id"])

    def keep(self) -> None:
        """Keeps some embeddings for a picture."""
        bank = self.banks["trained"]
        if bank.features:
            features, labels = bank.compute()
            self._shown = features[:_SHOWN].cpu(), labels[:_SHOWN].cpu()

    def finish(self, seed: int = 0) -> dict[str, float]:
        """The scores of all three, and chance.

        Args:
            seed: of the episodes and of what the linear probe is fitted to.
        """
        self.keep()
        scores: dict[str, float] = {}
        for name, bank in self.banks.items():
            features, labels = bank.compute()
            suffix = "" if name == "trained" else _SUFFIXES[name]
            centre = self._centres.get(name)
            found = feature_scores(
                features.cpu(), labels.cpu(), self.few_shot, seed, None if centre is None else centre.cpu()
            )
            for key, value in found.items():
                # chance does not depend on the features; the interval of another's score goes with that score's name
                if not suffix:
                    scores[key] = value
                elif not key.endswith("_chance"):
                    base = key.removesuffix("_interval")
                    scores[base + suffix + key[len(base) :]] = value
        return scores

    def figures(self) -> dict[str, Figure]:
        """The last embeddings as a map; none before the first evaluation."""
        from stablelit.families.sketches import figures

        if self._shown is None:
            return {}
        return {"embedding_map": figures.embedding_map(*self._shown, n_classes=_SHOWN_CLASSES)}
