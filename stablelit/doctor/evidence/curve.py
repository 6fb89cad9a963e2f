"""A number over optimizer steps, kept in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stablelit.functional.medians import medians_of_rows

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]
_MOST_POINTS = 65_536


class Curve:
    """Values by optimizer step, oldest first; values that are not finite are kept as they are.

    Where it has 65,536 points the older half is thinned by two (the means of neighbours), so that a run of any length
    takes one megabyte, and what is recent is always there step by step.

    Args:
        steps: in ascending order.
        values: as many.

    Example:
        >>> curve = Curve(range(4), [4.0, 2.0, 3.0, 1.0])
        >>> curve.blocks(2).tolist()
        [3.0, 2.0]
    """

    def __init__(self, steps: ArrayLike = (), values: ArrayLike = ()) -> None:
        self._steps = np.asarray(steps, dtype=np.float64).copy()
        self._values = np.asarray(values, dtype=np.float64).copy()
        if self._steps.shape != self._values.shape or self._steps.ndim != 1:
            raise ValueError(f"Curve: {self._steps.shape} steps and {self._values.shape} values.")
        self._length = len(self._steps)

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"Curve({self._length} points)"

    @property
    def steps(self) -> Floats:
        """The steps (n,), a view."""
        steps: Floats = self._steps[: self._length]
        return steps

    @property
    def values(self) -> Floats:
        """The values (n,), a view."""
        values: Floats = self._values[: self._length]
        return values

    @property
    def last(self) -> float:
        """The newest value; NaN where there is none."""
        return float(self._values[self._length - 1]) if self._length else float("nan")

    def add(self, step: float, value: float) -> None:
        """Appends a point."""
        if self._length == len(self._steps):
            if self._length >= _MOST_POINTS:
                self._thin()
            else:
                # never beyond the bound, so that a curve from a checkpoint is thinned where the whole run's is
                room = np.empty(min(max(64, self._length), _MOST_POINTS - self._length))
                self._steps = np.concatenate([self._steps, room])
                self._values = np.concatenate([self._values, room])
        self._steps[self._length] = step
        self._values[self._length] = value
        self._length += 1

    def extend(self, steps: Sequence[float], values: Sequence[float]) -> None:
        """Appends points."""
        room = len(self._steps) - self._length
        if len(steps) > room:
            for step, value in zip(steps, values, strict=True):
                self.add(step, value)
            return
        self._steps[self._length : self._length + len(steps)] = steps
        self._values[self._length : self._length + len(steps)] = values
        self._length += len(steps)

    def finite(self) -> Curve:
        """Only the points whose value is finite."""
        keep = np.isfinite(self.values)
        return self if bool(keep.all()) else Curve(self.steps[keep], self.values[keep])

    def since(self, step: float) -> Curve:
        """The points at `step` and after."""
        first = int(np.searchsorted(self.steps, step))
        return Curve(self.steps[first:], self.values[first:])

    def tail(self, n: int) -> Curve:
        """The last n points."""
        first = max(0, self._length - n)
        return Curve(self.steps[first:], self.values[first:])

    def blocks(self, n: int) -> Floats:
        """The medians of n blocks of equal length (n,), oldest first; fewer where there are fewer points.

        The oldest ``len % n`` points are left out.
        """
        n = min(n, self._length)
        if n == 0:
            return np.empty(0)
        length = self._length // n
        return medians_of_rows(self.values[self._length - n * length :].reshape(n, length))

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors: lists of 65,536 numbers would take a quarter of a second to save."""
        import torch  # two seconds, which whoever reads logs need not wait

        return {"steps": torch.from_numpy(self.steps.copy()), "values": torch.from_numpy(self.values.copy())}

    @classmethod
    def of_state(cls, state: dict[str, Tensor]) -> Curve:
        """From what `state_dict` gave."""
        return cls(state["steps"].cpu().numpy(), state["values"].cpu().numpy())

    def _thin(self) -> None:
        half = self._length // 4 * 2
        for array in (self._steps, self._values):
            array[: half // 2] = array[:half].reshape(-1, 2).mean(1)
            array[half // 2 : self._length - half // 2] = array[half : self._length].copy()
        self._length -= half // 2
