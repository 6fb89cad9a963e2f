"""What the notebooks share: a Trainer without progress bars, findings as plain lines, one style.

``from quiet import Trainer`` takes what ``lightning.pytorch.Trainer`` takes.
"""

from __future__ import annotations

import json
import logging
import tempfile
import textwrap
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import matplotlib.pyplot as plt
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning

from stablelit import HistoryWriter

_FOLDER = tempfile.TemporaryDirectory(prefix="stablelit-notebook-", ignore_cleanup_errors=True)

# models so small gain nothing from more
torch.set_num_threads(1)
plt.style.use(Path(__file__).with_name("figures.mplstyle"))
# which devices there are, and whether a loader has few workers, is of no interest with toy data
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", category=PossibleUserWarning)
warnings.filterwarnings(
    "ignore", message=".*LeafSpec.*|.*isinstance.treespec.*", category=FutureWarning
)


def _in_plain_lines(message: Warning | str, *place: Any) -> None:
    print(textwrap.fill(str(message), 110, subsequent_indent="    "))


# what a callback has found is a warning; a notebook needs no path and line of it
warnings.showwarning = _in_plain_lines


def Trainer(callbacks: Any = (), **kwargs: Any) -> pl.Trainer:
    """Lightning's Trainer on a CPU, without bar and logger; HistoryWriter keeps what is logged."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": tempfile.mkdtemp(dir=_FOLDER.name),
    }
    return pl.Trainer(callbacks=[*callbacks, HistoryWriter()], **{**quiet, **kwargs})


def curve(trainer: pl.Trainer, name: str) -> tuple[list[int], list[float]]:
    """Epochs, from 1, and what was logged under a name, out of the run's history.jsonl."""
    lines = [
        json.loads(line)
        for line in (Path(trainer.default_root_dir) / "history.jsonl").read_text().splitlines()
    ]
    found = [(line["epoch"] + 1, float(line[name])) for line in lines if name in line]
    return [epoch for epoch, _ in found], [value for _, value in found]
