"""The training loss over that of a predictor that has learned nothing, at the same difficulty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from stablelit.contracts import HasTrivialLoss
from stablelit.errors import ContractError


class LossNorm:
    r"""A running ratio :math:`\sum_b L_b / \sum_b L_{trivial}(d_b)` over the batches b since it was read.

    Everything stays on the device until somebody looks at what `take` returns.

    Args:
        module: knows the trivial loss.
        owner: for messages.
    """

    def __init__(self, module: HasTrivialLoss, owner: str) -> None:
        self._module, self._owner = module, owner
        self._at: float | None = None
        self._trivial: Any = 0.0
        self._sums: tuple[Any, Any] | None = None

    @classmethod
    def of(cls, module: object, wanted: bool | None, owner: str) -> LossNorm | None:
        """One for the module; None where it is not `wanted`, or left open and the module has no trivial loss.

        Raises:
            ContractError: it is wanted and the module has none.
        """
        if wanted and not isinstance(module, HasTrivialLoss):
            raise ContractError(
                f"{owner}: loss_norm=True, but {type(module).__name__} has no trivial_loss(difficulty) to divide the "
                f"loss by. Give it one, or leave loss_norm out."
            )
        return cls(module, owner) if isinstance(module, HasTrivialLoss) and wanted is not False else None

    def add(self, outputs: Any, difficulty: float, divided_by: int) -> None:
        """Takes the loss of a batch.

        Args:
            outputs: what `on_train_batch_end` is given.
            difficulty: of this batch.
            divided_by: what Lightning has divided the loss by: the batches of an optimizer step.

        Raises:
            ContractError: a trivial loss that is not above 0.
        """
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            return
        if difficulty != self._at:
            self._at, self._trivial = difficulty, self._module.trivial_loss(difficulty)
            if not isinstance(self._trivial, Tensor) and not self._trivial > 0:
                raise ContractError(
                    f"{self._owner}: {type(self._module).__name__}.trivial_loss({difficulty:g}) returned "
                    f"{self._trivial!r}; it must be above 0, for the loss is divided by it."
                )
        whole = loss.detach().float().reshape(()) * divided_by
        if self._sums is None:
            self._sums = (whole, self._trivial)
        else:
            self._sums = (self._sums[0] + whole, self._sums[1] + self._trivial)

    def take(self) -> Any:
        """The ratio, and begins anew; None where there was no batch."""
        sums, self._sums = self._sums, None
        return None if sums is None else sums[0] / sums[1]

    def state_dict(self) -> list[float]:
        """The sums as plain numbers; waits for the device."""
        return [] if self._sums is None else [float(part) for part in self._sums]

    def load_state_dict(self, sums: list[float]) -> None:
        """Takes up the sums."""
        self._sums = (sums[0], sums[1]) if sums else None
