"""Tensors that a data set holds, where it is a map-style one that holds any."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, SequentialSampler, Subset, TensorDataset

_MOST_NUMBERS = 20_000_000


def loader_of(loaders: Any) -> Any:
    """The one loader, where there is one: not of a mapping or of several."""
    if isinstance(loaders, list | tuple) and len(loaders) == 1:
        loaders = loaders[0]
    return loaders if hasattr(loaders, "dataset") else None


def map_dataset(loader: Any) -> Any:
    """Its data set, where that has a length and rows."""
    dataset = getattr(loader, "dataset", None)
    is_map = (
        not isinstance(dataset, IterableDataset) and hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    )
    return dataset if is_map else None


def sample_tensors(dataset: Any) -> dict[str, Tensor]:
    """The tensors of a `TensorDataset`, or of a part of one, named as a batch of them is: ``batch[0]``."""
    if isinstance(dataset, Subset):
        whole = sample_tensors(dataset.dataset)
        if not whole or len(dataset.indices) * max(t[0].numel() for t in whole.values()) > _MOST_NUMBERS:
            return {}
        indices = torch.as_tensor(list(dataset.indices), dtype=torch.long)
        return {name: tensor[indices] for name, tensor in whole.items()}
    if isinstance(dataset, TensorDataset) and type(dataset).__getitem__ is TensorDataset.__getitem__:
        return {f"batch[{index}]": tensor for index, tensor in enumerate(dataset.tensors) if len(tensor)}
    return {}


def attribute_tensors(dataset: Any, depth: int = 0) -> dict[str, Tensor]:
    """Tensors and arrays among its attributes, and theirs, that have as many rows as it."""
    held: dict[str, Tensor] = {}
    for name, value in getattr(dataset, "__dict__", {}).items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim:
            value = torch.from_numpy(value) if value.flags.writeable else None
        if isinstance(value, Tensor) and value.ndim and len(value) == len(dataset):
            held[name] = value
        elif depth < 2 and map_dataset(_Holder(value)) is not None and not isinstance(value, list | dict | str):
            inside = sample_tensors(value) or attribute_tensors(value, depth + 1)
            held |= {f"{name}.{inner}": tensor for inner, tensor in inside.items()}
    return held


def rows_not_finite(tensor: Tensor) -> int:
    """Rows of a tensor with a value that is not finite; 0 where it is too large to look."""
    if not tensor.is_floating_point() or tensor.numel() > _MOST_NUMBERS or not tensor.is_cpu:
        return 0
    # an overflow of the sum is looked at again
    if bool(torch.isfinite(tensor.sum())):
        return 0
    return int((~tensor.isfinite()).reshape(len(tensor), -1).any(1).sum())


def comes_in_order(loader: Any) -> bool:
    """Whether rows come as they are stored."""
    return isinstance(getattr(loader, "sampler", None), SequentialSampler)


def may_be_ordered(loader: Any) -> bool:
    """Whether nothing shuffles the rows on their way: they come as they are stored, or as a stream gives them."""
    return comes_in_order(loader) or isinstance(getattr(loader, "dataset", None), IterableDataset)


class _Holder:
    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
