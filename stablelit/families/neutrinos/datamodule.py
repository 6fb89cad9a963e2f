"""Events for a Trainer: toy ones or files, split by whole files, gathered and assembled a batch at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from stablelit.data import EvaluationBatches, LeftOut, ShuffleDataLoader, ShuffleSampler, leave_out
from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.families.neutrinos.dataset import EventDataset, already_a_batch
from stablelit.families.neutrinos.event_order import Shuffle, buckets, training_sampler
from stablelit.families.neutrinos.event_store import Cache
from stablelit.families.neutrinos.geometry import DetectorGeometry
from stablelit.families.neutrinos.opened_events import OpenedEvents, Storing, open_split, tell_of
from stablelit.families.neutrinos.readers import FORMATS, EventSource, open_source
from stablelit.families.neutrinos.readers.graphnet_columns import Pointing
from stablelit.families.neutrinos.splits import check_batch_ids, check_shares
from stablelit.families.neutrinos.told import say
from stablelit.families.neutrinos.toy_folder import generated_once, toy_folder
from stablelit.functional.schedules import check_count, check_flag, check_number

PredictOn = Literal["test", "files"]
_OWNER = "NeutrinoDataModule"


class NeutrinoDataModule(LightningDataModule):
    """TOY events (`path=None`; generated once, no simulation of IceCube), or events of files.

    A batch is the dict of `event_batch`. Splits are made of whole files, see `split_events`; `split_indices` has the
    places of their events among all of the source, as `id` in a batch.

    Args:
        path: a folder or database of any format of `readers`; None generates toy events.
        format: one of `readers.FORMATS`, or "auto".
        n_events: how many toy events.
        cache_dir: where toy events are kept; None is ``$XDG_CACHE_HOME/stablelit/neutrinos``.
        batch_ids_train: files of the training split; None splits by the shares. Give all three or none.
        batch_ids_val: likewise.
        batch_ids_test: likewise.
        train: share of the files (a float) or number of events (an int).
        val: likewise.
        test: likewise.
        max_events: of the training split: the first files that hold them, and of these events spread evenly.
        batch_size: events of a batch.
        max_tokens: most sensors of a padded training batch, in place of a fixed number of events; needs `bucket`.
        max_pulses: of an event; HLC pulses are kept first.
        max_pulses_per_sensor: of a sensor in an event.
        max_auxiliary: auxiliary pulses of an event that has HLC ones, spread evenly over its time; None does not
            limit them. Summaries of sensors and events are of all pulses all the same.
        shuffle: "full", "block" (files in a random order, some mixed at a time), "sequential", or "auto": block where
            files are read again and again, otherwise full.
        bucket: whether events with like numbers of sensors share a batch, which saves padding.
        cache: where pulses lie: "auto", "memory", "files" or "memmap"; see `event_store`.
        cache_files: files that ``cache="files"`` keeps; half as many are mixed at a time where `bucket` is on.
        memory_limit_gb: up to how much ``cache="auto"`` keeps in memory, GB.
        num_workers: of the loaders; 0 is fast, since a batch is one gather.
        seed: of the toy events, of a split at random and of the order of training.
        leave_out: training events to do without, as in `stablelit.data.leave_out`.
        geometry: of the detector, a file; None takes the data's own.
        predict_on: what `predict` goes over: the test split, or the files in test/ of a Kaggle folder (no truth).
        pulse_table: GraphNeT's table of pulses; None finds it.
        truth_table: GraphNeT's table of truth; None finds it.
        columns: GraphNeT's columns that are not the usual ones: ``{"time": "hit_time"}``.
        pointing: what GraphNeT's angles point to: "origin", "momentum", or "auto" (by their names).

    Raises:
        ConfigurationError: an argument outside its range; at `setup`, splits that need more than there is.
        DataError: at `setup` or when a file is read, data that cannot be used.
    """

    def __init__(
        self,
        path: str | None = None,
        format: str = "auto",
        n_events: int = 13_500,
        cache_dir: str | None = None,
        batch_ids_train: Sequence[int] | None = None,
        batch_ids_val: Sequence[int] | None = None,
        batch_ids_test: Sequence[int] | None = None,
        train: int | float = 0.8,
        val: int | float = 0.1,
        test: int | float = 0.1,
        max_events: int | None = None,
        batch_size: int = 256,
        max_tokens: int | None = None,
        max_pulses: int = 512,
        max_pulses_per_sensor: int = 64,
        max_auxiliary: int | None = None,
        shuffle: Shuffle = "auto",
        bucket: bool = True,
        cache: Cache = "auto",
        cache_files: int = 2,
        memory_limit_gb: float = 4.0,
        num_workers: int = 0,
        seed: int = 0,
        leave_out: str | Sequence[int] | None = None,
        geometry: str | None = None,
        predict_on: PredictOn = "test",
        pulse_table: str | None = None,
        truth_table: str | None = None,
        columns: Mapping[str, str] | None = None,
        pointing: Pointing = "auto",
    ) -> None:
        super().__init__()
        if path is not None and not isinstance(path, str | Path):
            raise bad_argument(_OWNER, "path", path, "a folder, a database, or None (generated events)")
        self.path = None if path is None else str(path)
        if format not in ("auto", *FORMATS):
            raise bad_argument(_OWNER, "format", format, "auto, " + ", ".join(FORMATS), did_you_mean(format, FORMATS))
        for name, value, choices in (
            ("shuffle", shuffle, get_args(Shuffle)),
            ("cache", cache, get_args(Cache)),
            ("predict_on", predict_on, get_args(PredictOn)),
            ("pointing", pointing, get_args(Pointing)),
        ):
            if value not in choices:
                raise bad_argument(_OWNER, name, value, ", ".join(choices), did_you_mean(str(value), choices))
        self.format, self.cache_dir = format, cache_dir
        self.n_events = check_count(_OWNER, "n_events", n_events, 1)
        self.shares = {"train": train, "val": val, "test": test}
        check_shares(self.shares)
        self.batch_ids = check_batch_ids({"train": batch_ids_train, "val": batch_ids_val, "test": batch_ids_test})
        self.max_events = None if max_events is None else check_count(_OWNER, "max_events", max_events, 1)
        self.batch_size = check_count(_OWNER, "batch_size", batch_size, 1)
        self.storing = Storing(
            cache,
            check_count(_OWNER, "cache_files", cache_files, 1),
            check_number(_OWNER, "memory_limit_gb", memory_limit_gb, at_least=0.0),
            check_count(_OWNER, "max_pulses", max_pulses, 1),
            check_count(_OWNER, "max_pulses_per_sensor", max_pulses_per_sensor, 1),
            None if max_auxiliary is None else check_count(_OWNER, "max_auxiliary", max_auxiliary, 0),
        )
        self.bucket = check_flag(_OWNER, "bucket", bucket)
        self.max_tokens = None if max_tokens is None else check_count(_OWNER, "max_tokens", max_tokens, 1)
        if self.max_tokens is not None and not self.bucket:
            raise ConfigurationError(f"{_OWNER}: max_tokens needs bucket=true: without it, batches have a fixed size.")
        if self.max_tokens is not None and self.max_tokens < max_pulses:
            raise bad_argument(_OWNER, "max_tokens", max_tokens, f"at least max_pulses={max_pulses}")
        self.shuffle, self.predict_on = shuffle, predict_on
        self.num_workers = check_count(_OWNER, "num_workers", num_workers, 0)
        self.seed = check_count(_OWNER, "seed", seed, 0)
        if leave_out is not None and not isinstance(leave_out, str | Sequence):
            raise bad_argument(_OWNER, "leave_out", leave_out, "a path, places in the training split, or None")
        self.leave_out = leave_out
        self.reading: dict[str, Any] = {
            "geometry": geometry,
            "pulse_table": pulse_table,
            "truth_table": truth_table,
            "columns": None if columns is None else {str(k): str(v) for k, v in columns.items()},
            "pointing": pointing,
        }
        self._opened: OpenedEvents | None = None
        self._unlabelled: EventDataset | None = None

    def prepare_data(self) -> None:
        """Generates the toy events where they are not there yet; Lightning calls it in one process of a machine."""
        if self.path is None:
            generated_once(self.cache_dir, self.n_events, self.seed, say)

    def setup(self, stage: str | None = None) -> None:
        """Reads the table of events, splits it and opens the store; a second call does nothing."""
        if stage == "predict" and self.predict_on == "files":
            self._unlabelled = self._unlabelled or self._without_truth()
        elif self._opened is None:
            source = self._source()
            args = (self.shares, self.batch_ids, self.max_events, self.seed)
            self._opened = open_split(source, self.storing, *args)

    @property
    def geometry(self) -> DetectorGeometry:
        """The detector."""
        return self._events.source.geometry if self._unlabelled is None else self._unlabelled.geometry

    @property
    def n_empty(self) -> int:
        """Events without a pulse, left out."""
        return self._events.source.n_empty

    @property
    def n_all_auxiliary(self) -> int:
        """Events without an HLC pulse in the files read so far; all their pulses are used."""
        return self._events.source.n_all_auxiliary

    @property
    def n_cut(self) -> int:
        """Events of more than `max_pulses` pulses."""
        return self._events.n_cut

    @property
    def split_indices(self) -> dict[str, list[int]]:
        """The places of the events of each split among all events of the source."""
        return {name: places.tolist() for name, places in self._events.splits.items()}

    @cached_property
    def constant_direction(self) -> Tensor:
        """The unit vector ``(3,)`` along the mean direction of the training split: the best constant answer."""
        mean = self._events.source.table.mean_direction(self._events.splits["train"])
        return torch.as_tensor(mean, dtype=torch.float32)

    @cached_property
    def training_events(self) -> EventDataset | LeftOut:
        """The training split, without the events that are left out."""
        dataset = self._events.dataset("train")
        if self.leave_out is None:
            return dataset
        kept = leave_out(dataset, self.leave_out)
        say(f"left out {len(kept.left_out)} training events; {len(kept)} are left.")
        return kept

    def identity(self) -> dict[str, Any]:
        """What data these are: where from, a SHA-256 of the events, and how they are used."""
        identity = self._events.identity()
        if self.path is None:
            identity |= {"source": "TOY events", "generator": toy_folder(self.cache_dir, self.n_events, self.seed)[1]}
        n_train = len(self._events.splits["train"])
        return {**identity, "seed": self.seed, "n_left_out": n_train - len(self.training_events)}

    def train_dataloader(self) -> ShuffleDataLoader:
        """Training events in an order that depends on the seed and the epoch alone, also after a resume."""
        dataset = self.training_events
        # Lightning #21938: on a resume with workers the iterator is made before Lightning calls set_epoch
        epoch = self.trainer.fit_loop.epoch_progress.current.processed if self.trainer is not None else 0
        sampler = training_sampler(dataset, self.shuffle, self.bucket, self.seed, epoch)
        # a lone short batch is all there is; behind full ones it would only be noisier
        drop_last = len(dataset) > self.batch_size
        if self.bucket:
            return self._loader(
                dataset, batch_sampler=buckets(sampler, dataset, self.batch_size, self.max_tokens, drop_last)
            )
        return self._loader(dataset, sampler=sampler, batch_size=self.batch_size, drop_last=drop_last)

    def val_dataloader(self) -> ShuffleDataLoader:
        """Validation events, in a fixed order."""
        return self._evaluated("val")

    def test_dataloader(self) -> ShuffleDataLoader:
        """Test events, in a fixed order."""
        return self._evaluated("test")

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The test events, or those of test/, in the order of their files."""
        if self.predict_on == "files":
            dataset = self._unlabelled = self._unlabelled or self._without_truth()
        else:
            dataset = self._events.dataset("test")
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=already_a_batch,
            # without one, a loader draws from the global generator at every epoch, and evaluation moves training
            generator=torch.Generator().manual_seed(self.seed),
        )

    def _evaluated(self, split: str) -> ShuffleDataLoader:
        dataset = self._events.dataset(split)
        order = ShuffleSampler(dataset, seed=self.seed, mode="sequential")
        if self.bucket:
            return self._loader(dataset, batch_sampler=buckets(order, dataset, self.batch_size, every_sample_once=True))
        return self._loader(dataset, batch_sampler=EvaluationBatches(order, self.batch_size))

    def _loader(self, dataset: EventDataset | LeftOut, **order: Any) -> ShuffleDataLoader:
        return ShuffleDataLoader(
            dataset,
            **order,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=already_a_batch,
        )

    def _source(self) -> EventSource:
        if self.path is None:
            return open_source(generated_once(self.cache_dir, self.n_events, self.seed, lambda told: None), "kaggle")
        wanted = None if self.batch_ids is None else sorted(b for ids in self.batch_ids.values() for b in ids)
        return open_source(self.path, self.format, wanted, **self.reading)

    def _without_truth(self) -> EventDataset:
        if self.path is None:
            raise ConfigurationError(f"{_OWNER}: predict_on=files needs a path; toy events have no test/ files.")
        source = open_source(self.path, self.format, geometry=self.reading["geometry"], split="test")
        tell_of(source)
        every = np.arange(len(source.table))
        return EventDataset(self.storing.store(source, every), every, every, source.geometry, *self.storing.most)

    @property
    def _events(self) -> OpenedEvents:
        if self._opened is None:
            self.setup()
        assert self._opened is not None
        return self._opened
