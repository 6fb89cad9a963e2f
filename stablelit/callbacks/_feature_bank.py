"""The last rows of features that training has seen, first in, first out, on the device that they come from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class FeatureBank:
    """A ring of rows with labels; how many there are is a number of the host, so that nothing waits.

    Args:
        size: rows that are kept.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._rows: Tensor | None = None
        self._labels: Tensor | None = None
        self._filled = self._at = 0

    def __len__(self) -> int:
        return self._filled

    def add(self, rows: Tensor, labels: Tensor) -> None:
        """Adds ``(n, d)`` and ``(n,)`` in place of the oldest; other widths than before begin anew."""
        rows, labels = rows[-self.size :], labels[-self.size :]
        if self._rows is None or self._labels is None or self._rows.shape[1] != rows.shape[1]:
            self._rows, self._labels = rows.new_zeros(self.size, rows.shape[1]), labels.new_full((self.size,), -1)
            self._filled = self._at = 0
        if self._rows.device != rows.device:
            self._rows, self._labels = self._rows.to(rows.device), self._labels.to(rows.device)
        first = min(len(rows), self.size - self._at)
        for begin, part in ((self._at, slice(0, first)), (0, slice(first, None))):
            self._rows[begin : begin + len(rows[part])] = rows[part]
            self._labels[begin : begin + len(rows[part])] = labels[part]
        self._at = (self._at + len(rows)) % self.size
        self._filled = min(self._filled + len(rows), self.size)

    def clear(self) -> None:
        """Forgets everything."""
        self._rows = self._labels = None
        self._filled = self._at = 0

    def content(self) -> tuple[Tensor, Tensor]:
        """Rows and labels, the oldest first."""
        if self._rows is None or self._labels is None:
            return torch.zeros(0, 0), torch.zeros(0, dtype=torch.long)
        begin = self._at if self._filled == self.size else 0
        rows, labels = (torch.cat([t[begin : self._filled], t[:begin]]) for t in (self._rows, self._labels))
        return rows, labels

    def plain(self) -> dict[str, Any]:
        """For a checkpoint."""
        rows, labels = self.content()
        return {"rows": rows.cpu(), "labels": labels.cpu()}

    def load(self, state: dict[str, Any]) -> None:
        """Takes it up; of a larger bank the newest rows."""
        self.clear()
        if len(state["rows"]):
            self.add(state["rows"].clone(), state["labels"].clone())
