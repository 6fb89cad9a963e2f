"""What the user is told: on the first process alone, and a bar while a file is read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities import rank_zero_only


@rank_zero_only
def say(message: str) -> None:
    """Prints a line; what is left out or cut is never silent, also where Lightning's own logger is kept quiet."""
    print(f"ProteinDataModule: {message}", flush=True)


@contextmanager
def reading_bar(n_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; the function it gives is told how many bytes are done.

    Args:
        n_bytes: in all; None where a packed file does not say.
    """
    from tqdm import tqdm

    is_shown = sys.stderr.isatty()
    with tqdm(total=n_bytes, unit="B", unit_scale=True, desc="reading", disable=not is_shown, leave=False) as bar:

        def done(n: int) -> None:
            bar.update(n - bar.n)

        yield done
