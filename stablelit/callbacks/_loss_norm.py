"""The training loss over that of a predictor that has learned nothing, at the same difficulty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stablelit.contracts import HasTrivialLoss
from stablelit.errors import ContractError

# losses that are kept before they are added: adding costs ten times as much as keeping
_KEPT = 64


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
        self._loss: Any = 0.0
        self._kept: list[Any] = []
        self._divided_by = 1
        self._trivial_sum: Any = 0.0

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
        if type(outputs) is not dict:  # the usual one first: asking for a Mapping costs more than the rest
            outputs = outputs if isinstance(outputs, Mapping) else {"loss": outputs}
        loss = outputs.get("loss")
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            return
        if difficulty != self._at:
            self._at, self._trivial = difficulty, self._module.trivial_loss(difficulty)
            if not isinstance(self._trivial, Tensor) and not self._trivial > 0:
                raise ContractError(
                    f"{self._owner}: {type(self._module).__name__}.trivial_loss({difficulty:g}) returned "
                    f"{self._trivial!r}; it must be above 0, for the loss is divided by it."
                )
        if divided_by != self._divided_by or len(self._kept) == _KEPT:
            self._add_up()
            self._divided_by = divided_by
        self._kept.append(loss.detach() if loss.requires_grad else loss)
        self._trivial_sum = self._trivial_sum + self._trivial

    def take(self) -> Any:
        """The ratio, and begins anew; None where there was no batch."""
        self._add_up()
        loss, trivial = self._loss, self._trivial_sum
        self.load_state_dict({})
        return loss / trivial if isinstance(loss, Tensor) else None

    def state_dict(self) -> dict[str, Any]:
        """What was added and what is to be, plain, so that a resumed run adds in the same order; waits for the device.

        A trivial loss that is a tensor becomes a number too.
        """
        return {
            "loss": float(self._loss),
            "kept": [float(loss) for loss in self._kept],
            "divided_by": self._divided_by,
            "trivial": float(self._trivial_sum),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up the sums; an empty state begins anew."""
        self._loss = state.get("loss", 0.0)
        self._kept = list(state.get("kept", []))
        self._divided_by = state.get("divided_by", 1)
        self._trivial_sum = state.get("trivial", 0.0)

    def _add_up(self) -> None:
        if self._kept:
            device = next((loss.device for loss in self._kept if isinstance(loss, Tensor)), None)
            every = [torch.as_tensor(loss, dtype=torch.float32, device=device).reshape(()) for loss in self._kept]
            self._loss = self._loss + torch.stack(every).sum() * self._divided_by
            self._kept = []
