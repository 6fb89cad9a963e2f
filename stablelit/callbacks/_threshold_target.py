"""The thresholds in use, and where they are written: a float, a 0-dim buffer, or a buffer with one for each label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stablelit.callbacks._threshold_choice import ThresholdChoice
from stablelit.contracts import Scalar
from stablelit.errors import ConfigurationError, ContractError, bad_argument

DEFAULT_TARGET = "decision_threshold"


class ThresholdTarget:
    """Finds the place once; writing does not wait for the device.

    Args:
        pl_module: the module.
        path: where, as a dotted path; None takes `decision_threshold` where the module has it, and else writes nowhere.
        per_label: one number for each label instead of one for all.
        owner: for messages.

    Raises:
        ContractError: nothing at a path that was given, or not a place for numbers of this kind.
    """

    def __init__(self, pl_module: Any, path: str | None, per_label: bool, owner: str) -> None:
        self.path = path
        self._owner = owner
        self._scalar: Scalar | None = None
        self._module = pl_module
        if path is None:
            if not hasattr(pl_module, DEFAULT_TARGET):
                return
            self.path = DEFAULT_TARGET
        assert self.path is not None
        if not per_label:
            self._scalar = Scalar(pl_module, self.path, owner)
        elif not isinstance(self._find(), Tensor) or self._find().dim() != 1:
            raise ContractError(
                f"{owner}: average='per-label' writes a threshold for each label to {self.path}; allowed there: a "
                f"floating-point buffer of shape (L,), such as register_buffer({self.path!r}, torch.full((L,), 0.5))."
            )

    def write(self, thresholds: Sequence[float]) -> None:
        """Writes, one threshold to all labels; a label without a threshold keeps what it has.

        Raises:
            ContractError: another number of labels than there are places.
        """
        if self.path is None:
            return
        if self._scalar is not None:
            if not math.isnan(thresholds[0]):
                self._scalar.set(thresholds[0])
            return
        there = self._find()
        if len(thresholds) > 1 and there.shape != (len(thresholds),):
            raise ContractError(
                f"{self._owner}: {type(self._module).__name__}.{self.path} has shape {tuple(there.shape)} and there "
                f"are {len(thresholds)} labels."
            )
        new = torch.tensor(thresholds, dtype=there.dtype, device=there.device)
        there.copy_(torch.where(new.isnan(), there, new))

    def _find(self) -> Any:
        found = self._module
        for part in str(self.path).split("."):
            if not hasattr(found, part):
                raise ContractError(
                    f"{self._owner}: {type(self._module).__name__} has nothing at {self.path!r}. Set it in __init__, "
                    f"for example: self.register_buffer({self.path!r}, torch.full((L,), 0.5))."
                )
            found = getattr(found, part)
        return found


def check_text(owner: str, name: str, text: object) -> None:
    """Refuses what is neither None nor a string with something in it.

    Raises:
        ConfigurationError: something else.
    """
    if text is not None and (not isinstance(text, str) or not text):
        raise bad_argument(owner, name, text, "a non-empty string or None")


class KeptThresholds:
    """The thresholds in use: those of the last choice, of a checkpoint, or of `fixed`.

    Args:
        choice: how a threshold is chosen.
        path: where it is written, as in `ThresholdTarget`.
        named: whether the instance has a name; then nothing is written unless `path` is given.
        units: what a threshold is in units of: one of another kind is of no use after a resume with other settings.
    """

    def __init__(self, choice: ThresholdChoice, path: str | None, named: bool, units: list[str]) -> None:
        self.choice, self.path, self.named, self.units = choice, path, named, units
        self.values: list[float] | None = [choice.fixed] if choice.select == "fixed" else None
        self._place: ThresholdTarget | None = None
        self._left_behind = ""

    @property
    def written_to(self) -> str | None:
        """The path in the module; None where nothing is written."""
        return None if self._place is None else self._place.path

    def find_place(self, pl_module: Any, others: Sequence[Any]) -> None:
        """Looks for the place in a module.

        Raises:
            ContractError: as `ThresholdTarget`.
            ConfigurationError: one of the other callbacks writes there too.
        """
        self._place = None
        # the threshold of `stability` is a frequency: compared with edge scores it would mean nothing
        if self.choice.select != "stability" and (self.path is not None or not self.named):
            self._place = ThresholdTarget(pl_module, self.path, self.choice.average == "per-label", self.choice.owner)
        for other in others:
            if self.written_to is not None and getattr(other, "writes_scalar", None) == self.written_to:
                raise ConfigurationError(
                    f"{self.choice.owner}: {type(other).__name__} in the same Trainer writes "
                    f"{type(pl_module).__name__}.{self.written_to} too, so the last one would win. "
                    f"Give one of them another target."
                )

    def take(self, chosen: Sequence[float]) -> None:
        """Keeps and writes what was chosen; what could not be chosen stays as it was."""
        before = self.values if self.values is not None and len(self.values) == len(chosen) else chosen
        kept = [old if math.isnan(new) else new for old, new in zip(before, chosen, strict=True)]
        self.values = None if all(map(math.isnan, kept)) else kept
        self.write()

    def write(self) -> None:
        """Writes what there is, where there is a place."""
        if self._place is not None and self.values is not None:
            self._place.write(self.values)

    def require(self) -> None:
        """Asks for a threshold before a test.

        Raises:
            ConfigurationError: there is none.
        """
        if self.values is None:
            raise ConfigurationError(
                f"{self.choice.owner}: no threshold was chosen yet, and testing never chooses one.{self._left_behind} "
                f"Pass the checkpoint that has it (trainer.test(ckpt_path='best')), run trainer.validate first, or "
                f"give select='fixed'."
            )

    def load(self, values: Sequence[float] | None, units: list[str]) -> None:
        """Takes up thresholds of a checkpoint; those of other scores than these are left behind."""
        if self.choice.select == "fixed":
            return
        usable = units == self.units
        self.values = list(values) if values is not None and usable else None
        self._left_behind = ""
        if values is not None and not usable:
            self._left_behind = f" That of the checkpoint is of {' '.join(units)}, not of {' '.join(self.units)}."
