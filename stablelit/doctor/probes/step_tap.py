"""Stands before a step of a module for one call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch


class StepTap:
    """Replaces a module's `training_step` or `validation_step` on the instance for one call.

    The call happens inside `around`, uncompiled; `after` sees what it returned. Others may stand before or behind it.
    What it is replaced by shows the signature of the original, since Lightning reads from it whether to pass an index.

    Args:
        pl_module: whose step it is.
        name: of the method.
        around: entered for the call.
        after: is called with the step's arguments and what it returned.
    """

    def __init__(
        self, pl_module: Any, name: str, around: AbstractContextManager[Any], after: Callable[[Any], None]
    ) -> None:
        self._module, self._name, self._around, self._after = pl_module, name, around, after
        self._held = vars(pl_module).get(name)
        original = getattr(pl_module, name)
        self._spent = False

        def step(*args: Any, **kwargs: Any) -> Any:
            if self._spent:
                return original(*args, **kwargs)
            self.release()
            with ExitStack() as stack:
                stack.enter_context(_uncompiled())
                stack.enter_context(self._around)
                outputs = original(*args, **kwargs)
            self._after(outputs)
            return outputs

        # Lightning unwraps once
        step.__wrapped__ = getattr(original, "__wrapped__", original)  # type: ignore[attr-defined]
        self._step = step
        vars(pl_module)[name] = step

    def release(self) -> None:
        """Puts the module's own method back, unless somebody stands before this; a second call does nothing more."""
        self._spent = True
        if vars(self._module).get(self._name) is self._step:
            if self._held is None:
                vars(self._module).pop(self._name, None)
            else:
                vars(self._module)[self._name] = self._held


def _uncompiled() -> AbstractContextManager[Any]:
    # nothing is compiled where nobody has imported the compiler, which takes seconds
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
