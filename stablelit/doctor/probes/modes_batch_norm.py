"""What batch norms remember against what recent batches have.

With momentum m the running statistics still hold a share (1 - m)^n of what they began with after n batches. One batch
of N values per channel knows a mean to 1/sqrt(N) of a standard deviation: batches of fewer than 32 values are left out.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

from stablelit.doctor.evidence.modes import BatchNormFact

_MOST = 4
_RECENT = 4
_LEAST_VALUES = 32


class BatchNormMemory:
    """Measures up to four batch norms, spread over the module.

    Args:
        modules: by name.
    """

    def __init__(self, modules: dict[str, Any]) -> None:
        names = list(modules)
        chosen = names[:: max(1, -(-len(names) // _MOST))]
        self.modules = {id(modules[name]): name for name in chosen}
        self._of = {name: modules[name] for name in chosen}
        self._fresh: dict[str, tuple[int, Tensor]] = {}
        self._gaps: dict[str, deque[tuple[float, float]]] = {name: deque(maxlen=_RECENT) for name in chosen}
        self._values: dict[str, int] = {}

    @torch.no_grad()
    def note(self, module: Any, inputs: Any) -> None:
        """A batch norm in training mode is about to be called."""
        name = self.modules.get(id(module))
        batch = inputs[0] if isinstance(inputs, tuple) and inputs else None
        if name is None or not isinstance(batch, Tensor) or batch.ndim < 2 or module.running_mean is None:
            return
        values = batch.numel() // max(1, batch.shape[1])
        if values < _LEAST_VALUES:
            return
        variance, mean = torch.var_mean(batch.detach().float(), [d for d in range(batch.ndim) if d != 1])
        floor = variance.mean() * 1e-6 + 1e-30
        gap = ((module.running_mean - mean).abs() / (variance + floor).sqrt()).median()
        ratio = ((module.running_var + floor) / (variance + floor)).median()
        self._fresh[name] = (values, torch.stack([gap, ratio]))

    def take(self) -> None:
        """At the end of a look."""
        for name, (values, sizes) in self._fresh.items():
            gap, ratio = sizes.tolist()
            self._values[name] = values
            self._gaps[name].append((gap, ratio))
        self._fresh = {}

    def facts(self) -> list[BatchNormFact]:
        """Those seen in at least two looks, with the look in which they were least apart."""
        found = []
        for name, gaps in self._gaps.items():
            module = self._of[name]
            if len(gaps) < 2:
                continue
            counted = module.num_batches_tracked
            found.append(
                BatchNormFact(
                    name=name,
                    momentum=None if module.momentum is None else float(module.momentum),
                    updates=int(counted) if counted is not None else 0,
                    values=self._values[name],
                    mean_gap=min(gap for gap, _ in gaps),
                    variance_ratio=min((ratio for _, ratio in gaps), key=lambda r: max(r, 1 / max(r, 1e-30))),
                )
            )
        return found


def batch_norms_of(module: nn.Module) -> dict[str, Any]:
    """Those that keep running statistics."""
    return {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.track_running_stats
    }
