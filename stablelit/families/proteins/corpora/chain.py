"""Finite Markov chains: their stationary law, and draws from the rows of a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stablelit.errors import ConfigurationError, bad_argument

Floats = NDArray[np.float64]
_SLACK = 1e-9


def checked_law(owner: str, name: str, values: ArrayLike, shape: Sequence[int | None]) -> Floats:
    """Probabilities that sum to 1 along the last axis, as float64, read-only.

    Raises:
        ConfigurationError: another shape, a value that is no probability, a row that does not sum to 1 within 1e-9.
    """
    try:
        law = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise bad_argument(owner, name, values, "an array of probabilities") from None
    wanted = ", ".join("any" if size is None else str(size) for size in shape)
    if law.ndim != len(shape) or any(w is not None and w != s for w, s in zip(shape, law.shape, strict=True)):
        raise ConfigurationError(f"{owner}: {name} has shape {law.shape}. Allowed: ({wanted}).")
    if law.size == 0 or not np.isfinite(law).all() or (law < 0).any():
        raise bad_argument(owner, name, values, "probabilities: finite, none below 0, at least one of them")
    total = law.sum(axis=-1)
    worst = int(np.abs(total - 1.0).argmax())
    if abs(float(total.flat[worst]) - 1.0) > _SLACK:
        where = f" of row {worst}" if law.ndim > 1 else ""
        raise ConfigurationError(f"{owner}: {name}: the sum{where} is {float(total.flat[worst])!r}. Allowed: 1.")
    law /= total[..., None]
    law.setflags(write=False)
    return law


def stationary_law(transition: Floats, owner: str) -> Floats:
    """The law that a step of the chain leaves as it is: ``pi T = pi``, shape ``(S,)``.

    Raises:
        ConfigurationError: there is more than one, because the chain falls into parts.
    """
    n = len(transition)
    # the null space of T' - 1 has as many dimensions as the chain has closed parts
    _, singular, vectors = np.linalg.svd(transition.T - np.eye(n))
    if n > 1 and singular[-2] < 1e-10:
        raise ConfigurationError(
            f"{owner}: the transitions fall into parts that are never left, so that the chain has no one stationary "
            f"law. Connect them."
        )
    law = np.abs(vectors[-1])
    law[law < 1e-15] = 0.0
    return law / law.sum()


def entropy_of(law: Floats) -> Floats:
    """``-sum p ln p`` along the last axis, nats."""
    return -np.where(law > 0, law * np.log(np.where(law > 0, law, 1.0)), 0.0).sum(axis=-1)


class RowSampler:
    """Draws from a row of a table of laws by the inverse of its distribution function.

    Args:
        table: ``(R, K)``, each row a law.
    """

    def __init__(self, table: Floats) -> None:
        self.width = table.shape[1]
        self._last = self.width - 1 - (table[:, ::-1] > 0).argmax(axis=1)
        # a sum of probabilities may miss 1 by a rounding error
        reached = np.minimum(np.cumsum(table, axis=1), 1.0)
        reached[np.arange(self.width) >= self._last[:, None]] = 1.0
        # all rows one behind the other: one binary search finds row and column
        self._edges = (reached + np.arange(len(table))[:, None]).ravel()

    def draw(self, row: NDArray[np.integer], uniform: Floats) -> NDArray[np.int64]:
        """Columns, of the shape of `row`, from uniform numbers in [0, 1)."""
        column = np.searchsorted(self._edges, uniform + row, side="right") - row * self.width
        # row + uniform may be rounded up to the next row
        return np.minimum(column, self._last[row])
