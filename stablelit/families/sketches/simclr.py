r"""SimCLR: an encoder that tells two views of one sketch from views of all others.

The algorithm, for a batch of N sketches x::

    v0, v1 = augment(x), augment(x)                  each at random
    h = Encoder([v0, v1]),  z = Projector(h)         one forward pass of 2N pictures
    s_ij = cos(z_i, z_j) / T
    loss = mean over 2N rows of  -s_{i, p(i)} + log sum over j != i of exp(s_ij)

`p(i)` is the other view of the same sketch, and the other 2N - 2 rows are negatives, those of all ranks included.
A network that knows nothing has loss ln(2N - 1), whatever T; no network goes below
``ln(1 + (2N - 2) exp(-(1 + 1 / (N - 1)) / T))``. The excess is where between the two it is: 1 and 0.

Source: Chen et al. 2020 (arXiv:2002.05709), algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from stablelit.data.evaluation_batches import weight_among_ranks
from stablelit.errors import DataError
from stablelit.families.sketches.dataset import Batch
from stablelit.families.sketches.heads import mlp_head
from stablelit.families.sketches.pretraining import SketchPretraining, saved_encoder
from stablelit.functional.contrastive import nt_xent
from stablelit.functional.contrastive_levels import chance_nt_xent, excess, floor_nt_xent
from stablelit.functional.schedules import check_count, check_flag, check_number


class SimCLR(SketchPretraining):
    """SimCLR as a LightningModule.

    `training_step` returns ``loss``, and live: ``z0`` and ``z1`` ``(B, p)``, ``h`` of both views ``(2B, d)``, with
    ``label`` ``(B,)``. Logged beside the loss are its chance level, its floor and its excess.

    Args:
        encoder: as in `SketchPretraining`, like all that is not named here.
        image_size: S.
        in_channels: C.
        projection_hidden: width between encoder and embedding.
        projection_dim: p.
        projection_norm: "batch", "layer" or "none", see `mlp_head`.
        temperature: T.
        gather: whether negatives come from all ranks.
        loss_chunk: rows of the loss that are computed at a time, "auto", or None for all.
        augment: as in `SketchPretraining`.
        grad_cache_chunk: likewise.
        learning_rate: likewise.
        lr_scaling: likewise.
        few_shot: likewise.
        optimizer: likewise.
        lr_schedule: likewise.

    Raises:
        ConfigurationError: an argument outside its range.
    """

    def __init__(
        self,
        encoder: nn.Module | Mapping[str, Any] | None = None,
        image_size: int = 32,
        in_channels: int = 1,
        projection_hidden: int = 512,
        projection_dim: int = 128,
        projection_norm: str = "batch",
        temperature: float = 0.2,
        gather: bool = True,
        loss_chunk: int | str | None = "auto",
        augment: nn.Module | None = None,
        grad_cache_chunk: int | None = None,
        learning_rate: float = 1e-3,
        lr_scaling: str = "none",
        few_shot: Sequence[Sequence[int]] = ((5, 1), (5, 5), (20, 1)),
        optimizer: Callable[..., Any] | None = None,
        lr_schedule: Callable[..., Any] | None = None,
    ) -> None:
        few_shot = [[int(n) for n in row] for row in few_shot]
        encoder = dict(encoder) if isinstance(encoder, Mapping) else encoder
        super().__init__(
            encoder, image_size, in_channels, augment, grad_cache_chunk, learning_rate, lr_scaling, few_shot,
            optimizer, lr_schedule,
        )  # fmt: skip
        owner = type(self).__name__
        self.temperature = check_number(owner, "temperature", temperature, above=0.0)
        self.gather = check_flag(owner, "gather", gather)
        if loss_chunk is not None and loss_chunk != "auto":
            check_count(owner, "loss_chunk", loss_chunk, 1)
        self.loss_chunk = loss_chunk
        self.save_hyperparameters(ignore=["optimizer", "lr_schedule", "augment", *saved_encoder(encoder)])
        self.projector = mlp_head(self.feature_dim, projection_hidden, projection_dim, projection_norm)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step of the algorithm in the module docstring."""
        views = self.two_views(batch)
        self.keep_views(views, batch_idx)
        loss, z, h = self._contrasted(views)
        self.log_dict(
            self._levels("train", loss.detach(), len(z) // 2),
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            batch_size=len(z) // 2,
            sync_dist=True,
        )
        z0, z1 = z.chunk(2)
        return {"loss": loss, "z0": z0, "z1": z1, "h": h, "label": batch["label"]}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Logs the loss of views that are the same at every validation; returns h of the sketch as it is, and labels.

        A last batch of one sketch has no negatives, and no loss.
        """
        h = self(batch["image"])
        self.evaluation.add(h, batch)
        if len(h) > 1:
            with self.same_draws(batch_idx):
                loss, z, _ = self._contrasted(self.two_views(batch), gather=False)
            values = self._levels("val", loss, len(z) // 2, gathered=False)
            weight = weight_among_ranks(self._trainer, len(z) // 2)
            self.log_dict(values, batch_size=weight, sync_dist=True)
        return {"h": h, "label": batch["label"]}

    def _contrasted(self, views: Tensor, gather: bool | None = None) -> tuple[Tensor, Tensor, Tensor]:
        h = self.encoded(views)
        z = self.projector(h)
        if len(z) < 4:
            raise DataError(
                f"{type(self).__name__}: a batch of one sketch has no negatives. Allowed: batches of at least 2."
            )
        z0, z1 = z.chunk(2)
        gather = self.gather if gather is None else gather
        loss = nt_xent(z0, z1, float(self.temperature), gather=gather, chunk_size=self.loss_chunk)
        return loss, z, h

    def _levels(self, stage: str, loss: Tensor, n: int, gathered: bool | None = None) -> dict[str, Any]:
        n *= self.trainer.world_size if (self.gather if gathered is None else gathered) else 1
        temperature = float(self.temperature)
        return {
            f"{stage}/loss": loss,
            f"{stage}/excess": excess(loss, n, temperature),
            f"{stage}/chance": chance_nt_xent(n),
            f"{stage}/floor": floor_nt_xent(n, temperature),
        }
