"""Trains a linear classifier on an embedding while the embedding is learned, and never touches it.

Runs    on_train_batch_end (a step of its own), on_train_epoch_end (logs); on_validation_epoch_start (ranks),
        on_validation_batch_end, on_validation_epoch_end (logs, before checkpoints are written)
Reads   `features` and `labels` of what training_step and validation_step return, detached; labels also from the batch
Writes  nothing: its weights are in neither the module nor its optimizers
Logs    train/linear_top1 and train/linear_chance once an epoch, val/linear_top1 and val/linear_chance once a validation
Resumes exactly: weights, optimizer and counts are in the checkpoint; on several ranks rank zero's for all
Limits  a step for every batch, also of an accumulation; each rank trains its own head, and before a validation all take
        the mean of theirs; the accuracy of training is each batch's before the step on it; only the first validation
        loader; the GPU path was not run
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from stablelit.callbacks._epoch_log import log_epoch
from stablelit.callbacks._labelled_features import FeatureReader
from stablelit.callbacks._probe_head import ProbeHead
from stablelit.callbacks._ranks import gather_from_ranks
from stablelit.errors import ContractError, bad_argument
from stablelit.functional.schedules import check_count, check_number

_OWNER = "OnlineLinearProbe"


class OnlineLinearProbe(pl.Callback):
    """Logs the accuracy of a linear classifier on detached features, beside chance (one of the classes seen).

    What it learns from the labels does not reach the encoder. Features are standardised by their running moments. A
    probe that is fitted to its optimum on the frozen encoder is better by a few percent; this one follows the training.

    Where no class of the validation is one that was trained on (a split by classes) there is nothing for it to
    predict: it says so once, and is off.

    Args:
        features: key of the steps' outputs, ``(n, d)``; two views of each sample follow each other as halves.
        labels: key of the outputs or of the batch, ``(n,)`` ints from 0; below 0 is unknown.
        n_classes: C; None asks the module's or datamodule's `n_classes`, then the datamodule's `classes`.
        lr: of its Adam.
        name: distinguishes instances in logs: ``val/<name>/linear_top1``.

    Raises:
        ConfigurationError: an argument out of range.
        ContractError: a step does not return features or labels, nobody knows how many classes there are, or a label
            is beyond them.

    Example:
        >>> from stablelit import OnlineLinearProbe
        >>> OnlineLinearProbe(n_classes=10)
        OnlineLinearProbe(features='h', labels='label', n_classes=10)
    """

    keeps_books = True

    def __init__(
        self,
        features: str = "h",
        labels: str = "label",
        n_classes: int | None = None,
        lr: float = 1e-2,
        name: str | None = None,
    ) -> None:
        for key, value in {"features": features, "labels": labels, "name": name}.items():
            if not (isinstance(value, str) and value) and (value is not None or key != "name"):
                raise bad_argument(_OWNER, key, value, "a non-empty string" + (" or None" if key == "name" else ""))
        self.n_classes = None if n_classes is None else check_count(_OWNER, "n_classes", n_classes, 2)
        self.lr = check_number(_OWNER, "lr", lr, above=0.0)
        self.name = name
        self._reader = FeatureReader(features, labels, _OWNER)
        self._head: ProbeHead | None = None
        self._saved: dict[str, Any] | None = None
        self._is_off = False
        self._seen: Tensor | None = None
        self._counts: Tensor | None = None

    def __repr__(self) -> str:
        keys = f"features={self._reader.features!r}, labels={self._reader.labels!r}"
        return f"{_OWNER}({keys}, n_classes={self.n_classes})"

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint."""
        return f"{_OWNER}[{self.name or ''}]"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins anew with a new run."""
        if trainer.global_step == 0:
            self._head, self._saved, self._is_off = None, None, False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Takes a step on the batch's features."""
        if self._is_off or outputs is None:
            return
        h, label = self._reader.read(pl_module, outputs, batch, "training_step")
        if self._head is None:
            n_classes = self._count_classes(trainer, pl_module)
            self._head = ProbeHead(h.shape[1], n_classes, self.lr, h.device)
            if self._saved is not None:
                self._restore(self._head, self._saved)
        self._head.train_on(h, label)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs the accuracy on what was trained on."""
        if self._is_off or self._head is None:
            return
        head = self._head
        mine = [int(n) for n in (head.hits, head.known, head.beyond)], (head.seen > 0).tolist()
        everywhere = gather_from_ranks(trainer, mine)
        hits, known, beyond = (sum(counts[i] for counts, _ in everywhere) for i in range(3))
        head.begin_epoch()
        if beyond:
            raise ContractError(
                f"{self.state_key}: {beyond} labels of training are {len(head.bias)} or more, beyond "
                f"n_classes={len(head.bias)}. Give n_classes= their number."
            )
        classes = sum(any(seen) for seen in zip(*(seen for _, seen in everywhere), strict=True))
        if known:
            values = {"linear_top1": hits / known, "linear_chance": 1 / classes}
            log_epoch(trainer, {f"{self._prefix('train')}/{name}": value for name, value in values.items()})

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Makes one head of all ranks'."""
        self._counts = self._seen = None
        if trainer.state.fn == "fit" and not trainer.sanity_checking and self._head is not None and not self._is_off:
            self._seen = self._head.average_over_ranks(trainer.world_size)
            self._counts = torch.zeros(3, dtype=torch.long, device=self._seen.device)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Counts; in the sanity check only sees that everything is there."""
        if self._is_off or trainer.state.fn != "fit" or dataloader_idx != 0:
            return
        rows = self._reader.read(pl_module, outputs, batch, "validation_step")
        if self._head is not None and self._counts is not None and self._seen is not None:
            self._counts = self._counts + self._head.judge(*rows, self._seen)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs, or finds that there is nothing to predict."""
        if self._counts is None or self._seen is None:
            return
        everywhere = gather_from_ranks(trainer, self._counts.tolist())
        hits, known, familiar = (sum(counts[i] for counts in everywhere) for i in range(3))
        classes = int((self._seen > 0).sum())
        self._counts = self._seen = None
        if not familiar:
            self._is_off, self._head = True, None
            why = "no class of the validation is trained on" if known and classes else "labels are unknown"
            rank_zero_info(f"{self.state_key}: {why}, so that there is nothing to predict: it is off.")
            return
        for name, value in {"linear_top1": hits / known, "linear_chance": 1 / classes}.items():
            # all ranks have the same; Lightning asks for it all the same
            shown, several = name == "linear_top1", trainer.world_size > 1
            pl_module.log(f"{self._prefix('val')}/{name}", value, prog_bar=shown, batch_size=1, sync_dist=several)

    def state_dict(self) -> dict[str, Any]:
        """The head with its optimizer and counts, or that it is off."""
        return {"head": self._saved if self._head is None else self._head.plain(), "is_off": self._is_off}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up; the head at the first batch, where its device is known."""
        self._head, self._saved = None, state_dict["head"]
        self._is_off = bool(state_dict["is_off"])

    def _prefix(self, stage: str) -> str:
        return f"{stage}/{self.name}" if self.name else stage

    def _restore(self, head: ProbeHead, saved: dict[str, Any]) -> None:
        self._saved = None
        before = tuple(saved["weight"].shape)
        if before != head.shape:
            rank_zero_info(
                f"{self.state_key}: the checkpoint's head is {before}, now it is {head.shape}: it begins anew."
            )
            return
        head.load(saved)

    def _count_classes(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> int:
        datamodule = getattr(trainer, "datamodule", None)
        classes = getattr(datamodule, "classes", None)
        sources = [self.n_classes, getattr(pl_module, "n_classes", None), getattr(datamodule, "n_classes", None)]
        sources.append(len(classes) if isinstance(classes, Sized) else None)
        for found in sources:
            if isinstance(found, int) and not isinstance(found, bool) and found >= 2:
                return found
        raise ContractError(
            f"{self.state_key}: neither {type(pl_module).__name__} nor its datamodule says how many classes there are "
            f"(n_classes, or classes). Give n_classes= their number."
        )
