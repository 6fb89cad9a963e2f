"""Jets for a Trainer: the toy shower or a file, split reproducibly, held as tensors, gathered a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from stablelit.data import EvaluationBatches, LeftOut, ShuffleDataLoader, ShuffleSampler, leave_out
from stablelit.data.files import file_identity
from stablelit.data.told import teller
from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.families.jets.dataset import JetDataset, already_a_batch
from stablelit.families.jets.generator import toy_shower
from stablelit.families.jets.jet_arrays import JetArrays
from stablelit.families.jets.readers import check_suffixes, read_files
from stablelit.families.jets.readers.files import expanded
from stablelit.families.jets.scaler import JetScaler

SPLITS = ("train", "val", "test")
TOY_CLASSES = ("q", "g", "t")
_COUNT = "an int of at least 1"

_say = teller("JetDataModule")


class JetDataModule(LightningDataModule):
    """Jets from a TOY shower (`path=None`; not Pythia) or from a file.

    A batch is ``{"particles": (B, N, 3), "mask": (B, N), "jet": (B, 4), "label": (B,)}``; see `JetArrays`. Its ``id``
    ``(B,)`` is the place of each jet among all that are kept, as in `split_indices`.

    One seeded permutation makes the splits: training jets from its beginning, test jets from its end, validation jets
    before them, so that changing `train` leaves validation and test jets as they are.

    Args:
        path: a file of jets of any format of `readers`, a pattern ("jets_*.h5") or a list of them; None generates toy
            jets.
        n_jets: how many toy jets.
        classes: of the toy jets, "q", "g" and "t" where None; of a file, those that are kept, all where None. Labels
            are places in it.
        jet_pt_gev: of the toy jets, GeV.
        train: number of jets (an int) or share of all (a float).
        val: likewise.
        test: likewise.
        batch_size: jets per batch.
        n_particles: the hardest particles of a jet that are kept, and what jets are padded to.
        num_workers: of the loaders; 0 is fastest, since a batch is one indexing.
        seed: of the toy jets, the splits and the order of training.
        leave_out: training jets to do without: the `skipped.jsonl` of an earlier run on the same data and splits (its
            directory will do), of which those count that hold values which are not finite; or their places in the
            training split.

    Raises:
        ConfigurationError: an argument outside its range; at `setup`, splits that need more jets than there are.
        DataError: at `setup`, a file that cannot be used.
    """

    def __init__(
        self,
        path: str | Sequence[str] | None = None,
        n_jets: int = 10_000,
        classes: Sequence[str] | None = None,
        jet_pt_gev: float = 1000.0,
        train: int | float = 0.7,
        val: int | float = 0.15,
        test: int | float = 0.15,
        batch_size: int = 256,
        n_particles: int = 30,
        num_workers: int = 0,
        seed: int = 0,
        leave_out: str | Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        for name, value, least in (
            ("n_jets", n_jets, 1),
            ("batch_size", batch_size, 1),
            ("n_particles", n_particles, 1),
            ("num_workers", num_workers, 0),
            ("seed", seed, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise bad_argument(owner, name, value, f"an int of at least {least}")
        shares = {"train": train, "val": val, "test": test}
        for name, share in shares.items():
            number = isinstance(share, int | float) and not isinstance(share, bool)
            if not number or not (share >= 1 if isinstance(share, int) else 0 < share <= 1):
                raise bad_argument(owner, name, share, f"{_COUNT} (jets) or a float in (0, 1] (a share of all jets)")
        if (total := sum(s for s in shares.values() if isinstance(s, float))) > 1 + 1e-9:
            raise ConfigurationError(
                f"{owner}: train, val and test are shares that add up to {total:g}. Allowed: at most 1."
            )
        if leave_out is not None and not isinstance(leave_out, str | Sequence):
            raise bad_argument(owner, "leave_out", leave_out, "a path, a list of places in the training split, or None")
        if not (path is None or isinstance(path, str | Path | Sequence)):
            raise bad_argument(owner, "path", path, "a file, a pattern, a list of them, or None (generated jets)")
        # plain strings, whatever sequence came: a checkpoint with anything else does not load with weights_only=True
        if isinstance(path, str | Path):
            path = str(path)
        elif path is not None:
            path = [str(p) for p in path]
        self.path = path
        if self.path is not None:
            check_suffixes(self.path)
        classes = [classes] if isinstance(classes, str) else classes
        self.classes = None if classes is None else tuple(str(c) for c in classes)
        if self.classes is not None and (not self.classes or len(set(self.classes)) < len(self.classes)):
            raise bad_argument(owner, "classes", self.classes, "one or more different names, or None")
        self.n_jets, self.jet_pt_gev = n_jets, jet_pt_gev
        self.shares = shares
        self.batch_size, self.n_particles, self.num_workers, self.seed = batch_size, n_particles, num_workers, seed
        self.leave_out = leave_out
        self.jets: JetArrays | None = None
        self.n_empty_dropped = 0
        self.lost_pt_share = 0.0

    def setup(self, stage: str | None = None) -> None:
        """Makes or reads the jets and splits them; a second call does nothing."""
        del stage
        if self.jets is not None:
            return
        if self.path is None:
            classes = self.classes or TOY_CLASSES
            jets = toy_shower(
                self.n_jets, classes, self.n_particles, jet_pt_gev=self.jet_pt_gev, seed=self.seed
            ).validate("toy_shower")
        else:
            jets = self._read(self.path)
        jets, self.n_empty_dropped = jets.without_empty()
        if self.n_empty_dropped:
            _say(f"dropped {self.n_empty_dropped} jets without a particle; {len(jets)} are left.")
        self._check_splits(len(jets))
        self.jets = jets

    def _read(self, path: str | list[str]) -> JetArrays:
        reading = read_files(path, self.n_particles)
        for note in reading.notes:
            _say(f"{note}.")
        self.lost_pt_share = reading.lost_pt_share
        if reading.most_particles > self.n_particles:
            _say(
                f"kept the {self.n_particles} hardest of up to {reading.most_particles} particles a jet; "
                f"{100 * self.lost_pt_share:.2f} % of the pT is lost."
            )
        jets, _ = reading.jets.hardest(self.n_particles)
        if self.classes is None:
            return jets
        for name in self.classes:
            if name not in jets.classes:
                known = ", ".join(jets.classes)
                raise bad_argument("JetDataModule", "classes", name, known, did_you_mean(name, jets.classes))
        chosen = jets.of_classes(self.classes)
        _say(f"kept {len(chosen)} of {len(jets)} jets, those of {', '.join(self.classes)}.")
        return chosen

    @cached_property
    def split_indices(self) -> dict[str, list[int]]:
        """Which jets, by their place after empty ones were dropped, are train, val and test."""
        n_jets = len(self._jets())
        counts = self._counts(n_jets)
        order = np.random.Generator(np.random.PCG64(self.seed)).permutation(n_jets).tolist()
        first_test = n_jets - counts["test"]
        first_val = first_test - counts["val"]
        return {"train": order[: counts["train"]], "val": order[first_val:first_test], "test": order[first_test:]}

    @cached_property
    def scaler(self) -> JetScaler:
        """Statistics of the training jets; nothing of the others enters."""
        tensors = self.training_jets.__getitems__(list(range(len(self.training_jets))))
        return JetScaler.fit(tensors["particles"], tensors["mask"], tensors["jet"])

    @cached_property
    def training_jets(self) -> JetDataset | LeftOut:
        """The training split, without the jets that are left out."""
        dataset = self._dataset("train")
        if self.leave_out is None:
            return dataset
        kept = leave_out(dataset, self.leave_out)
        _say(f"left out {len(kept.left_out)} training jets; {len(kept)} are left.")
        return kept

    def identity(self) -> dict[str, Any]:
        """What data these are: the generator and its settings, or the file, its size and its SHA-256."""
        jets = self._jets()
        common = {
            "n_jets": len(jets),
            "classes": list(jets.classes),
            "n_particles": self.n_particles,
            "seed": self.seed,
            "n_empty_dropped": self.n_empty_dropped,
            "lost_pt_share": self.lost_pt_share,
            "n_left_out": len(self.split_indices["train"]) - len(self.training_jets),
            "splits": {name: len(indices) for name, indices in self.split_indices.items()},
        }
        if self.path is None:
            return {"source": "toy leading-log shower (not Pythia)", "jet_pt_gev": self.jet_pt_gev, **common}
        files = [file_identity(path) for path in expanded(self.path)]
        return {**files[0], **common} if len(files) == 1 else {"source": self.path, "files": files, **common}

    def train_dataloader(self) -> ShuffleDataLoader:
        """Training jets in an order that depends on the seed and the epoch alone, also after a resume."""
        dataset = self.training_jets
        # Lightning #21938: on a resume with workers the iterator is made before Lightning calls set_epoch
        epoch = self.trainer.fit_loop.epoch_progress.current.processed if self.trainer is not None else 0
        return ShuffleDataLoader(
            dataset,
            sampler=ShuffleSampler(dataset, seed=self.seed, epoch=epoch),
            batch_size=self.batch_size,
            # a lone short batch is all there is; behind full ones it would only be noisier
            drop_last=len(dataset) > self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=already_a_batch,
        )

    def val_dataloader(self) -> ShuffleDataLoader:
        """Validation jets, in a fixed order, each on one rank."""
        return self._evaluated("val")

    def test_dataloader(self) -> ShuffleDataLoader:
        """Test jets likewise."""
        return self._evaluated("test")

    def predict_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """The test jets, in a fixed order."""
        return DataLoader(
            self._dataset("test"),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=already_a_batch,
            # without one, a loader draws from the global generator at every epoch, and evaluation moves training
            generator=torch.Generator().manual_seed(self.seed),
        )

    def _evaluated(self, split: str) -> ShuffleDataLoader:
        dataset = self._dataset(split)
        order = ShuffleSampler(dataset, seed=self.seed, mode="sequential")
        return ShuffleDataLoader(
            dataset,
            batch_sampler=EvaluationBatches(order, self.batch_size),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=already_a_batch,
        )

    def _dataset(self, split: str) -> JetDataset:
        return JetDataset(self._jets(), self.split_indices[split])

    def _jets(self) -> JetArrays:
        if self.jets is None:
            self.setup()
        assert self.jets is not None
        return self.jets

    def _counts(self, n_jets: int) -> dict[str, int]:
        # round before the floor: 0.15 * 1000 is 150, whatever binary fractions say
        return {k: s if isinstance(s, int) else int(round(s * n_jets, 6)) for k, s in self.shares.items()}

    def _check_splits(self, n_jets: int) -> None:
        counts = self._counts(n_jets)
        asked = ", ".join(f"{name}={share} ({counts[name]} jets)" for name, share in self.shares.items())
        where = "toy_shower" if self.path is None else self.path
        if (total := sum(counts.values())) > n_jets:
            raise ConfigurationError(
                f"{type(self).__name__}: {asked} need {total} jets, but {where} has {n_jets}. Ask for fewer."
            )
        if min(counts.values()) < 1:
            raise ConfigurationError(
                f"{type(self).__name__}: {asked} of the {n_jets} jets of {where} leave a split without a jet. "
                f"Allowed: at least 1 in each. Raise its share or give counts."
            )
