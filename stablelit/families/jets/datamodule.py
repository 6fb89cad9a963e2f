"""Jets for a Trainer: the toy shower or a file, split reproducibly, held as tensors, gathered a batch at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stablelit.data import ShuffleDataLoader, ShuffleSampler
from stablelit.errors import ConfigurationError, bad_argument
from stablelit.families.jets.generator import toy_shower
from stablelit.families.jets.jet_arrays import JetArrays
from stablelit.families.jets.readers import format_of, read_jets
from stablelit.families.jets.scaler import JetScaler

SPLITS = ("train", "val", "test")
_COUNT = "an int of at least 1"


class JetDataset(Dataset[dict[str, Tensor]]):
    """Jets as tensors; `__getitems__` gathers a whole batch in one indexing, without a loop over jets.

    Args:
        jets: the arrays, not copied.
        indices: which of them.
    """

    def __init__(self, jets: JetArrays, indices: Sequence[int]) -> None:
        chosen = jets.take(np.asarray(indices, dtype=np.int64))
        self.tensors = {name: torch.from_numpy(getattr(chosen, name)) for name in ("particles", "mask", "jet", "label")}
        self.tensors["id"] = torch.as_tensor(np.asarray(indices, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.tensors["label"])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: values[index] for name, values in self.tensors.items()}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        chosen = torch.as_tensor(indices)
        return {name: values[chosen] for name, values in self.tensors.items()}


def already_a_batch(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The collate function that goes with `JetDataset`: its batches are made already."""
    return batch


class JetDataModule(LightningDataModule):
    """Jets from a TOY shower (`path=None`; not Pythia) or from a file.

    A batch is ``{"particles": (B, N, 3), "mask": (B, N), "jet": (B, 4), "label": (B,)}``; see `JetArrays`. Its ``id``
    ``(B,)`` is the place of each jet among all, after empty ones were dropped, as in `split_indices`.

    One seeded permutation makes the splits: training jets from its beginning, test jets from its end, validation jets
    before them, so that changing `train` leaves validation and test jets as they are.

    Args:
        path: a file of jets (`.h5` or `.hdf5` of JetNet, `.npz` of ours); None generates toy jets.
        n_jets: how many toy jets.
        classes: of the toy jets: "q", "g", "t".
        jet_pt_gev: of the toy jets, GeV.
        train: number of jets (an int) or share of all (a float).
        val: likewise.
        test: likewise.
        batch_size: jets per batch.
        n_particles: the hardest particles of a jet that are kept, and what jets are padded to.
        num_workers: of the loaders; 0 is fastest, since a batch is one indexing.
        seed: of the toy jets, the splits and the order of training.

    Raises:
        ConfigurationError: an argument outside its range; at `setup`, splits that need more jets than there are.
        DataError: at `setup`, a file that cannot be used.
    """

    def __init__(
        self,
        path: str | None = None,
        n_jets: int = 10_000,
        classes: Sequence[str] = ("q", "g", "t"),
        jet_pt_gev: float = 1000.0,
        train: int | float = 0.7,
        val: int | float = 0.15,
        test: int | float = 0.15,
        batch_size: int = 256,
        n_particles: int = 30,
        num_workers: int = 0,
        seed: int = 0,
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
        if path is not None:
            format_of(path)
        self.path = None if path is None else str(path)
        self.n_jets, self.classes, self.jet_pt_gev = n_jets, tuple(str(c) for c in classes), jet_pt_gev
        self.shares = shares
        self.batch_size, self.n_particles, self.num_workers, self.seed = batch_size, n_particles, num_workers, seed
        self.jets: JetArrays | None = None
        self.n_empty_dropped = 0
        self.lost_pt_share = 0.0

    def setup(self, stage: str | None = None) -> None:
        """Makes or reads the jets and splits them; a second call does nothing."""
        del stage
        if self.jets is not None:
            return
        if self.path is None:
            jets = toy_shower(
                self.n_jets, self.classes, self.n_particles, jet_pt_gev=self.jet_pt_gev, seed=self.seed
            ).validate("toy_shower")
        else:
            jets = read_jets(self.path)
        jets, self.n_empty_dropped = jets.without_empty()
        if self.n_empty_dropped:
            rank_zero_info(
                f"JetDataModule: dropped {self.n_empty_dropped} jets without a particle; {len(jets)} are left."
            )
        before = jets.n_particles
        jets, self.lost_pt_share = jets.hardest(self.n_particles)
        if before > self.n_particles:
            rank_zero_info(
                f"JetDataModule: kept the {self.n_particles} hardest of up to {before} particles a jet; "
                f"{100 * self.lost_pt_share:.2f} % of the pT is lost."
            )
        self._check_splits(len(jets))
        self.jets = jets

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
        tensors = self._dataset("train").tensors
        return JetScaler.fit(tensors["particles"], tensors["mask"], tensors["jet"])

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
            "splits": {name: len(indices) for name, indices in self.split_indices.items()},
        }
        if self.path is None:
            return {"source": "toy leading-log shower (not Pythia)", "jet_pt_gev": self.jet_pt_gev, **common}
        path = Path(self.path)
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return {"source": str(path), "bytes": path.stat().st_size, "sha256": digest.hexdigest(), **common}

    def train_dataloader(self) -> ShuffleDataLoader:
        """Training jets in an order that depends on the seed and the epoch alone, also after a resume."""
        dataset = self._dataset("train")
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

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Validation jets, in a fixed order."""
        return self._in_order("val")

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Test jets, in a fixed order."""
        return self._in_order("test")

    def predict_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """The test jets, in a fixed order."""
        return self._in_order("test")

    def _in_order(self, split: str) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(
            self._dataset(split),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=already_a_batch,
            # without one, a loader draws from the global generator at every epoch, and evaluation moves training
            generator=torch.Generator().manual_seed(self.seed),
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
