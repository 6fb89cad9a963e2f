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
        self._last_read = 0

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
        """The quantity of this batch; None where this batch did not log it, or a first batch has not yet.

        Raises:
            ContractError: neither returned nor logged; the message lists what is.
        """
        value = self._find(pl_module, outputs, batch)
        if value is None and self._last_read:
            return None
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
        if self._tap is None or self.source not in self._tap.values:
            return None
        number, value = self._tap.values[self.source]
        # a value that is logged now and then counts once, not until the next one comes
        fresh, self._last_read = number != self._last_read, number
        return value if fresh else None

    def _not_found(self, pl_module: pl.LightningModule, outputs: Any) -> ContractError:
        module = type(pl_module).__name__
        if not isinstance(self.source, str):
            return ContractError(f"{self.owner}: the callable for {self.what} returned None twice for {module}.")
        returned = sorted(str(k) for k in outputs) if isinstance(outputs, Mapping) else []
        logged = sorted(self._tap.seen) if self._tap is not None else []
        if self._tap is not None and self.source in self._tap.unreadable:
            kind = self._tap.unreadable[self.source]
            return ContractError(
                f"{self.owner}: {module} logs {self.source!r} as a {kind}, which has no value of the step. Call it "
                f"(metric(value)) rather than update(), log the number itself, or return it from training_step."
            )
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
        self.values: dict[str, tuple[int, Any]] = {}
        self.unreadable: dict[str, str] = {}
        self._calls = 0

    def __call__(self, name: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        self.seen.add(name)
        if name in self.wanted:
            self._calls += 1
            # a torchmetrics Metric that was called keeps the value of its step there; `update` leaves none
            number = value if isinstance(value, Tensor | int | float) else getattr(value, "_forward_cache", None)
            if number is None:
                self.unreadable[name] = type(value).__name__
            else:
                self.values[name] = (self._calls, number.detach() if isinstance(number, Tensor) else number)
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
