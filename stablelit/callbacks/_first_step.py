"""Looks at what `training_step` returns before its graph is freed, once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch


class FirstStepTap:
    """Stands before a module's `training_step` on the instance for one call, then puts back what was there.

    Several may stand one before the other, and leave in any order.

    Under manual optimisation the graph is freed and the parameters change inside `training_step`. For this one call
    `manual_backward` therefore keeps the graph, and what the graph needs is saved as a copy, so that an optimizer's
    change in place does not matter: the step is the same, and takes the memory of its activations twice.

    A compiled module runs uncompiled for this one call: a compiled graph cannot be walked twice.

    Args:
        pl_module: about to train.
        look: is called with what `training_step` returned, inside the call.
    """

    def __init__(self, pl_module: Any, look: Callable[[Any], None]) -> None:
        self._module, self._look = pl_module, look
        self._held = {name: vars(pl_module).get(name) for name in ("training_step", "manual_backward")}
        self._step = pl_module.training_step
        self.spent = False

        def step(*args: Any, **kwargs: Any) -> Any:
            return self._call(*args, **kwargs)

        # Lightning reads from the signature whether a step takes an index, and unwraps once
        step.__wrapped__ = getattr(self._step, "__wrapped__", self._step)  # type: ignore[attr-defined]
        step.tap = self  # type: ignore[attr-defined]
        vars(pl_module)["training_step"] = step

    def release(self) -> None:
        """Puts the module's own methods back; a second call does nothing."""
        if self.spent:
            return
        self.spent = True
        self._put_back("manual_backward", self._held["manual_backward"])
        # one that stands before this one passes through it until it leaves too
        top = self._top()
        while top is not None and top.spent:
            self._put_back("training_step", top._held["training_step"])
            top = self._top()

    def _top(self) -> FirstStepTap | None:
        above = getattr(vars(self._module).get("training_step"), "tap", None)
        return above if isinstance(above, FirstStepTap) else None

    def _put_back(self, name: str, original: Any) -> None:
        if original is None:
            vars(self._module).pop(name, None)
        else:
            vars(self._module)[name] = original

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        if self.spent:
            return self._step(*args, **kwargs)
        manual = not self._module.automatic_optimization
        backward = self._module.manual_backward

        def keep_the_graph(loss: Any, *args: Any, **kwargs: Any) -> None:
            backward(loss, *args, **{**kwargs, "retain_graph": True})

        try:
            if manual:
                vars(self._module)["manual_backward"] = keep_the_graph
            with ExitStack() as stack:
                stack.enter_context(_uncompiled())
                if manual:
                    stack.enter_context(torch.autograd.graph.saved_tensors_hooks(_copied, _itself))
                outputs = self._step(*args, **kwargs)
            self._look(outputs)
        finally:
            self.release()
        return outputs


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().clone()


def _itself(tensor: Any) -> Any:
    return tensor


def _uncompiled() -> AbstractContextManager[Any]:
    # nothing is compiled where nobody has imported the compiler, which takes seconds
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
