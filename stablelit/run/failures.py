"""What kind of failure an exception is: memory that ran out, numbers that ran away, or neither."""

from __future__ import annotations

import re

import torch

from stablelit import errors
from stablelit.findings import FindingError

_OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|can(no|')t allocate memory", re.IGNORECASE)
_OURS = re.compile(r"^stablelit\.errors\.(\w+): (.*)\Z", re.MULTILINE | re.DOTALL)
_NOT_FINITE = re.compile(r"\b(nan|inf|non-?finite|not finite|infinite)\b", re.IGNORECASE)


def from_child_process(error: BaseException) -> BaseException:
    """The error of ours that ended a forked or spawned rank, as itself; any other error as it came.

    A launcher hands a rank's exception on as the text of its traceback, and the kind of it is lost.
    """
    if type(error).__name__ != "ProcessRaisedException":
        return error
    raised = list(_OURS.finditer(str(error)))
    kind = getattr(errors, raised[-1][1], None) if raised else None
    if not (isinstance(kind, type) and issubclass(kind, errors.StablelitError)):
        return error
    return kind(raised[-1][2].strip())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))


def is_divergence(error: BaseException) -> bool:
    """Whether numbers ceased to be finite: what torch's distributions, Lightning and our findings say then."""
    if isinstance(error, FloatingPointError | OverflowError):
        return True
    if isinstance(error, FindingError):
        return bool(_NOT_FINITE.search(error.finding.name.replace("-", " "))) or "finite" in error.finding.name
    if isinstance(error, errors.StablelitError):
        # about what was asked for, which may be infinite: max_epochs=-1
        return False
    return isinstance(error, ValueError | RuntimeError) and bool(_NOT_FINITE.search(str(error)))


def memory_advice(batch_size: object) -> str:
    """The message for memory that ran out, with the batch size to try."""
    if isinstance(batch_size, int) and batch_size > 1:
        half = batch_size // 2
        return (
            f"Memory ran out at data.batch_size={batch_size}. Try data.batch_size={half} "
            f"(with trainer.accumulate_grad_batches=2 the optimizer sees the same batch), or tune.batch_size=true."
        )
    return "Memory ran out. Try a smaller model, trainer.precision=bf16-mixed, or fewer workers."
