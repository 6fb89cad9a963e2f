"""What the data module tells the user, on the first process alone."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_only


@rank_zero_only
def say(message: str) -> None:
    """Prints a line; what is left out is never silent, also where Lightning's own logger is kept quiet."""
    print(f"SketchDataModule: {message}", flush=True)
