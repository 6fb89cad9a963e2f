"""The probes of a run, each of which looks at its own risk."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.probes import Probe


class ProbeSet:
    """Lets probes look; one that fails is left out from then on, and not the training.

    Args:
        probes: in the order in which they look.

    Attributes:
        seconds: what they took since somebody set it to zero.
    """

    def __init__(self, probes: Sequence[Probe]) -> None:
        self._probes = list(probes)
        self.seconds = 0.0

    def call(self, hook: str, trainer: Any, pl_module: Any, *args: Any) -> None:
        """Hands a hook on to every probe."""
        self._each(pl_module, lambda probe: getattr(probe, hook)(trainer, pl_module, *args))

    def tell(self, pl_module: Any, evidence: Evidence) -> None:
        """Lets every probe write down what it has seen."""
        self._each(pl_module, lambda probe: probe.tell(evidence))

    def leave(self, pl_module: Any) -> None:
        """Lets every probe take its hooks away."""
        self._each(pl_module, lambda probe: probe.leave(pl_module))

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Of each, by its class."""
        states: dict[str, dict[str, Any]] = {}
        self._each(None, lambda probe: states.update({type(probe).__name__: probe.state_dict()}))
        return states

    def load_state_dict(self, states: dict[str, dict[str, Any]]) -> None:
        """Takes it up; a probe that a checkpoint does not know begins anew."""
        self._each(None, lambda probe: probe.load_state_dict(states.get(type(probe).__name__, {})))

    def _each(self, pl_module: Any, call: Callable[[Probe], None]) -> None:
        began = time.perf_counter()
        for probe in list(self._probes):
            try:
                call(probe)
            except Exception as error:
                self._probes.remove(probe)
                with suppress(Exception):
                    probe.leave(pl_module)
                name = type(probe).__name__
                rank_zero_info(f"TrainingDoctor: {name} cannot look at this module and is left out: {error}")
        self.seconds += time.perf_counter() - began
