"""What a batch of any project holds: its tensors in order, how many samples it has, and a fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from stablelit.errors import ConfigurationError, ContractError, bad_argument, did_you_mean

ItemCount = str | Callable[[Any], Any]
"""A key of the batch, or a callable of it."""

_FINGERPRINT_TENSORS, _FINGERPRINT_NUMBERS = 4, 256


def tensors_of(batch: Any, depth: int = 4) -> Iterator[Tensor]:
    """The dense tensors in a batch: in mappings, sequences, data classes and graphs."""
    if isinstance(batch, Tensor):
        if batch.layout == torch.strided and not batch.is_nested:
            yield batch
    elif depth == 0 or isinstance(batch, str | bytes):
        return
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors_of(value, depth - 1)
    elif isinstance(batch, Sequence):
        for value in batch:
            yield from tensors_of(value, depth - 1)
    elif callable(getattr(batch, "to_dict", None)):
        yield from tensors_of(batch.to_dict(), depth - 1)
    elif hasattr(batch, "__dict__"):
        yield from tensors_of(vars(batch), depth - 1)


def sample_count(batch: Any) -> int:
    """The length of the first tensor, or the number of graphs; 1 where neither is there."""
    first = batch[0] if isinstance(batch, list | tuple) and batch else batch
    if not isinstance(first, Tensor):
        graphs = getattr(batch, "num_graphs", None)
        if isinstance(graphs, int):
            return graphs
        first = next(tensors_of(batch), None)
    return 1 if first is None or first.dim() == 0 else first.shape[0]


def fingerprint(batch: Any) -> str:
    """A short text that tells batches apart by the beginnings of their first tensors; empty where there are none.

    It waits for the device.
    """
    digest = hashlib.blake2b(digest_size=8)
    tensors = list(islice(tensors_of(batch), _FINGERPRINT_TENSORS))
    for tensor in tensors:
        begin = tensor.detach().reshape(-1)[:_FINGERPRINT_NUMBERS].cpu().contiguous()
        digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(begin.view(torch.uint8).numpy().tobytes() if begin.numel() else b"")
    return digest.hexdigest() if tensors else ""


class ItemCounter:
    """Counts a batch's real items and its places, without waiting for the device.

    Args:
        real: key of a boolean mask (True where an item is real; ``"~key"`` where True is padding), key of a tensor of
            lengths, or a callable of the batch that returns a number or a 0-dim tensor; None counts nothing.
        places: a callable of the batch; None takes the size of the mask, and is needed for nothing else.
        owner: for messages.

    Raises:
        ConfigurationError: not one of these.
    """

    def __init__(self, real: ItemCount | None, places: ItemCount | None, owner: str) -> None:
        for name, value in (("items", real), ("padded_items", places)):
            if value is not None and not callable(value) and (not isinstance(value, str) or not value.lstrip("~")):
                raise bad_argument(owner, name, value, "a key of the batch, a callable of it, or None")
        if places is not None and real is None:
            raise ConfigurationError(f"{owner}: padded_items is given without items; padding is what is between them.")
        self.owner = owner
        self._real, self._places = real, places
        self.real: Any = 0
        self.places: Any = 0

    def add(self, batch: Any) -> None:
        """Counts a batch.

        Raises:
            ContractError: the batch has no such key; the message lists what is there.
        """
        if self._real is None:
            return
        if isinstance(self._real, str):
            inverted = self._real.startswith("~")
            found = self._look_up(batch, self._real.lstrip("~"))
            if found.dtype != torch.bool and (inverted or (found.dim() > 1 and self._places is None)):
                raise ContractError(
                    f"{self.owner}: items={self._real!r} is a tensor of {found.dtype}, shape {tuple(found.shape)}. "
                    f"A mask must be boolean (mask.bool()); lengths have one dimension and no '~'."
                )
            count = found.sum()
            if found.dtype == torch.bool:
                self.real += found.numel() - count if inverted else count
                self.places += found.numel() if self._places is None else 0
            else:
                self.real += count
        else:
            self.real += self._real(batch)
        if self._places is not None:
            self.places += self._places(batch) if callable(self._places) else self._look_up(batch, self._places).sum()

    def look_at(self, batch: Any) -> None:
        """Tries a batch without counting it: a wrong key is told at once, and not after the warm-up.

        Raises:
            ContractError: as `add`.
        """
        before = self.real, self.places
        self.add(batch)
        self.real, self.places = before

    def take(self) -> tuple[float, float]:
        """Real items and places since the last call; waits for the device."""
        real, places = float(self.real), float(self.places)
        self.real = self.places = 0
        if places and not 0 <= real <= places:
            raise ContractError(
                f"{self.owner}: {real:g} items in {places:g} places; allowed: no more items than places. Look at "
                f"items={self._real!r} and padded_items={self._places!r}."
            )
        return real, places

    def _look_up(self, batch: Any, key: str) -> Tensor:
        found = batch.get(key) if isinstance(batch, Mapping) else getattr(batch, key, None)
        if isinstance(found, Tensor):
            return found
        keys = [str(k) for k in batch] if isinstance(batch, Mapping) else sorted(getattr(batch, "__dict__", {}))
        near = did_you_mean(key, keys)
        raise ContractError(
            f"{self.owner}: the batch, a {type(batch).__name__}, has no tensor {key!r}. It has "
            f"{', '.join(keys) or 'no named parts'}. {near + ' ' if near else ''}Give items= a key that is there, or a "
            f"callable of the batch."
        )
