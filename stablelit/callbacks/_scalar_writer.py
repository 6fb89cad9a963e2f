"""What ScalarSchedule and KLCapCallback share: one scalar that they own, and its value during evaluation."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from stablelit.callbacks._around_evaluation import AroundEvaluation
from stablelit.contracts import Scalar
from stablelit.errors import ConfigurationError, bad_argument
from stablelit.functional.schedules import check_number


class ScalarWriter(AroundEvaluation):
    """Finds the scalar in `setup`, refuses a second writer, and sets `eval_value` around every evaluation.

    Args:
        target: dotted path of the scalar.
        name: distinguishes instances in logs; the state's key is built from the path and the name, never from
            settings, so that a resume with changed settings keeps its history.
        eval_value: what the scalar is during validation and test; None leaves it alone.
    """

    def __init__(self, target: str, name: str | None, eval_value: float | None) -> None:
        owner = type(self).__name__
        if not isinstance(target, str) or not target or any(not part for part in target.split(".")):
            raise bad_argument(owner, "target", target, "a dotted path such as 'kl_weight' or 'loss.lambda_sparse'")
        if name is not None and (not isinstance(name, str) or not name):
            raise bad_argument(owner, "name", name, "a non-empty string or None")
        if eval_value is not None:
            check_number(owner, "the evaluation value", eval_value)
        self.target = target
        self.name = name
        self._eval_value = eval_value
        self._scalar: Scalar | None = None
        self._before_eval: float | Tensor | None = None

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint."""
        return f"{type(self).__name__}[{self.target}{f', {self.name}' if self.name else ''}]"

    @property
    def writes_scalar(self) -> str:
        """The path that this callback owns; two owners of one path are an error."""
        return self.target

    @property
    def scalar(self) -> Scalar:
        """The scalar, from `setup` on."""
        if self._scalar is None:
            raise RuntimeError(f"{type(self).__name__}: setup has not been called")
        return self._scalar

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finds the scalar, in the module or else in the datamodule.

        Raises:
            ContractError: nothing there, read-only, or not a number.
            ConfigurationError: another callback of this Trainer writes the same scalar, or logs under the same name.
        """
        callbacks: list[Any] = list(getattr(trainer, "callbacks", []))
        for other in callbacks:
            if other is not self and getattr(other, "writes_scalar", None) == self.target:
                raise ConfigurationError(
                    f"{type(self).__name__}: {type(other).__name__} in the same Trainer writes "
                    f"{type(pl_module).__name__}.{self.target} too, so the last one would win. Keep one of them."
                )
        self._scalar = Scalar(pl_module, self.target, type(self).__name__)

    def _enter_eval(self) -> None:
        if self._eval_value is not None and self._before_eval is None:
            value = self.scalar.value
            self._before_eval = value.clone() if isinstance(value, Tensor) else value
            self.scalar.set(self._eval_value)

    def _leave_eval(self) -> None:
        if self._before_eval is not None:
            self.scalar.set(self._before_eval)
            self._before_eval = None


def log_now(trainer: pl.Trainer) -> bool:
    """Whether the step that just ended is one that Lightning's loggers take, or the last one of its epoch.

    A call of `log` costs some 0.3 ms, thirty times the cost of the controllers here; so values are logged only when
    somebody will see them. The last batch counts, because epoch-end readers take what was logged last.
    """
    return loggers_listen(trainer) or bool(trainer.is_last_batch)


def loggers_listen(trainer: pl.Trainer) -> bool:
    """Whether Lightning hands the values of the step that just ended to its loggers."""
    interval = int(trainer.log_every_n_steps)  # type: ignore[attr-defined]
    return trainer.global_step % max(1, interval) == 0
