"""A progress bar while a file is read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
