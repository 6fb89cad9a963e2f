"""A number of each training step by its source: a step output, a logged metric, or a callable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from stablelit.contracts import Quantity
from stablelit.errors import ContractError, did_you_mean


class QuantityReader:
    """Reads a quantity after each batch as a detached 0-dim float32 tensor, the mean over samples.

    For a name it looks first among the keys that `training_step` returned, then among what the module logs. Logged
    values are caught as the module hands them to `log`: `trainer.callback_metrics` has an epoch's mean only when the
    epoch is over, and costs a pass over all metrics.

    Args:
        source: a key, the name of a logged metric, or a callable of (module, outputs, batch).
        owner: who asks, for the message.
        what: what the quantity is, for the message.
        way_out: what else the user could do, for the message.
    """

    def __init__(self, source: Quantity, owner: str, what: str, way_out: str = "") -> None:
        self.source = source
        self.owner = owner
        self.what = what
        self.way_out = way_out
        self._tap: _LogTap | None = None
        self._misses = 0

    def attach(self, pl_module: pl.LightningModule) -> None:
        """Begins to listen to `log`."""
        if isinstance(self.source, str) and self._tap is None:
            self._tap = _LogTap.on(pl_module)
            self._tap.wanted.add(self.source)

    def detach(self, pl_module: pl.LightningModule) -> None:
        """Stops listening; the last listener puts the module's own `log` back."""
        if self._tap is not None:
            self._tap.release(pl_module)
            self._tap = None

    def read(self, pl_module: pl.LightningModule, outputs: Any, batch: Any) -> Tensor | None:
        """The quantity of this batch, or None where it has not been logged yet in the first batch.

        Raises:
            ContractError: neither returned nor logged; the message lists what is.
        """
        value = self._find(pl_module, outputs, batch)
        if value is None:
            self._misses += 1
            # a module may log in on_train_batch_end, which comes after ours: that value is there one batch later
            if self._misses < 2:
                return None
            raise self._not_found(pl_module, outputs)
        if not isinstance(value, Tensor):
            value = torch.as_tensor(value, dtype=torch.float32)
        value = value.detach()
        return value.float() if value.dim() == 0 else value.float().mean()

    def _find(self, pl_module: pl.LightningModule, outputs: Any, batch: Any) -> Any:
        if not isinstance(self.source, str):
            return self.source(pl_module, outputs, batch)
        if isinstance(outputs, Mapping) and self.source in outputs:
            return outputs[self.source]
        return self._tap.values.get(self.source) if self._tap is not None else None

    def _not_found(self, pl_module: pl.LightningModule, outputs: Any) -> ContractError:
        module = type(pl_module).__name__
        if not isinstance(self.source, str):
            return ContractError(f"{self.owner}: the callable for {self.what} returned None twice for {module}.")
        returned = sorted(str(k) for k in outputs) if isinstance(outputs, Mapping) else []
        logged = sorted(self._tap.seen) if self._tap is not None else []
        hint = did_you_mean(self.source, [*returned, *logged])
        message = (
            f"{self.owner}: no {self.what} named {self.source!r}. {module}.training_step returns "
            f"{', '.join(returned) or 'no dictionary'}; it logs {', '.join(logged) or 'nothing'}. {hint} "
            f"Return it from training_step ({{'loss': loss, {self.source!r}: value}}), log it, or give its name."
        )
        return ContractError(f"{message} {self.way_out}".rstrip())


class _LogTap:
    """Stands in for a module's `log`, passes everything on, and keeps the wanted values of the running step."""

    def __init__(self, original: Any) -> None:
        self.original = original
        self.listeners = 0
        self.wanted: set[str] = set()
        self.seen: set[str] = set()
        self.values: dict[str, Any] = {}

    def __call__(self, name: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        self.seen.add(name)
        if name in self.wanted and isinstance(value, Tensor | int | float):
            self.values[name] = value.detach() if isinstance(value, Tensor) else value
        return self.original(name, value, *args, **kwargs)

    @classmethod
    def on(cls, pl_module: pl.LightningModule) -> _LogTap:
        tap = pl_module.__dict__.get("log")
        if not isinstance(tap, cls):
            tap = cls(pl_module.log)
            pl_module.__dict__["log"] = tap
        tap.listeners += 1
        return tap

    def release(self, pl_module: pl.LightningModule) -> None:
        self.listeners -= 1
        if self.listeners == 0 and pl_module.__dict__.get("log") is self:
            del pl_module.__dict__["log"]

    def __deepcopy__(self, memo: dict[int, Any]) -> _LogTap:
        return self  # a copy of the module (an averaged model) must not copy the Trainer behind the bound method
