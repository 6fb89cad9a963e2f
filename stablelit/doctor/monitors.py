"""Monitors of the suite that the doctor carries where a module gives them what they need and nobody else has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from stablelit.callbacks.contrastive_health import ContrastiveHealthMonitor
from stablelit.callbacks.posterior_monitor import PosteriorMonitor
from stablelit.findings import Finding, FindingError, FindingReporter

_KL = re.compile(r"^(train[/_])?(kl|kld|kl_loss|kl_div|kl_divergence)(_step)?$")
_KINDS: dict[str, Any] = {
    "ContrastiveHealthMonitor": ContrastiveHealthMonitor,
    "PosteriorMonitor": PosteriorMonitor,
}
_WEIGHTS = ("kl_weight", "beta", "kl_beta", "kld_weight")
# a KL that is a mean over dimensions may be small in a good code; below this no dimension is active (Burda et al.)
_INACTIVE = 0.01


class CarriedMonitors:
    """`ContrastiveHealthMonitor` and `PosteriorMonitor`, made after the first batch, when it is known what there is.

    What they find goes to the doctor alone, which ranks it among the rest. One that raises is left out from then on.

    Args:
        hear: takes a finding.
    """

    def __init__(self, hear: Callable[[Finding], None]) -> None:
        self._hear = hear
        self._monitors: list[Any] = []
        self._has_met = False
        self._keys: dict[str, dict[str, str]] = {}

    def call(self, hook: str, trainer: Any, pl_module: Any, *args: Any) -> None:
        """Hands a hook on."""
        if not self._monitors:
            return
        for monitor in list(self._monitors):
            try:
                getattr(monitor, hook)(trainer, pl_module, *args)
            except FindingError as error:
                self._hear(error.finding)
                self._drop(monitor, trainer, pl_module)
            except Exception:
                self._drop(monitor, trainer, pl_module)

    def begin(self, trainer: Any, pl_module: Any) -> None:
        """Training goes on with the monitors that a checkpoint had."""
        self._start(trainer, pl_module)

    def meet(self, trainer: Any, pl_module: Any, outputs: Any) -> None:
        """After the first batch: makes the monitors that this module has something for."""
        if self._has_met:
            return
        self._has_met = True
        present = {type(callback).__name__ for callback in trainer.callbacks}
        wanted = {"ContrastiveHealthMonitor": _contrastive(outputs)}
        wanted["PosteriorMonitor"] = _posterior(pl_module, outputs, trainer.callback_metrics)
        self._make({name: keys for name, keys in wanted.items() if keys is not None and name not in present})
        self._start(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """How each was made, and its state."""
        states = {type(monitor).__name__: monitor.state_dict() for monitor in self._monitors}
        return {"has_met": self._has_met, "keys": {name: self._keys[name] for name in states}, "states": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Makes them again."""
        self._monitors, self._has_met = [], state["has_met"]
        self._make(state["keys"])
        for monitor in self._monitors:
            monitor.load_state_dict(state["states"][type(monitor).__name__])

    def _make(self, keys: dict[str, dict[str, str]]) -> None:
        self._keys = keys
        for name, arguments in keys.items():
            monitor = _KINDS[name](**arguments)
            for reporter in [held for held in vars(monitor).values() if isinstance(held, FindingReporter)]:
                reporter.to = self._take
            self._monitors.append(monitor)

    def _start(self, trainer: Any, pl_module: Any) -> None:
        for hook in ("on_fit_start", "on_train_start"):
            self.call(hook, trainer, pl_module)

    def _take(self, finding: Finding) -> None:
        per_dimension = finding.evidence.get("active_units", "unknown") != "unknown"
        kl = finding.evidence.get("kl", 0.0)
        if finding.name == "posterior-collapse" and not per_dimension and float(kl) > _INACTIVE:
            return
        self._hear(finding)

    def _drop(self, monitor: Any, trainer: Any, pl_module: Any) -> None:
        self._monitors.remove(monitor)
        monitor._leave(pl_module)


def _contrastive(outputs: Any) -> dict[str, str] | None:
    views = [outputs.get(key) for key in ("z0", "z1")] if isinstance(outputs, Mapping) else []
    return {} if views and all(isinstance(view, Tensor) for view in views) else None


def _posterior(pl_module: Any, outputs: Any, logged: Mapping[str, Any]) -> dict[str, str] | None:
    returned = outputs if isinstance(outputs, Mapping) else {}
    kl = "kl" if "kl" in returned else next((name for name in [*returned, *logged] if _KL.match(str(name))), None)
    held = [name for name in _WEIGHTS if isinstance(getattr(pl_module, name, None), float | Tensor)]
    return None if kl is None else {"kl": kl, "weight": held[0] if held else _WEIGHTS[0]}
