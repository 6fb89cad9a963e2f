"""What data modules tell the user: on the first process alone, and also where Lightning's own logger is kept quiet."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch.utilities import rank_zero_only


def teller(owner: str) -> Callable[[str], None]:
    """A function that prints a line in somebody's name: what is left out or cut is never silent.

    Args:
        owner: in whose name.

    >>> teller("JetDataModule")("dropped 2 jets.")
    JetDataModule: dropped 2 jets.
    """

    def say(message: str) -> None:
        print(f"{owner}: {message}", flush=True)

    told: Callable[[str], None] = rank_zero_only(say)
    return told
