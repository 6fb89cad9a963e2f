"""What kind of failure an exception is: memory that ran out, numbers that ran away, or neither."""

from __future__ import annotations

import re

import torch

from stablelit import errors
from stablelit.findings import FindingError

_OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|can(no|')t allocate memory", re.IGNORECASE)
_OURS = re.compile(r"^stablelit\.errors\.(\w+): (.*)\Z", re.MULTILINE | re.DOTALL)
_KINDS: dict[str, type[Exception]] = {
    "ValueError": ValueError,
    "RuntimeError": RuntimeError,
    "FloatingPointError": FloatingPointError,
    "OverflowError": OverflowError,
    "MemoryError": MemoryError,
    "torch.OutOfMemoryError": torch.OutOfMemoryError,
}
_NUMBERS_OR_MEMORY = re.compile(rf"^({'|'.join(map(re.escape, _KINDS))}): (.*)\Z", re.MULTILINE | re.DOTALL)
# torch.multinomial takes a NaN on a CPU for a probability below 0
_NOT_FINITE = re.compile(
    r"\b(nan|inf|non-?finite|not finite|infinite)\b|invalid multinomial distribution \(encountering", re.IGNORECASE
)


def from_child_process(error: BaseException) -> BaseException:
    """The error that ended a forked or spawned rank, as itself, where it is one that is told without a traceback.

    A launcher hands a rank's exception on as the text of its traceback, and the kind of it is lost: ours, numbers that
    ran away and memory that ran out are found again. Any other error stays as it came, traceback and all.
    """
    if type(error).__name__ != "ProcessRaisedException":
        return error
    raised = list(_OURS.finditer(str(error)))
    kind = getattr(errors, raised[-1][1], None) if raised else None
    if isinstance(kind, type) and issubclass(kind, errors.StablelitError):
        return kind(raised[-1][2].strip())
    of_torch = list(_NUMBERS_OR_MEMORY.finditer(str(error)))
    if of_torch:
        again = _KINDS[of_torch[-1][1]](of_torch[-1][2].strip())
        if is_divergence(again) or is_out_of_memory(again):
            return again.with_traceback(error.__traceback__)
    return error


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
