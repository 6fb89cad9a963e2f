"""Lightning's rich progress bar, at a refresh rate that does not cost steps, and absent where there is no terminal.

Runs    wherever the bar does
Reads   the metrics logged with prog_bar=True
Writes  the terminal
Logs    nothing
Resumes nothing to resume
Limits  needs a terminal; EpochPrinter is its counterpart elsewhere
"""

from __future__ import annotations

import sys
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar

from stablelit.errors import bad_argument


class StableProgressBar(RichProgressBar):
    """A progress bar without the version number, refreshed every `refresh_rate` batches.

    Args:
        refresh_rate: batches between two drawings; each costs about a millisecond.
        leave: keep the finished epochs' bars on the screen.

    Raises:
        ConfigurationError: a refresh rate below 1.
    """

    def __init__(self, refresh_rate: int = 20, leave: bool = False) -> None:
        if isinstance(refresh_rate, bool) or not isinstance(refresh_rate, int) or refresh_rate < 1:
            raise bad_argument("StableProgressBar", "refresh_rate", refresh_rate, "an int of at least 1")
        super().__init__(refresh_rate=refresh_rate, leave=leave)

    def __repr__(self) -> str:
        return f"StableProgressBar(refresh_rate={self.refresh_rate})"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Switches itself off where nobody would see it: escape codes do not belong into log files."""
        super().setup(trainer, pl_module, stage)
        if sys.stdout is None or not sys.stdout.isatty():
            self.disable()

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """What the bar shows."""
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        return items
