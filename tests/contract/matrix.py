"""Which callback works where: every callback of the registry by every way of training, no cell left open.

`python -m tests.contract` prints it. A cell is either run (`test_matrix.py`), or it is in REFUSES with what the error
says, which is tried as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.contract.registry import SETTINGS

EPS = {"float32": 2.0**-23, "bfloat16": 2.0**-8, "float16": 2.0**-11}


@dataclass(frozen=True)
class Column:
    """A way of training.

    Attributes:
        how: what a reader of the table is told.
        trainer: arguments of the Trainer beyond the ones of fp32.
        rounding: the coarsest type that a step computes in: what the weights may differ by follows from it.
        kind: which of the modules of `cells.py`.
        steps_per_batch: optimizer steps that Lightning counts for one batch of fp32.
        logs_alike: the same steps in the same type, so that every logged value is that of fp32 but for rounding.
    """

    how: str
    trainer: dict[str, Any] = field(default_factory=dict)
    rounding: str = "float32"
    kind: str = "automatic"
    steps_per_batch: int = 1
    logs_alike: bool = False


COLUMNS: dict[str, Column] = {
    "fp32": Column('`precision="32-true"`, one process: what the others are held against'),
    "bf16-mixed": Column('`precision="bf16-mixed"`', {"precision": "bf16-mixed"}, "bfloat16"),
    "bf16-true": Column('`precision="bf16-true"`: weights and buffers too', {"precision": "bf16-true"}, "bfloat16"),
    "fp16-scaler": Column("fp16 with a GradScaler, on the CPU: Lightning's `MixedPrecision` plugin", {}, "float16"),
    "net.compile()": Column("the networks compiled in place, as `self.net.compile()` does", logs_alike=True),
    "compile(net)": Column("`self.net = torch.compile(self.net)`: names gain `_orig_mod`", logs_alike=True),
    "compile(module)": Column(
        "`torch.compile(module)`, after `module.log = torch.compiler.disable(module.log)`", logs_alike=True
    ),
    "accumulation": Column("halves of the batch, `accumulate_grad_batches=2`", {"accumulate_grad_batches": 2}),
    "manual": Column("manual optimisation, one optimizer", kind="manual"),
    "several": Column("manual optimisation, two optimizers", kind="several", steps_per_batch=2),
    "dtensor": Column("FSDP2 on two gloo ranks, `ModelParallelStrategy`: parameters are DTensors", kind="sharded"),
    "pytorch_lightning": Column("a Trainer and a module of `pytorch_lightning`", logs_alike=True),
    "LightningCLI": Column("built by jsonargparse from `class_path` and `init_args`", logs_alike=True),
}

# (callback, column): what the error says, before the first step
REFUSES: dict[tuple[str, str], str] = {
    ("ema", "dtensor"): "a rank holds a part of the weights",
    ("ema_decay", "dtensor"): "a rank holds a part of the weights",
    ("non_finite_guard_rollback", "dtensor"): "ModelParallelStrategy",
    ("sample_writer", "dtensor"): "no rank has the whole model",
}

# how names begin that are logged in a column, or of a callback in it, and not in fp32, or the other way
NAMES_DIFFER: dict[str | tuple[str, str], tuple[str, ...]] = {
    # a step that is left out is counted under the name of who leaves it out
    "fp16-scaler": ("guard/scaler_skips", "grad/scaler_skips", "grad/nonfinite_steps"),
    # made behind the first batch, the doctor's monitor of embeddings looks where that was a step, or at the fiftieth
    ("training_doctor", "accumulation"): ("ssl/",),
}


def cells() -> list[tuple[str, str]]:
    """All of them: callback by callback, column by column."""
    return [(key, column) for key in SETTINGS for column in COLUMNS]


def table() -> str:
    """The matrix as Markdown."""
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for key in SETTINGS:
        marks = ["refuses" if (key, column) in REFUSES else "yes" for column in COLUMNS]
        lines.append(f"| `{key}` | " + " | ".join(marks) + " |")
    how = [f"- **{name}**: {column.how}" for name, column in COLUMNS.items()]
    why = [f"- `{key}` with {column}: {said}" for (key, column), said in REFUSES.items()]
    return "\n".join([*lines, "", *how, "", "Refused before the first step, with an error that says:", "", *why])
