"""Proteins for a Trainer: toy sequences of a known law or those of a FASTA file, split by a hash of their ids."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from stablelit.data import LeftOut, LengthBucketBatchSampler, ShuffleDataLoader, ShuffleSampler, leave_out
from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.families.proteins.corpora import HiddenMarkovCorpus
from stablelit.families.proteins.corpora.estimate import Estimate
from stablelit.families.proteins.dataset import Batch, SequenceDataset, already_a_batch
from stablelit.families.proteins.opened_sequences import OpenedSequences, open_split
from stablelit.families.proteins.prepared import prepared_once
from stablelit.families.proteins.sequences import Sequences
from stablelit.families.proteins.splits import check_shares
from stablelit.families.proteins.told import say
from stablelit.families.proteins.toy_sequences import check_subset_curriculum, toy_law, toy_sequences
from stablelit.families.proteins.training_order import BatchSize, LeftOutSequences, TrainingBatches
from stablelit.functional.schedules import check_count, check_flag, check_number

_OWNER = "ProteinDataModule"
_LISTED = 2**20


class ProteinDataModule(LightningDataModule):
    """TOY sequences (`path=None`; generated, of a known law), or sequences of a FASTA file.

    A batch is the dict of `SequenceDataset`. A FASTA file is prepared once, with a message, into `cache_dir`;
    `python -m stablelit.prepare proteins` does it ahead, with all its options, and `path` is then the prepared folder.
    Splits are made by a hash of the ids (see `splits`), so that new data move no sequence to another side.

    `set_difficulty(d)` is there where a curriculum is on; evaluation is at full difficulty always.

    Args:
        path: a FASTA file (plain, .gz, .bz2 or .xz), a prepared folder, or None: toy sequences.
        corpus: law of the toy sequences: "motif_hmm", "motif_hmm_8", "markov", "iid", or an object of `corpora`.
        n_sequences: how many toy sequences.
        length: of toy sequences: a number, or the arguments of `corpora.LogNormalLengths` as a mapping.
        max_length: of a training window, and of a piece in evaluation; longer sequences are cut.
        crop: of longer training sequences: "random" (a window that is another in each epoch) or "first".
        evaluation_crop: "tile" (every residue once) or "first".
        max_sequences: of the training split, spread evenly over it; None is all.
        train: share of the sequences.
        val: likewise.
        test: likewise.
        batch_size: sequences of a batch.
        max_tokens: most tokens of a padded batch, in place of a fixed number of sequences.
        multiple_of: batches are padded to a multiple of it.
        length_curriculum: at difficulty d, training windows have at most ``ceil(d * L)`` residues, L the longest at
            full difficulty.
        subset_curriculum: at difficulty d, training draws only the share d of its sequences that is most probable under
            the toy law; needs one length.
        num_workers: of the loaders; 0 is fast, since a batch is one gather.
        seed: of the toy sequences, of random windows and of the order of training.
        cache_dir: where FASTA files are prepared; None is ``$XDG_CACHE_HOME/stablelit/proteins``.
        policies: how a FASTA file is read, the arguments of `readers.policies.Policies`: ``{"ambiguous": "map"}``.
        leave_out: training sequences to do without, as in `stablelit.data.leave_out`.
        predict_on: what `predict` goes over: the "test" split, or "all" sequences, which then are not split.

    Raises:
        ConfigurationError: an argument outside its range, or arguments that do not go together; at `setup`, a split
            without a sequence.
        DataError: at `prepare_data` or `setup`, a file that cannot be used.
    """

    def __init__(
        self,
        path: str | None = None,
        corpus: str | HiddenMarkovCorpus = "motif_hmm",
        n_sequences: int = 20_000,
        length: int | Mapping[str, Any] = 64,
        max_length: int = 512,
        crop: str = "random",
        evaluation_crop: str = "tile",
        max_sequences: int | None = None,
        train: float = 0.9,
        val: float = 0.05,
        test: float = 0.05,
        batch_size: int = 128,
        max_tokens: int | None = None,
        multiple_of: int = 1,
        length_curriculum: bool = False,
        subset_curriculum: bool = False,
        num_workers: int = 0,
        seed: int = 0,
        cache_dir: str | None = None,
        policies: Mapping[str, Any] | None = None,
        leave_out: str | Sequence[int] | None = None,
        predict_on: str = "test",
    ) -> None:
        super().__init__()
        if path is not None and not isinstance(path, str | Path):
            raise bad_argument(_OWNER, "path", path, "a FASTA file, a prepared folder, or None (toy sequences)")
        self.path = None if path is None else str(path)
        self.n_sequences = check_count(_OWNER, "n_sequences", n_sequences, 1)
        self.max_length = check_count(_OWNER, "max_length", max_length, 1)
        for name, value, choices in (
            ("crop", crop, ("random", "first")),
            ("evaluation_crop", evaluation_crop, ("tile", "first")),
            ("predict_on", predict_on, ("test", "all")),
        ):
            if value not in choices:
                raise bad_argument(_OWNER, name, value, " or ".join(choices), did_you_mean(str(value), choices))
        self.crop, self.evaluation_crop, self.predict_on = crop, evaluation_crop, predict_on
        self.max_sequences = None if max_sequences is None else check_count(_OWNER, "max_sequences", max_sequences, 1)
        self.shares = {"train": train, "val": val, "test": test}
        self._bucket_ranges = check_shares(self.shares)
        self.size = BatchSize(batch_size, max_tokens, multiple_of)
        self.num_workers = check_count(_OWNER, "num_workers", num_workers, 0)
        self.seed = check_count(_OWNER, "seed", seed, 0)
        self.leave_out = leave_out
        self.length_curriculum = check_flag(_OWNER, "length_curriculum", length_curriculum)
        self.subset_curriculum = check_flag(_OWNER, "subset_curriculum", subset_curriculum)
        self.cache_dir = cache_dir
        self.policies = {} if policies is None else {str(key): value for key, value in policies.items()}
        self.corpus, self.corpus_name, self.length = toy_law(corpus, length) if path is None else (None, "", 0)
        self._check_together()
        if length_curriculum or subset_curriculum:
            # an attribute only where it does something: a curriculum that nobody hears is an error, not silence
            self.set_difficulty = self._set_difficulty
        self._opened: OpenedSequences | None = None
        self._all: Sequences | None = None
        self._batches: weakref.ref[TrainingBatches] | None = None
        self._difficulty = 1.0

    def prepare_data(self) -> None:
        """Prepares a FASTA file where that was not done yet; Lightning calls it in one process of a machine."""
        if self.path is not None:
            prepared_once(self.path, self.cache_dir, self.policies, say)

    def setup(self, stage: str | None = None) -> None:
        """Opens or generates the sequences and splits them; a second call does nothing."""
        if stage == "predict" and self.predict_on == "all":
            self._all = self._all or self._sequences()
        elif self._opened is None:
            self._opened = open_split(self._sequences(), self.corpus, self._bucket_ranges, self.max_sequences)

    @property
    def split_indices(self) -> dict[str, list[int]]:
        """The rows of the sequences of each split; nothing where they are millions: `identity` has the rule."""
        too_many = len(self._data.sequences) > _LISTED
        return {} if too_many else {name: rows.tolist() for name, rows in self._data.splits.items()}

    @cached_property
    def training_sequences(self) -> SequenceDataset | LeftOut:
        """The training split, without the sequences that are left out."""
        hardness = self._data.nll("train") if self.subset_curriculum else None
        dataset = self._dataset("train", self.crop, shorter_when_easy=self.length_curriculum, hardness=hardness)
        if dataset.n_cut:
            say(
                f"{dataset.n_cut} of {len(dataset)} training sequences have more than max_length={self.max_length} "
                f"residues: of each a window is used, and {dataset.n_residues_cut} residues lie outside in an epoch."
            )
        if self.leave_out is None:
            return dataset
        left_out = leave_out(dataset, self.leave_out).left_out
        say(f"left out {len(left_out)} training sequences; {len(dataset) - len(left_out)} are left.")
        return LeftOutSequences(dataset, left_out)

    def unigram(self) -> Tensor:
        """Share of each residue, ``(20,)`` float64: of the toy law, or of the training split (each counted once more).

        Where the training split has more than 10^8 residues, about so many are counted.
        """
        return torch.from_numpy(self._data.unigram)

    @property
    def unigram_entropy(self) -> float:
        """Entropy of `unigram`, nats: the loss of whoever knows no more than that."""
        share = self.unigram()
        return float(-torch.xlogy(share, share).sum())

    @property
    def entropy(self) -> float | None:
        """Nats a residue that no model can fall below, for windows as long as validation has; None if not known."""
        return None if self.entropy_estimate is None else self.entropy_estimate.value

    @cached_property
    def entropy_estimate(self) -> Estimate | None:
        """`entropy` with its standard error, which is 0 where the toy law has a closed form."""
        return None if self.corpus is None else self.corpus.entropy(self._dataset("val", self.evaluation_crop).lengths)

    def true_nll(self, split: str = "val") -> float | None:
        """Nats a residue of the whole sequences of a split under the toy law; None where there is none."""
        nll = self._data.nll(split)
        return None if nll is None else float(nll.sum()) / self._data.n_residues(split)

    @property
    def length_histogram(self) -> Tensor:
        """How many training windows have each length, ``(max_length + 1,)`` int64: lengths to generate."""
        lengths = self.training_sequences.lengths
        return torch.from_numpy(np.bincount(lengths, minlength=self.max_length + 1).astype(np.int64))

    def difficulty_info(self) -> dict[str, float]:
        """What the present difficulty comes to, for logs."""
        longest = math.ceil(self._difficulty * int(self.training_sequences.lengths.max()))
        info = {"longest_window": float(max(1, longest))} if self.length_curriculum else {}
        return info | ({"share_of_sequences": self._difficulty} if self.subset_curriculum else {})

    def identity(self) -> dict[str, Any]:
        """What data these are: where from, how they are split and how they are cut."""
        dataset = self.training_sequences
        return {
            **self._data.identity(),
            "buckets": {name: list(ends) for name, ends in self._bucket_ranges.items()},
            "max_length": self.max_length,
            "n_cut": (dataset.dataset if isinstance(dataset, LeftOut) else dataset).n_cut,
            "n_left_out": len(self._data.splits["train"]) - len(dataset),
            "seed": self.seed,
        }

    def train_dataloader(self) -> ShuffleDataLoader:
        """Training windows in an order that depends on the seed and the epoch alone, also after a resume."""
        dataset = self.training_sequences
        # Lightning #21938: on a resume with workers the iterator is made before Lightning calls set_epoch
        epoch = self.trainer.fit_loop.epoch_progress.current.processed if self.trainer is not None else 0
        sampler = ShuffleSampler(dataset, seed=self.seed, epoch=epoch)
        drop_last = self.size.drops_last(len(dataset))
        batches = TrainingBatches(sampler, dataset.lengths, **self.size.arguments(), drop_last=drop_last)
        batches.difficulty = self._difficulty
        self._batches = weakref.ref(batches)
        return self._loader(dataset, batches)

    def val_dataloader(self) -> ShuffleDataLoader:
        """Validation sequences, in a fixed order."""
        return self._evaluated("val")

    def test_dataloader(self) -> ShuffleDataLoader:
        """Test sequences, in a fixed order."""
        return self._evaluated("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Test sequences, or all, in the order of their rows, `batch_size` at a time."""
        return DataLoader(
            self._dataset("test" if self._all is None else None, self.evaluation_crop),
            batch_size=self.size.batch_size,
            num_workers=self.num_workers,
            collate_fn=already_a_batch,
            # without one, a loader draws from the global generator at every epoch, and evaluation moves training
            generator=torch.Generator().manual_seed(self.seed),
        )

    @property
    def n_records(self) -> int:
        """How many sequences there are, in all splits; a batch's `id` is a row of them plus a multiple of this."""
        return len(self._data.sequences if self._all is None else self._all)

    def record_name(self, row: int) -> str:
        """What a sequence is called in its file."""
        return (self._data.sequences if self._all is None else self._all).sequence_id(row)

    def _evaluated(self, split: str) -> ShuffleDataLoader:
        dataset = self._dataset(split, self.evaluation_crop)
        if dataset.n_residues_cut:
            say(f"{dataset.n_residues_cut} residues of {dataset.n_cut} {split} sequences lie outside their windows.")
        sampler = ShuffleSampler(dataset, seed=self.seed, mode="sequential")
        batches = LengthBucketBatchSampler(sampler, dataset.lengths, **self.size.arguments(), every_sample_once=True)
        return self._loader(dataset, batches)

    def _loader(self, dataset: SequenceDataset | LeftOut, batches: LengthBucketBatchSampler) -> ShuffleDataLoader:
        return ShuffleDataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=already_a_batch,
        )

    def _dataset(self, split: str | None, crop: str, **settings: Any) -> SequenceDataset:
        cut = {"max_length": self.max_length, "multiple_of": self.size.multiple_of, "seed": self.seed}
        if split is None:
            assert self._all is not None
            return SequenceDataset(self._all, np.arange(len(self._all)), crop=crop, **cut, **settings)
        return SequenceDataset(self._data.sequences, self._data.splits[split], crop=crop, **cut, **settings)

    def _sequences(self) -> Sequences:
        if self.path is not None:
            return prepared_once(self.path, self.cache_dir, self.policies, lambda told: None)
        assert self.corpus is not None
        return toy_sequences(self.corpus, self.corpus_name, self.n_sequences, self.length, self.seed)

    def _set_difficulty(self, difficulty: float) -> None:
        self._difficulty = check_number(_OWNER, "difficulty", difficulty, at_least=0.0, at_most=1.0)
        if self._batches is not None and (batches := self._batches()) is not None:
            batches.difficulty = self._difficulty

    def _check_together(self) -> None:
        known = self.path is None and isinstance(self.length, int)
        self.size.check_holds(min(self.max_length, self.length) if known else self.max_length)
        if self.policies and self.path is None:
            raise ConfigurationError(f"{_OWNER}: policies are of a FASTA file. Give path=FILE, or leave them out.")
        if self.subset_curriculum:
            check_subset_curriculum(_OWNER, known, self.leave_out is not None)

    @property
    def _data(self) -> OpenedSequences:
        if self._opened is None:
            self.setup()
        assert self._opened is not None
        return self._opened
