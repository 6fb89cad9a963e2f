"""Says during training what an embedding is worth, by the votes of nearest neighbours; nothing is trained for it.

Runs    on_train_batch_end (fills a bank), on_validation_batch_end (collects), on_validation_epoch_end (votes, before
        checkpoints are written)
Reads   `features` and `labels` of what training_step and validation_step return; labels also from the batch
Writes  nothing
Logs    val/knn_top1 and val/knn_chance, once a validation
Resumes exactly: the bank is in the checkpoint; on several ranks rank zero's, and the others fill theirs anew
Limits  the bank's rows are as old as `bank_rows` samples, augmented, and of training mode (batch statistics); features
        of a validation stay on the device until its end; ranks gather bank and validation through the host; a sample
        that a sampler repeats counts twice; only the first validation loader; the GPU path was not run
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from stablelit.callbacks._feature_bank import FeatureBank
from stablelit.callbacks._labelled_features import FeatureReader, joined, rows_of_all_ranks
from stablelit.errors import bad_argument
from stablelit.functional.nearest_neighbours import chance_of_vote, leave_one_out_top1, weighted_vote
from stablelit.functional.schedules import check_count, check_number

_OWNER = "OnlineKNN"
BANK, LEAVE_ONE_OUT, NOTHING = "bank", "leave-one-out", "nothing"


class OnlineKNN(pl.Callback):
    """Logs the accuracy of nearest neighbours in a bank of training features, beside the score of a random neighbour.

    A contrastive loss does not say what an embedding is worth, and BYOL's falls to 0 when it is worth nothing: this is
    what to choose a checkpoint by. The vote is :func:`stablelit.functional.nearest_neighbours.weighted_vote`.

    Where no class of the validation is among those that training has seen (a split by classes), or training has no
    labels, the validation's own rows vote, none for itself. The first validation decides, and one line says so.

    Args:
        features: key of the steps' outputs, ``(n, d)``; two views of each sample follow each other as halves.
        labels: key of the outputs or of the batch, ``(n,)`` ints; below 0 is unknown.
        k: neighbours.
        temperature: of the weights ``exp(cos / T)``.
        bank_rows: training rows that are kept, on each rank.
        name: distinguishes instances in logs: ``val/<name>/knn_top1``.

    Raises:
        ConfigurationError: an argument out of range.
        ContractError: a step does not return features or labels.

    Example:
        >>> from stablelit import OnlineKNN
        >>> OnlineKNN(features="h", k=20)
        OnlineKNN(features='h', labels='label', k=20, temperature=0.07)
    """

    keeps_books = True

    def __init__(
        self,
        features: str = "h",
        labels: str = "label",
        k: int = 20,
        temperature: float = 0.07,
        bank_rows: int = 4096,
        name: str | None = None,
    ) -> None:
        for key, value in {"features": features, "labels": labels, "name": name}.items():
            if not (isinstance(value, str) and value) and (value is not None or key != "name"):
                raise bad_argument(_OWNER, key, value, "a non-empty string" + (" or None" if key == "name" else ""))
        self.k = check_count(_OWNER, "k", k, 1)
        self.temperature = check_number(_OWNER, "temperature", temperature, above=0.0)
        self.name = name
        self._reader = FeatureReader(features, labels, _OWNER)
        self._bank = FeatureBank(check_count(_OWNER, "bank_rows", bank_rows, 1))
        self._mode: str | None = None
        self._collected: list[tuple[Tensor, Tensor]] = []

    def __repr__(self) -> str:
        keys = f"features={self._reader.features!r}, labels={self._reader.labels!r}"
        return f"{_OWNER}({keys}, k={self.k}, temperature={self.temperature:g})"

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint."""
        return f"{_OWNER}[{self.name or ''}]"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins anew with a new run; a restored bank is rank zero's alone."""
        if trainer.global_step == 0:
            self._bank.clear()
            self._mode = None
        elif trainer.global_rank:
            self._bank.clear()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds the batch's features to the bank."""
        if outputs is not None and self._mode != LEAVE_ONE_OUT:
            self._bank.add(*self._reader.read(pl_module, outputs, batch, "training_step"))

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins to collect."""
        self._collected = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collects; in the sanity check only to see that everything is there."""
        if trainer.state.fn != "fit" or dataloader_idx != 0:
            return
        rows = self._reader.read(pl_module, outputs, batch, "validation_step")
        if not trainer.sanity_checking:
            self._collected.append(rows)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Votes and logs."""
        collected, self._collected = self._collected, []
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        h, label = rows_of_all_ranks(trainer, pl_module, joined(collected))
        bank, bank_label = h[:0], label[:0]
        if self._mode != LEAVE_ONE_OUT:
            bank, bank_label = rows_of_all_ranks(trainer, pl_module, self._bank.content())
        if self._mode is None and len(label):
            self._decide(label, bank_label)
        values = self._scores(h, label, bank, bank_label)
        prefix = f"val/{self.name}" if self.name else "val"
        for name, value in values.items():
            # all ranks have the same; Lightning asks for it all the same
            shown, several = name == "knn_top1", trainer.world_size > 1
            pl_module.log(f"{prefix}/{name}", value, prog_bar=shown, batch_size=1, sync_dist=several)

    def state_dict(self) -> dict[str, Any]:
        """The bank, and who votes."""
        return {"bank": self._bank.plain(), "mode": self._mode}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up."""
        self._bank.load(state_dict["bank"])
        self._mode = state_dict["mode"]

    def _decide(self, label: Tensor, bank_label: Tensor) -> None:
        known = label[label >= 0]
        shared = float(torch.isin(known, bank_label).double().mean()) if len(known) else 0.0
        if not len(known):
            self._mode, told = NOTHING, "no label of the validation is known: nothing is logged"
        elif shared:
            self._mode = BANK
            told = f"training features vote; they know the classes of {shared:.0%} of the validation samples"
        else:
            self._mode = LEAVE_ONE_OUT
            why = "training has no known label" if not bool((bank_label >= 0).any()) else "no class of it is trained on"
            told = f"the validation samples vote for each other: {why}"
            self._bank.clear()
        rank_zero_info(f"{self.state_key}: {told}.")

    def _scores(self, h: Tensor, label: Tensor, bank: Tensor, bank_label: Tensor) -> dict[str, float]:
        if self._mode == LEAVE_ONE_OUT and len(h) > 1:
            top1 = leave_one_out_top1(h, label, self.k, self.temperature)
            return {"knn_top1": float(top1), "knn_chance": float(chance_of_vote(label, label, leave_one_out=True))}
        if self._mode == BANK and len(h) and len(bank):
            known = label >= 0
            voted = weighted_vote(h[known], bank, bank_label, self.k, self.temperature)
            top1 = (voted == label[known]).double().mean()
            return {"knn_top1": float(top1), "knn_chance": float(chance_of_vote(label, bank_label))}
        return {}
