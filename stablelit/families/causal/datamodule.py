"""Sensors for a Trainer: toy ones or a file, split without a leak, whole or in batches that a resume continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from stablelit.data import EvaluationBatches, LeftOut, ShuffleDataLoader, ShuffleSampler, leave_out
from stablelit.data.told import teller
from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.families.causal.dataset import (
    OneAtATime,
    SensorDataset,
    TrainingRows,
    WholeBatches,
    already_a_batch,
)
from stablelit.families.causal.description import sortabilities, told_of_panel, told_of_splits
from stablelit.families.causal.panel import Ints, SensorPanel
from stablelit.families.causal.readers import PanelSettings
from stablelit.families.causal.readers.settings import NA_VALUES
from stablelit.families.causal.scaler import SCALES, ColumnScaler
from stablelit.families.causal.source import FileSource, MemorySource, ToySource, refuse_without_file
from stablelit.families.causal.splits import Splitting, split_rows
from stablelit.functional.schedules import check_count

_OWNER = "SensorDataModule"

_say = teller(_OWNER)


class SensorDataModule(LightningDataModule):
    """Sensors of a TOY structural equation model (`path=None`) or of a file.

    A batch is ``{"values": (B, 1 + lags, d), "mask": (B, 1 + lags, d), "scored": (B, d), "environment": (B,),
    "id": (B,)}``, see `SensorDataset`: raw values, the newest row first, and the row's place in the panel.

    With ``batch_size=None`` the whole training split is one batch, and an epoch gives the same tensors
    `steps_per_epoch` times, moved to a device once: nothing may write into them. Several ranks share its rows.

    Args:
        path: a file of any format of `readers`; None makes toy sensors.
        sem: arguments of `SyntheticSEM` for the toy sensors; its seed is `seed` where it has none.
        columns: the sensors of a file, in this order; None is every column that has no other role.
        time_column: when a row was recorded: numbers or ISO dates; a list (date and time of day) is joined by a blank.
        time_format: of other dates, as `datetime.strptime` takes it.
        sort: whether rows are sorted by time.
        na_values: numbers and texts that stand for a cell that was not observed; NaN always does.
        mask: a file (.npy, .npz with `mask`, .csv, .parquet) with 1 where a cell was observed and 0 where not.
        environment_column: under which conditions a row was recorded; its values are the environments' names.
        interventions: environment to the column or columns that were set from outside there.
        truth: a file with the true graph, see `truth`.
        truth_convention: of a matrix in it: "row" ([i, j] is i -> j) or "column" ([i, j] is j -> i).
        allow_cyclic: whether a true graph with a cycle is no error.
        lags: how many rows before a row belong to it.
        split: "block" (up to `blocks` periods, each with its own share of every split), "time" (one) or "iid" (a random
            permutation, for rows without an order); see `splits`.
        blocks: of "block".
        gap: rows left out between splits, at least `lags`; None is `lags`.
        train: share of the rows.
        val: likewise; 0 is no validation.
        test: likewise.
        batch_size: rows per batch; None is all of them.
        steps_per_epoch: of ``batch_size=None``.
        scale: of `scaler`: "standard", "robust", "center" or "none". Batches are not scaled, the learner scales them.
        num_workers: of the loaders of batches; 0 is fastest, since a batch is one indexing.
        seed: of the toy sensors, of "iid" splits and of the order of training.
        leave_out: training rows to do without: the `skipped.jsonl` of an earlier run on the same data and splits (its
            directory will do), or their places in the training split.

    Attributes:
        notes: everything that was printed about the data.

    Raises:
        ConfigurationError: an argument outside its range; at `setup`, a split without a row.
        DataError: at `setup`, a file that cannot be used.
    """

    def __init__(
        self,
        path: str | None = None,
        sem: Mapping[str, Any] | None = None,
        columns: Sequence[str] | None = None,
        time_column: str | Sequence[str] | None = None,
        time_format: str | None = None,
        sort: bool = False,
        na_values: Sequence[Any] = NA_VALUES,
        mask: str | None = None,
        environment_column: str | None = None,
        interventions: Mapping[Any, Any] | None = None,
        truth: str | None = None,
        truth_convention: str = "row",
        allow_cyclic: bool = False,
        lags: int = 0,
        split: str = "block",
        blocks: int = 10,
        gap: int | None = None,
        train: float = 0.7,
        val: float = 0.15,
        test: float = 0.15,
        batch_size: int | None = None,
        steps_per_epoch: int = 100,
        scale: str = "standard",
        num_workers: int = 0,
        seed: int = 0,
        leave_out: str | Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not (path is None or (isinstance(path, str | Path) and str(path))):
            raise bad_argument(_OWNER, "path", path, "a file, or None (toy sensors)")
        self.path = None if path is None else str(path)
        self.seed = check_count(_OWNER, "seed", seed, 0)
        reading = PanelSettings(
            columns, time_column, time_format, sort, na_values, mask, environment_column, interventions
        )
        self.source: ToySource | FileSource | MemorySource
        if self.path is None:
            refuse_without_file({**vars(reading), "truth": truth})
            self.source = ToySource(sem, self.seed)
        else:
            self.source = FileSource(self.path, reading, truth, truth_convention, allow_cyclic)
        shares = {"train": train, "val": val, "test": test}
        self.splitting = Splitting(shares, split, lags, gap, blocks, self.seed)
        self.lags = self.splitting.lags
        if scale not in SCALES:
            raise bad_argument(_OWNER, "scale", scale, ", ".join(SCALES), did_you_mean(str(scale), SCALES))
        self.scale = scale
        self.batch_size = None if batch_size is None else check_count(_OWNER, "batch_size", batch_size, 1)
        self.steps_per_epoch = check_count(_OWNER, "steps_per_epoch", steps_per_epoch, 1)
        self.num_workers = check_count(_OWNER, "num_workers", num_workers, 0)
        if leave_out is not None and not isinstance(leave_out, str | Sequence):
            allowed = "a path, a list of places in the training split, or None"
            raise bad_argument(_OWNER, "leave_out", leave_out, allowed)
        self.leave_out = leave_out
        self.panel: SensorPanel | None = None
        self.notes: list[str] = []
        # batches that are handed out again and again, and their copies on a device
        self._evaluated: dict[str, WholeBatches] = {}
        self._on_device: dict[int, tuple[dict[str, Tensor], torch.device, dict[str, Tensor]]] = {}

    @classmethod
    def from_panel(cls, panel: SensorPanel, **settings: Any) -> SensorDataModule:
        """A datamodule of rows that are in memory already; `settings` are its arguments without `path` and `sem`.

        Raises:
            DataError: a panel that is not valid.
        """
        made = cls(**settings)
        if made.path is not None:
            raise bad_argument(_OWNER, "path", made.path, "None, of rows in memory")
        made.source = MemorySource(panel)
        made.setup()
        return made

    def setup(self, stage: str | None = None) -> None:
        """Makes or reads the rows and splits them; a second call does nothing."""
        del stage
        if self.panel is not None:
            return
        delivered = self.source.deliver()
        panel = delivered.panel
        splits = split_rows(panel, self.splitting)
        self.panel, self._splits = panel, splits
        self.sortabilities = sortabilities(panel)
        told = told_of_panel(panel, delivered.called, self.sortabilities)
        for note in (*delivered.notes, *told, *told_of_splits(panel, splits, self.splitting)):
            self._note(note)

    def _note(self, message: str) -> None:
        self.notes.append(message)
        _say(f"{message}.")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return self._panel().names

    @property
    def truth(self) -> Tensor | None:
        """``(d, d)`` bool, True at [i, j] where i -> j is known to be an edge; None where it is not known."""
        truth = self._panel().truth
        return None if truth is None else torch.from_numpy(truth)

    @property
    def split_indices(self) -> dict[str, list[int]]:
        """Which rows, by their place in the panel, are train, val and test."""
        self._panel()
        return {name: rows.tolist() for name, rows in self._splits.rows.items()}

    @cached_property
    def scaler(self) -> ColumnScaler:
        """Statistics of the observed cells of training rows; nothing of the others enters."""
        panel, rows = self._panel(), self._training_rows()
        return ColumnScaler.fit(panel.values[rows], panel.mask[rows], panel.names, self.scale)

    @cached_property
    def training_data(self) -> SensorDataset | LeftOut:
        """The training split, without the rows that are left out."""
        dataset = self._rows_of("train")
        if self.leave_out is None:
            return dataset
        kept = leave_out(dataset, self.leave_out)
        self._note(f"left out {len(kept.left_out)} training rows; {len(kept)} are left")
        return kept

    def training_panel(self) -> TrainingRows:
        """The training rows as float64 arrays, for moments and for a search over graphs."""
        return TrainingRows.of(self._panel(), self._training_rows(), self.lags)

    def identity(self) -> dict[str, Any]:
        """What data these are: the toy model and its settings, or the file, its size and its SHA-256."""
        panel = self._panel()
        common = {
            "n_rows": len(panel),
            "names": list(panel.names),
            "missing_share": panel.missing_share,
            "environments": list(panel.environment_names),
            "true_edges": None if panel.truth is None else int(panel.truth.sum()),
            **self.sortabilities,
            "lags": self.lags,
            "gap": self.splitting.gap,
            "split": self.splitting.split,
            "n_left_out": len(self._splits.rows["train"]) - len(self.training_data),
            "splits": {name: len(rows) for name, rows in self._splits.rows.items()},
        }
        return {**self.source.identity(panel), **common}

    def train_dataloader(self) -> ShuffleDataLoader:
        """Training rows, all at once or in an order that depends on the seed and the epoch alone."""
        # Lightning #21938: on a resume with workers the iterator is made before Lightning calls set_epoch
        epoch = self.trainer.fit_loop.epoch_progress.current.processed if self.trainer is not None else 0
        if self.batch_size is None:
            whole = WholeBatches(self._training_batch, self.steps_per_epoch)
            # every rank takes every step, on rows of its own
            order = ShuffleSampler(whole, seed=self.seed, epoch=epoch, num_replicas=1, rank=0)
            return ShuffleDataLoader(whole, batch_sampler=OneAtATime(order, 1, False), collate_fn=already_a_batch)
        return ShuffleDataLoader(
            self.training_data,
            sampler=ShuffleSampler(self.training_data, seed=self.seed, epoch=epoch),
            batch_size=self.batch_size,
            # a lone short batch is all there is; behind full ones it would only be noisier
            drop_last=len(self.training_data) > self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=already_a_batch,
        )

    def val_dataloader(self) -> Any:
        """Validation rows in the order of their recording; no loader where their share is 0."""
        return self._in_order("val")

    def test_dataloader(self) -> Any:
        """Test rows likewise."""
        return self._in_order("test")

    def predict_dataloader(self) -> Any:
        """All rows that have their lags, also those in gaps, in the order of their recording."""
        return self._in_order("predict")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves a batch; one that is handed out again and again is moved once."""
        kept = self._on_device.get(id(batch))
        if kept is not None and kept[0] is batch and kept[1] == device:
            return kept[2]
        moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
        if self.batch_size is None:
            self._on_device[id(batch)] = (batch, device, moved)
        return moved

    @cached_property
    def _training_batch(self) -> dict[str, Tensor]:
        data = self.training_data
        rank, ranks = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        if len(data) < ranks:
            raise ConfigurationError(f"{_OWNER}: {len(data)} training rows for {ranks} ranks. Use fewer ranks.")
        return data.__getitems__(list(range(rank, len(data), ranks)))

    def _in_order(self, split: str) -> Any:
        dataset = self._rows_of(split)
        if not len(dataset):
            return []
        # without one, a loader draws from the global generator at every epoch, and evaluation moves training
        generator = torch.Generator().manual_seed(self.seed)
        if self.batch_size is None:
            if split not in self._evaluated:
                self._evaluated[split] = WholeBatches(dataset.whole())
            return DataLoader(self._evaluated[split], batch_size=1, collate_fn=already_a_batch, generator=generator)
        loading: dict[str, Any] = {
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "collate_fn": already_a_batch,
        }
        if split == "predict":
            return DataLoader(dataset, batch_size=self.batch_size, generator=generator, **loading)
        order = ShuffleSampler(dataset, seed=self.seed, mode="sequential")
        return ShuffleDataLoader(dataset, batch_sampler=EvaluationBatches(order, self.batch_size), **loading)

    @cached_property
    def _all_rows(self) -> SensorDataset:
        panel = self._panel()
        return SensorDataset(panel, self._splits.usable, self.lags)

    def _rows_of(self, split: str) -> SensorDataset:
        everything = self._all_rows
        return everything if split == "predict" else everything.of_rows(self._splits.rows[split])

    def _training_rows(self) -> Ints:
        data = self.training_data
        rows = self._splits.rows["train"]
        return rows[data.original(range(len(data)))] if isinstance(data, LeftOut) else rows

    def _panel(self) -> SensorPanel:
        if self.panel is None:
            self.setup()
        assert self.panel is not None
        return self.panel
