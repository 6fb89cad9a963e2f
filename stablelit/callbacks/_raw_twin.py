"""A second module with the weights that are trained, validated beside the one that has their average."""

from __future__ import annotations

import copy
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from stablelit.errors import ConfigurationError
from stablelit.findings import FindingReporter

SUFFIX = "_raw"


class RawTwin:
    """A copy of the module for one validation: its metrics and lists are its own, so that neither sees the other.

    What it logs is logged by the module under ``<name>_raw``; findings are the module's alone. The global random state
    is as it was before every step.

    Args:
        owner: for messages.
        pl_module: in the middle of validation, before its first batch.
        weights: by name, in the place of those that the module has now.

    Raises:
        ConfigurationError: the module cannot be copied.
    """

    def __init__(self, owner: str, pl_module: pl.LightningModule, weights: dict[str, Tensor]) -> None:
        try:
            twin = copy.deepcopy(pl_module)
        except Exception as error:
            raise ConfigurationError(
                f"{owner}: validate='both' needs a copy of {type(pl_module).__name__}, which does not let itself be "
                f"copied ({error}). Use validate='ema' or validate='raw'."
            ) from error
        parameters = dict(twin.named_parameters())
        with torch.no_grad():
            for name, value in weights.items():
                parameters[name].copy_(value)
        twin.trainer = pl_module.trainer
        self._module, self._twin, self._several = pl_module, twin, False
        self._metrics: dict[str, Any] = {}
        self._loader = 0
        object.__setattr__(twin, "log", self._log)
        _silence(twin)

    def step(self, trainer: pl.Trainer, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        """Validates a batch as the module has just done."""
        loop, twin = trainer.fit_loop.epoch_loop.val_loop, self._twin
        self._several = bool(loop._is_sequential) and loop.num_dataloaders > 1
        self._loader = dataloader_idx
        given = loop._build_kwargs(batch, batch_idx, dataloader_idx if self._several else None)
        arguments = loop._build_step_args_from_hook_kwargs(given, "validation_step")
        kind = type(twin)
        with isolate_rng(), trainer.precision_plugin.val_step_context():
            kind.on_validation_batch_start(twin, *given.values())
            outputs = kind.validation_step(twin, *arguments)
            kind.on_validation_batch_end(twin, outputs, *given.values())

    def finish(self) -> None:
        """Logs what is known only when all batches were seen."""
        with isolate_rng():
            type(self._twin).on_validation_epoch_end(self._twin)
        for name, metric in self._metrics.items():
            self._module.log(name, metric.compute(), add_dataloader_idx=False, batch_size=1)

    def _log(self, name: str, value: Any, prog_bar: bool = False, **kwargs: Any) -> None:
        if hasattr(value, "compute") and not isinstance(value, Tensor):
            place = (
                f"/dataloader_idx_{self._loader}" if self._several and kwargs.get("add_dataloader_idx", True) else ""
            )
            self._metrics[f"{name}{SUFFIX}{place}"] = value
            return
        self._module.log(f"{name}{SUFFIX}", value, **kwargs)


def _silence(twin: torch.nn.Module) -> None:
    """Leaves findings to the module: the twin, asked first, would say of other weights what each cause says once."""
    for part in twin.modules():
        for value in vars(part).values():
            if isinstance(value, FindingReporter):
                object.__setattr__(value, "report", lambda trainer, finding: False)
