"""`weights=`: a training that begins with the weights of another run, and with nothing else of it (fine-tuning).

In an EMA run's checkpoint these are the average. What a checkpoint has besides (optimizer, schedules, epoch, callbacks,
random states) is left where it is; a resume takes it up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from omegaconf import DictConfig

from stablelit.callbacks._snapshots import is_sharded
from stablelit.data.files import file_identity, replacing
from stablelit.errors import ConfigurationError
from stablelit.run.build import Parts
from stablelit.run.checkpoint import fills_itself, locate_run, read_checkpoint, require_match
from stablelit.run.directory import BEST_CHECKPOINT
from stablelit.run.table import shown_path
from stablelit.run_files import from_json

WEIGHTS_FILE = "weights.json"
_WAY_OUT = "Give the model the values of the checkpoint, or begin without weights=."


def initial_checkpoint(config: DictConfig) -> Path | None:
    """The checkpoint that `weights=` means; None without it, and in a resumed run, which has weights of its own.

    Raises:
        ConfigurationError: nothing there, or no checkpoint in it.
    """
    given = config.get("weights")
    if given is None or config.get("resume") is not None:
        return None
    return locate_run(given, "weights", prefer=BEST_CHECKPOINT)[1]


def begin_with(checkpoint_path: Path, parts: Parts) -> dict[str, Any]:
    """Loads the weights into the module and returns what they are, for the run's records.

    Raises:
        ConfigurationError: the checkpoint is damaged or is of another model.
        DataError: the module refuses it (another alphabet).
    """
    checkpoint, module = read_checkpoint(checkpoint_path), parts.module
    require_match(checkpoint, module, checkpoint_path, _WAY_OUT)
    module.on_load_checkpoint(checkpoint)
    open_yet = fills_itself(module)
    if not open_yet:
        module.load_state_dict(checkpoint["state_dict"], strict=module.strict_loading)
    else:
        module.load_state_dict(checkpoint["state_dict"], strict=False)
        parts.trainer.callbacks.insert(0, LateWeights(checkpoint_path))  # type: ignore[attr-defined]
    step = int(checkpoint.get("global_step", 0))
    parts.notes.append(f"Began with the weights of {shown_path(checkpoint_path)} (optimizer step {step}).")
    identity = file_identity(checkpoint_path)
    return {"checkpoint": identity.pop("source"), **identity, "step": step, "epoch": int(checkpoint.get("epoch", 0))}


class LateWeights(pl.Callback):
    """Makes sure of the weights of a module that makes or changes parameters in `setup` or `configure_model`.

    What such a module's `setup` has put into buffers is left: it took them from the data of this training. Under a
    strategy that gives each rank a part of the weights nothing is looked at: what was loaded before is what there is.

    Args:
        checkpoint_path: whose weights they are.
    """

    def __init__(self, checkpoint_path: Path) -> None:
        self.checkpoint_path = checkpoint_path

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Holds all names and shapes against the checkpoint, now that they are there, and loads the parameters."""
        if is_sharded(trainer.strategy):
            return
        checkpoint = read_checkpoint(self.checkpoint_path)
        require_match(checkpoint, pl_module, self.checkpoint_path, _WAY_OUT, complete=True)
        saved = checkpoint["state_dict"]
        with torch.no_grad():
            for name, parameter in pl_module.named_parameters():
                if name in saved:
                    parameter.copy_(saved[name])


def write_weights_record(run_dir: Path, record: dict[str, Any]) -> None:
    """Writes `weights.json`."""
    with replacing(run_dir / WEIGHTS_FILE) as fresh:
        fresh.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_weights_record(run_dir: Path) -> dict[str, Any] | None:
    """Which checkpoint this run began with; None where it began with none."""
    path = run_dir / WEIGHTS_FILE
    if not path.is_file():
        return None
    try:
        record = from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigurationError(f"{path} cannot be read as the record of a run's weights: {error}.") from error
    if not isinstance(record, dict) or not isinstance(record.get("checkpoint"), str):
        raise ConfigurationError(f"{path} is no record of a run's weights: it names no 'checkpoint'.")
    return record
