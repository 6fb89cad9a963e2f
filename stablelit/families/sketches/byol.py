r"""BYOL: an encoder that predicts what its own average sees in the other view; there are no negatives.

The algorithm, for sketches x, online parameters theta and their average xi::

    v0, v1 = augment(x), augment(x)
    p = Predictor(Projector(Encoder([v0, v1])))      by theta
    z' = Projector(Encoder([v0, v1]))                by xi, no gradient
    loss = (2 - 2 cos(p(v0), z'(v1))) + (2 - 2 cos(p(v1), z'(v0)))
    after each optimizer step k of K:  tau = 1 - (1 - tau0) (cos(pi k / K) + 1) / 2,  xi <- tau xi + (1 - tau) theta

The loss is 0 where everything is one vector, and 4 where views know nothing of each other: it measures no progress.

Source: Grill et al. 2020 (arXiv:2006.07733), equations 1, 2 and section 3.2 and 3.3.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stablelit.data.evaluation_batches import weight_among_ranks
from stablelit.errors import bad_argument
from stablelit.families.sketches.dataset import Batch
from stablelit.families.sketches.heads import mlp_head
from stablelit.families.sketches.losses import byol_loss
from stablelit.families.sketches.pretraining import SketchPretraining, saved_encoder
from stablelit.functional.averaging import blend_, copy_
from stablelit.functional.schedules import check_number
from stablelit.optim.build import planned_steps


class BYOL(SketchPretraining):
    """BYOL as a LightningModule.

    `training_step` returns ``loss``, and live: ``p0``, ``p1`` (predictions) and ``z0``, ``z1`` (the online projections)
    ``(B, p)``, ``h`` of both views ``(2B, d)``, with ``label`` ``(B,)``. The averaged network is in the checkpoint, is
    not trained, and moves once an optimizer step. What is evaluated is the online encoder.

    Args:
        encoder: as in `SketchPretraining`, like all that is not named here.
        image_size: S.
        in_channels: C.
        projection_hidden: width between encoder and embedding.
        projection_dim: p.
        projection_norm: "batch", "layer" or "none", of projector and predictor.
        prediction_hidden: width inside the predictor.
        tau_base: tau0; "auto" is 0.996 in runs of 10,000 steps or more, 0.99 from 1,000, and below that what looks
            back on a tenth of the run.
        tau_final: where the cosine ends.
        augment: as in `SketchPretraining`.
        grad_cache_chunk: likewise.
        learning_rate: likewise.
        lr_scaling: likewise.
        few_shot: likewise.
        optimizer: likewise.
        lr_schedule: likewise.

    Raises:
        ConfigurationError: an argument outside its range; a run without a planned end.
    """

    def __init__(
        self,
        encoder: nn.Module | Mapping[str, Any] | None = None,
        image_size: int = 32,
        in_channels: int = 1,
        projection_hidden: int = 1024,
        projection_dim: int = 128,
        projection_norm: str = "batch",
        prediction_hidden: int = 1024,
        tau_base: float | str = "auto",
        tau_final: float = 1.0,
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
        if tau_base != "auto" and (isinstance(tau_base, str) or not 0.0 <= tau_base < 1.0):
            raise bad_argument(owner, "tau_base", tau_base, "auto, or a number in [0, 1)")
        self.tau_base: float | str = tau_base
        self.tau_final = check_number(owner, "tau_final", tau_final, at_least=0.0, at_most=1.0)
        self.save_hyperparameters(ignore=["optimizer", "lr_schedule", "augment", *saved_encoder(encoder)])
        self.projector = mlp_head(self.feature_dim, projection_hidden, projection_dim, projection_norm)
        self.predictor = mlp_head(projection_dim, prediction_hidden, projection_dim, projection_norm)
        self.target = nn.ModuleDict(
            {"encoder": copy.deepcopy(self.encoder), "projector": copy.deepcopy(self.projector)}
        )
        self.target.requires_grad_(False)
        self._steps, self._updated_at = 0, 0

    def on_train_start(self) -> None:
        """Finds the length of the run."""
        dtypes = {p.dtype for p in self.target.parameters()}
        if dtypes & {torch.bfloat16, torch.float16}:
            raise bad_argument(
                type(self).__name__,
                "trainer.precision",
                self.trainer.precision,
                "32-true, bf16-mixed or 16-mixed",
                "An average in half precision stands still as soon as tau is above 0.996.",
            )
        steps = planned_steps(self.trainer)
        if not math.isfinite(steps):
            raise bad_argument(
                type(self).__name__,
                "trainer.max_epochs",
                self.trainer.max_epochs,
                "a run with an end",
                "tau needs one.",
            )
        self._steps = int(steps)
        if not 0 <= self._updated_at <= self.trainer.global_step:
            self._updated_at = self.trainer.global_step
        # a checkpoint that a callback has written at a batch's end is from before the average moved
        self._follow()

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step of the algorithm in the module docstring."""
        views = self.two_views(batch)
        self.keep_views(views, batch_idx)
        loss, p, z, h = self._predicted(views)
        self.log_dict(
            {"train/loss": loss.detach(), "train/tau": self.tau(self.trainer.global_step)},
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            batch_size=len(p) // 2,
            sync_dist=True,
        )
        (p0, p1), (z0, z1) = p.chunk(2), z.chunk(2)
        return {"loss": loss, "p0": p0, "p1": p1, "z0": z0, "z1": z1, "h": h, "label": batch["label"]}

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Moves the average, once an optimizer step."""
        del outputs, batch, batch_idx
        self._follow()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the step whose weights the average has."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["byol_updated_at"] = self._updated_at

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes it up."""
        super().on_load_checkpoint(checkpoint)
        self._updated_at = int(checkpoint.get("byol_updated_at", checkpoint.get("global_step", 0)))

    def _follow(self) -> None:
        if self.trainer.global_step > self._updated_at:
            self._updated_at = self.trainer.global_step
            self.update_target(self.tau(self._updated_at))

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Logs the loss of views that are the same at every validation; returns labels, and h of unchanged sketches."""
        h = self(batch["image"])
        self.evaluation.add(h, batch)
        with self.same_draws(batch_idx):
            loss = self._predicted(self.two_views(batch))[0]
        self.log("val/loss", loss, batch_size=weight_among_ranks(self._trainer, len(h)), sync_dist=True)
        return {"h": h, "label": batch["label"]}

    def tau(self, step: int) -> float:
        """The decay of the average after `step` optimizer steps of the run."""
        steps = max(self._steps, 1)
        if isinstance(self.tau_base, str):
            base = 0.996 if steps >= 10_000 else 0.99 if steps >= 1_000 else max(0.9, 1.0 - 10.0 / steps)
        else:
            base = self.tau_base
        return self.tau_final - (self.tau_final - base) * (math.cos(math.pi * min(step / steps, 1.0)) + 1.0) / 2.0

    def update_target(self, tau: float) -> None:
        """``xi <- tau xi + (1 - tau) theta``; what is no parameter (batch statistics) is copied."""
        for name, averaged in self.target.items():
            online = getattr(self, name)
            blend_(list(averaged.parameters()), list(online.parameters()), tau)
            copy_(list(averaged.buffers()), list(online.buffers()))

    def _predicted(self, views: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        h = self.encoded(views)
        z = self.projector(h)
        p = self.predictor(z)
        with torch.no_grad():
            target = self.target["projector"](self.target["encoder"](views).flatten(1))
        (p0, p1), (t0, t1) = p.chunk(2), target.chunk(2)
        return byol_loss(p0, t1) + byol_loss(p1, t0), p, z, h
