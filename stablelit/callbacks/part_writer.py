"""Leaves one part of a module, such as its encoder, as a file of plain weights that other programs load.

Runs    setup (looks for the part); on_fit_end and on_test_end (write)
Reads   the submodule at `part`
Writes  `file` in `directory`, else in the logger's directory: ``{"part", "class", "step", "state_dict"}``. A test after
        a fit replaces it by the weights of the checkpoint that it tests
Logs    nothing
Resumes nothing to resume: the file is written anew
Limits  nothing under fast_dev_run; a fit that ends by an exception leaves no file; rank zero writes, a part in shards
        (FSDP2) after all ranks have given theirs; with Lightning's FSDP and DeepSpeed strategies it is refused
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from stablelit.callbacks._two_lightnings import is_a
from stablelit.data.files import replacing
from stablelit.errors import ConfigurationError, ContractError, bad_argument, did_you_mean
from stablelit.findings import findings_directory
from stablelit.lost_reports import report_may_be_lost

_OWNER = "PartWriter"
_FLAT = ("FSDPStrategy", "DeepSpeedStrategy")


class PartWriter(pl.Callback):
    """Writes the weights of a submodule when training and testing end.

    ``torch.load(path, weights_only=True)["state_dict"]`` goes into a module of the same class.

    Args:
        part: dotted name of the submodule.
        file: name of the file; None is ``<part>.pt``.
        directory: where it goes; None is the run's directory.

    Raises:
        ConfigurationError: an argument that is no text; a strategy that keeps parameters in a form of its own.
        ContractError: the module has no such part.

    Example:
        >>> from stablelit import PartWriter
        >>> callback = PartWriter("encoder")
    """

    keeps_books = True

    def __init__(self, part: str = "encoder", file: str | None = None, directory: str | None = None) -> None:
        for name, value in (("part", part), ("file", file), ("directory", directory)):
            if not (isinstance(value, str) and value) and (value is not None or name == "part"):
                raise bad_argument(_OWNER, name, value, "a non-empty string" + ("" if name == "part" else " or None"))
        self.part, self.directory = part, directory
        self.file = f"{part}.pt" if file is None else file

    def __repr__(self) -> str:
        return f"{_OWNER}(part={self.part!r}, file={self.file!r})"

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint."""
        return f"{_OWNER}[{self.part}]"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Asks for the part before anything runs."""
        self._found(pl_module)
        if any(is_a(name, trainer.strategy) for name in _FLAT):
            strategy = type(trainer.strategy).__name__
            raise ConfigurationError(
                f"{_OWNER}: {strategy} keeps parts of parameters in a form of its own, so that no rank has "
                f"the weights of {self.part!r}. Use DDP or ModelParallelStrategy, or take the part from a checkpoint "
                f"that Lightning has consolidated (python -m lightning.pytorch.utilities.consolidate_checkpoint)."
            )

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the weights of the end of training."""
        self._write(trainer, pl_module)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the weights that were tested."""
        self._write(trainer, pl_module)

    def _found(self, pl_module: pl.LightningModule) -> nn.Module:
        parts: dict[str, nn.Module] = dict(pl_module.named_modules())
        if self.part not in parts:
            children = [name for name, _ in pl_module.named_children()]
            raise ContractError(
                f"{_OWNER}: {type(pl_module).__name__} has no part {self.part!r}. It has {', '.join(children)}. "
                f"{did_you_mean(self.part, parts)}".rstrip()
            )
        return parts[self.part]

    def _write(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        if trainer.fast_dev_run:
            return
        # a compiled part is a wrapper around the one that was compiled
        part = self._found(pl_module)
        part = getattr(part, "_orig_mod", part)
        weights = {name: _whole(value.detach()) for name, value in part.state_dict().items()}
        if not trainer.is_global_zero:
            return
        root = Path(self.directory) if self.directory else findings_directory(trainer)
        # FSDP2 gives a module a class of its own
        kind = next(kind for kind in type(part).__mro__ if not kind.__name__.startswith("FSDP"))
        content = {
            "part": self.part,
            "class": f"{kind.__module__}.{kind.__qualname__}",
            "step": int(trainer.global_step),
            "state_dict": {name.replace("_orig_mod.", ""): value.cpu() for name, value in weights.items()},
        }
        # a run that is killed here leaves the file before it
        with report_may_be_lost(trainer, _OWNER, root / self.file), replacing(root / self.file) as unfinished:
            torch.save(content, unfinished)


def _whole(tensor: Tensor) -> Tensor:
    """All parts of a tensor that ranks share (DTensor): every rank must ask."""
    whole: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole
