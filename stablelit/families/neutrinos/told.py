"""What the data module tells the user: on the first process alone, and a bar while files are read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stablelit.data.told import teller

say = teller("NeutrinoDataModule")


@contextmanager
def reading_bar(n_files: int, what: str = "files") -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; the function it gives is told how many files are done."""
    from tqdm import tqdm

    is_shown = n_files > 1 and sys.stderr.isatty()
    with tqdm(total=n_files, unit="file", desc=what, disable=not is_shown, leave=False) as bar:

        def done(n: int) -> None:
            bar.update(n - bar.n)

        yield done
