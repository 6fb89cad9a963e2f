"""Shows the peak of GPU memory on the bar and in the history, where there is a GPU.

Runs    on_train_batch_end
Reads   torch.cuda's own counters, on the host: no wait for the device
Writes  nothing
Logs    perf/gpu_memory_gib
Resumes nothing to resume
Limits  written for CUDA and not run there by its authors; elsewhere it does nothing, as there is nothing to read
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch

from stablelit.callbacks._scalar_writer import log_now


class DeviceMemoryMonitor(pl.Callback):
    """Logs the most memory that tensors have held on this rank's GPU, in GiB."""

    def __repr__(self) -> str:
        return "DeviceMemoryMonitor()"

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs the peak at the logging interval."""
        device = trainer.strategy.root_device
        if device.type == "cuda" and log_now(trainer):
            peak = torch.cuda.max_memory_allocated(device) / 2**30
            pl_module.log("perf/gpu_memory_gib", peak, prog_bar=True, batch_size=1)
