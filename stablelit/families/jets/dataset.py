"""Jets held as tensors, gathered a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stablelit.families.jets.jet_arrays import JetArrays


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
