"""Sketches for a Trainer: generated or read, split by classes or samples, as batches or as few-shot episodes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from stablelit.data import EvaluationBatches, LeftOut, ShuffleDataLoader, ShuffleSampler, leave_out
from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.families.sketches.dataset import FAULTS, Batch, SketchDataset, already_a_batch
from stablelit.families.sketches.episode_plan import EpisodePlan
from stablelit.families.sketches.generator import generate_sketches
from stablelit.families.sketches.opened_sketches import OpenedSketches, checked_path, identity_of, opened
from stablelit.families.sketches.readers import FORMATS, open_source
from stablelit.families.sketches.splits import SPLITS, Part
from stablelit.families.sketches.stroke_augmentation import StrokeAugment
from stablelit.families.sketches.told import say
from stablelit.functional.schedules import check_count, check_flag, check_number

_OWNER = "SketchDataModule"
_SPLIT_BY = ("class", "group", "samples")
_SAMPLE_FROM = ("batches", "episodes")
_PREDICT_ON = ("test", "all")


class SketchDataModule(LightningDataModule):
    """Generated TOY sketches (`path=None`), or sketches of files.

    A batch is ``image`` ``(B, 1, S, S)`` float32, ink 1 on paper 0, ``label`` ``(B,)``, -1 where unknown, and ``id``
    ``(B,)``, its place among all sketches as in `split_indices`. With `stroke_augment` a training batch also has
    ``views`` ``(2, B, 1, S, S)``, drawn of strokes that were changed separately. An episode is a batch of
    ``n_way * (n_shot + n_query)`` sketches, class after class, the support of each before its queries.

    Args:
        path: a folder or file of any format of `readers`; None generates.
        format: one of `readers.FORMATS`, or "auto"; "digits" needs no path.
        size: S, the edge of a picture in pixels.
        n_classes: of the generated sketches.
        per_class: generated sketches of a class.
        jitter: by how much generated sketches of one class differ.
        max_per_class: sketches of a class that are read at most; None reads all.
        recognized_only: of Quick, Draw! only what its game had recognised.
        invert: whether pictures are ink on paper ("auto" looks at their borders).
        line_width: of what is drawn from strokes, pixels.
        split: "class": no class in two splits; "group": nor a group of classes (an alphabet); "samples": every class
            in each.
        train: a share, a number of classes (of groups, of samples) or their names.
        val: likewise.
        test: likewise.
        batch_size: sketches per batch.
        draw: "batches", or "episodes" for few-shot training.
        n_way: classes of a training episode.
        n_shot: support sketches of a class.
        n_query: query sketches of a class.
        n_episodes: of a training epoch.
        eval_way: classes of an episode of validation and test.
        n_val_episodes: the same ones at every validation.
        n_test_episodes: of a test.
        stroke_augment: changes strokes in training, see `StrokeAugment`; None does not. Needs data with strokes.
        fault: for experiments with it: "raw" pictures nobody has normalised, black ink 0 on white paper 255;
            "alpha_lost", transparent drawings whose transparency was dropped, which leaves blank pages; None is none.
        predict_on: what `predict` goes over: the "test" split, or "all" sketches, which then are not split.
        num_workers: of the loaders; 0 is fast, since a batch is one indexing.
        seed: of the generated sketches, a split of samples, the order of training and the episodes.
        leave_out: training sketches to do without, as in `stablelit.data.leave_out`.

    Raises:
        ConfigurationError: an argument outside its range; at `setup`, splits that the classes do not allow.
        DataError: at `setup`, data that cannot be used.
    """

    def __init__(
        self,
        path: str | None = None,
        format: str = "auto",
        size: int = 32,
        n_classes: int = 200,
        per_class: int = 20,
        jitter: float = 0.15,
        max_per_class: int | None = None,
        recognized_only: bool = True,
        invert: bool | str = "auto",
        line_width: float = 1.5,
        split: str = "class",
        train: Part = 0.6,
        val: Part = 0.2,
        test: Part = 0.2,
        batch_size: int = 256,
        draw: str = "batches",
        n_way: int = 20,
        n_shot: int = 1,
        n_query: int = 5,
        n_episodes: int = 100,
        eval_way: int = 5,
        n_val_episodes: int = 200,
        n_test_episodes: int = 600,
        stroke_augment: StrokeAugment | None = None,
        fault: str | None = None,
        predict_on: str = "test",
        num_workers: int = 0,
        seed: int = 0,
        leave_out: str | Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        choices = {"format": (format, ("auto", *FORMATS)), "split": (split, _SPLIT_BY), "draw": (draw, _SAMPLE_FROM)}
        choices["predict_on"] = (predict_on, _PREDICT_ON)
        for name, (value, allowed) in choices.items():
            if value not in allowed:
                raise bad_argument(_OWNER, name, value, ", ".join(allowed), did_you_mean(str(value), allowed))
        self.path = checked_path(path, format, split)
        if invert not in ("auto", True, False):
            raise bad_argument(_OWNER, "invert", invert, "auto, true or false")
        self.format, self.split, self.draw, self.predict_on = format, split, draw, predict_on
        self.size = check_count(_OWNER, "size", size, 8)
        self.generated = {
            "n_classes": check_count(_OWNER, "n_classes", n_classes, 2),
            "per_class": check_count(_OWNER, "per_class", per_class, 2),
            "jitter": check_number(_OWNER, "jitter", jitter, at_least=0.0),
        }
        self.reading = {
            "max_per_class": None if max_per_class is None else check_count(_OWNER, "max_per_class", max_per_class, 2),
            "recognized_only": check_flag(_OWNER, "recognized_only", recognized_only),
            "invert": invert,
        }
        self.line_width = check_number(_OWNER, "line_width", line_width, above=0.0)
        # plain lists, whatever sequence came: a checkpoint with anything else does not load with weights_only=True
        self.parts = {name: _part(part) for name, part in zip(SPLITS, (train, val, test), strict=True)}
        self.batch_size = check_count(_OWNER, "batch_size", batch_size, 2)
        self.episodes = EpisodePlan(
            _OWNER, n_way, eval_way, n_shot, n_query, n_episodes, n_val_episodes, n_test_episodes
        )
        if stroke_augment is not None and not isinstance(stroke_augment, StrokeAugment):
            raise bad_argument(_OWNER, "stroke_augment", stroke_augment, "a StrokeAugment or None")
        if fault is not None and fault not in FAULTS:
            raise bad_argument(_OWNER, "fault", fault, f"null, {', '.join(FAULTS)}", did_you_mean(str(fault), FAULTS))
        self.stroke_augment, self.fault = stroke_augment, fault
        if fault and stroke_augment is not None:
            raise ConfigurationError(f"{_OWNER}: fault={fault} and stroke_augment exclude each other: views are good.")
        self.num_workers = check_count(_OWNER, "num_workers", num_workers, 0)
        self.seed = check_count(_OWNER, "seed", seed, 0)
        if leave_out is not None and not isinstance(leave_out, str | Sequence):
            raise bad_argument(_OWNER, "leave_out", leave_out, "a path, places in the training split, or None")
        self.leave_out = leave_out
        self._opened: OpenedSketches | None = None

    def setup(self, stage: str | None = None) -> None:
        """Generates or reads the sketches and splits them; a second call does nothing."""
        unsplit = stage == "predict" and self.predict_on == "all"
        if self._opened is not None and (unsplit or len(self._opened.splits["train"])):
            return
        if self.path is None:
            sketches = generate_sketches(**self.generated, seed=self.seed)
        else:
            sketches = open_source(self.path, self.format, self.size, seed=self.seed, **self.reading)
        if self.stroke_augment is not None and sketches.strokes is None:
            raise ConfigurationError(
                f"{_OWNER}: stroke_augment changes strokes, and {self.path} has pictures. Give data with strokes "
                f"(quickdraw, svg, omniglot_strokes, stroke3), or data.stroke_augment=null."
            )
        split = None if unsplit else self.split
        self._opened = opened(sketches, self.size, self.line_width, split, self.parts, self.seed)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, which labels are places in."""
        return self._sketches.sketches.classes

    @property
    def places(self) -> Sequence[str]:
        """Where each sketch comes from, by its id: a file, or file:line."""
        return self._sketches.sketches.places

    @property
    def split_indices(self) -> dict[str, list[int]]:
        """The places of the sketches of each split among all of them."""
        return {name: where.tolist() for name, where in self._sketches.splits.items()}

    @cached_property
    def training_sketches(self) -> SketchDataset | LeftOut:
        """The training split, without the sketches that are left out."""
        dataset = self._dataset("train", self.stroke_augment is not None)
        if self.leave_out is None:
            return dataset
        kept = leave_out(dataset, self.leave_out)
        say(f"left out {len(kept.left_out)} training sketches; {len(kept)} are left.")
        return kept

    def identity(self) -> dict[str, Any]:
        """What data these are: the generator and its settings, or the files, and how they are split."""
        opened_now = self._sketches
        of_data = (
            {"source": "TOY sketches, generated", **self.generated}
            if self.path is None
            else identity_of(self.path, opened_now.sketches)
        )
        n_train = len(opened_now.splits["train"])
        return {
            **of_data,
            "sketches": len(opened_now.sketches),
            "left_out": dict(opened_now.sketches.left_out.counts),
            "split": self.split,
            "splits": {name: len(where) for name, where in opened_now.splits.items()},
            "classes": {name: len(names) for name, names in opened_now.classes_of_split.items()},
            "size": self.size,
            "seed": self.seed,
            "n_left_out": n_train - len(self.training_sketches),
        }

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training sketches (or episodes) in an order that depends on the seed and the epoch alone."""
        dataset = self.training_sketches
        # Lightning #21938: on a resume with workers the iterator is made before Lightning calls set_epoch
        epoch = self.trainer.fit_loop.epoch_progress.current.processed if self.trainer is not None else 0
        if self.draw == "episodes":
            return self._episodes("train", dataset, epoch)
        return self._loader(
            dataset,
            sampler=ShuffleSampler(dataset, seed=self.seed, epoch=epoch),
            batch_size=self.batch_size,
            # a last short batch has another chance level, and other batch statistics
            drop_last=len(dataset) > self.batch_size,
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation sketches in a fixed order, or the same episodes every time."""
        return self._evaluated("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """As in validation."""
        return self._evaluated("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The test sketches, or all, in the order of the data."""
        now = self._sketches
        everything = np.arange(len(now.sketches))
        return DataLoader(
            self._sketches_at(everything if self.predict_on == "all" else now.splits["test"]),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=already_a_batch,
            # without one, a loader draws from the global generator at every epoch, and evaluation moves training
            generator=torch.Generator().manual_seed(self.seed),
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Draws two views of strokes that were changed separately, where the batch has strokes."""
        del dataloader_idx
        if "points" not in batch:
            return batch
        assert self.stroke_augment is not None
        strokes = [batch.pop(name) for name in ("points", "begins", "point_mask")]
        return {**batch, "views": self.stroke_augment.views(*strokes, size=self.size, line_width=self.line_width)}

    def _evaluated(self, split: str) -> DataLoader[Batch]:
        dataset = self._dataset(split)
        if self.draw == "episodes":
            return self._episodes(split, dataset)
        order = ShuffleSampler(dataset, seed=self.seed, mode="sequential")
        return self._loader(dataset, batch_sampler=EvaluationBatches(order, self.batch_size))

    def _episodes(self, split: str, dataset: SketchDataset | LeftOut, epoch: int = 0) -> DataLoader[Batch]:
        inner, gone = (dataset.dataset, dataset.left_out) if isinstance(dataset, LeftOut) else (dataset, [])
        labels = np.delete(inner.labels.numpy(), gone)
        of = self.path or "the generated sketches"
        return self._loader(dataset, batch_sampler=self.episodes.sampler(split, labels, self.seed, epoch, of))

    def _loader(self, dataset: SketchDataset | LeftOut, **order: Any) -> ShuffleDataLoader:
        return ShuffleDataLoader(
            dataset,
            **order,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=already_a_batch,
        )

    def _dataset(self, split: str, with_strokes: bool = False) -> SketchDataset:
        where = self._sketches.splits[split]
        if split != "train":
            # lying class by class, a batch of them would have few but false negatives
            where = np.random.default_rng(self.seed).permutation(where)
        return self._sketches_at(where, with_strokes)

    def _sketches_at(self, where: NDArray[np.int64], with_strokes: bool = False) -> SketchDataset:
        now = self._sketches
        strokes = now.sketches.strokes if with_strokes else None
        return SketchDataset(now.images, now.sketches.labels, where, strokes, self.fault)

    @property
    def _sketches(self) -> OpenedSketches:
        if self._opened is None:
            self.setup()
        assert self._opened is not None
        return self._opened


def _part(part: Part) -> int | float | list[str]:
    return part if isinstance(part, int | float) else [part] if isinstance(part, str) else [str(name) for name in part]
