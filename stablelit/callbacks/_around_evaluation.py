"""The hooks between which a model is evaluated: validation inside a fit, sanity check, and each stage alone."""

from __future__ import annotations

import lightning.pytorch as pl


class AroundEvaluation(pl.Callback):
    """Calls `_enter_eval` before and `_leave_eval` after every evaluation, also one that breaks."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluation begins."""
        self._enter_eval()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluation is over."""
        self._leave_eval()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluation begins."""
        self._enter_eval()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluation is over."""
        self._leave_eval()

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluation begins."""
        self._enter_eval()

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluation is over."""
        self._leave_eval()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """An evaluation that broke must not leave its value behind."""
        self._leave_eval()

    def _enter_eval(self) -> None:
        raise NotImplementedError

    def _leave_eval(self) -> None:
        raise NotImplementedError
