"""LARS: momentum whose rate is set for each layer by its norm over its gradient's, for large batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from stablelit.functional.schedules import check_flag, check_number


class LARS(Optimizer):
    r"""Layer-wise adaptive rates, and momentum.

    For each parameter w with gradient g, weight decay :math:`\beta` and trust coefficient :math:`\eta`:

    .. math::
        u = g + \beta w, \qquad
        \lambda = \begin{cases} \eta \|w\| / (\|u\| + \epsilon) & \|w\|, \|u\| > 0 \\ 1 & \text{else} \end{cases},
        \qquad m \leftarrow \mu m + \lambda u, \qquad w \leftarrow w - \gamma m

    So one step moves a layer by the share :math:`\gamma \eta` of its norm, whatever the size of its gradient, and a
    rate that some layers would not survive serves all of them. The norm below is that of gradient and decay together,
    as SimCLR's code has it; the paper's :math:`\|g\| + \beta \|w\|` is never less. The rate multiplies the momentum
    (torch's way), so that a schedule acts at once.

    Biases and the parameters of norms have one axis or none: they take plain momentum without decay.

    Norms and ratios are found for all parameters together and stay on the device. Sharded parameters (FSDP) are not
    supported, as each rank would have its own part's norm.

    Args:
        params: parameters or groups of them; a group may have its own values of what follows.
        lr: gamma; see `scaled_learning_rate`.
        momentum: mu.
        weight_decay: beta.
        eta: the trust coefficient.
        eps: epsilon.
        nesterov: whether w moves by :math:`\lambda u + \mu m`.
        exclude_bias_and_norm: whether parameters of one axis or none are left out of adaptation and decay.

    Raises:
        ConfigurationError: an argument out of range.

    Source: You et al. 2017 (arXiv:1708.03888), algorithm 1; what is left out: Chen et al. 2020 (arXiv:2002.05709) and
    Grill et al. 2020 (arXiv:2006.07733).

    Example:
        >>> w = torch.nn.Parameter(torch.full((2, 2), 3.0))
        >>> optimizer = LARS([w], lr=1.0, eta=0.01, momentum=0.0, weight_decay=0.0)
        >>> (1e6 * w).sum().backward(); optimizer.step(); round(w[0, 0].item(), 4)
        2.97
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.3,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        eta: float = 1e-3,
        eps: float = 1e-8,
        nesterov: bool = False,
        exclude_bias_and_norm: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "eta": eta,
            "eps": eps,
            "nesterov": nesterov,
            "exclude_bias_and_norm": exclude_bias_and_norm,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, with what it does not say for itself from the constructor."""
        owner, told = type(self).__name__, {**self.defaults, **param_group}
        if not isinstance(told["lr"], Tensor):
            check_number(owner, "lr", told["lr"], at_least=0.0)
        check_number(owner, "momentum", told["momentum"], at_least=0.0, at_most=1.0)
        check_number(owner, "weight_decay", told["weight_decay"], at_least=0.0)
        check_number(owner, "eta", told["eta"], above=0.0)
        check_number(owner, "eps", told["eps"], at_least=0.0)
        check_flag(owner, "nesterov", told["nesterov"])
        check_flag(owner, "exclude_bias_and_norm", told["exclude_bias_and_norm"])
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            with_gradient = [p for p in group["params"] if p.grad is not None]
            left_out = [p for p in with_gradient if group["exclude_bias_and_norm"] and p.dim() <= 1]
            adapted = [p for p in with_gradient if not (group["exclude_bias_and_norm"] and p.dim() <= 1)]
            self._move(left_out, [p.grad for p in left_out], group)
            self._move(adapted, _adapted(adapted, group), group)
        return loss

    def _move(self, parameters: list[Tensor], updates: list[Tensor], group: dict[str, Any]) -> None:
        if not parameters:
            return
        momentum = group["momentum"]
        if momentum:
            for p in parameters:
                if not self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            buffers = [self.state[p]["momentum_buffer"] for p in parameters]
            torch._foreach_mul_(buffers, momentum)
            torch._foreach_add_(buffers, updates)
            updates = list(torch._foreach_add(updates, buffers, alpha=momentum)) if group["nesterov"] else buffers
        if isinstance(group["lr"], Tensor):
            torch._foreach_sub_(parameters, torch._foreach_mul(updates, group["lr"]))
        else:
            torch._foreach_add_(parameters, updates, alpha=-group["lr"])


def _adapted(parameters: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
    """Lambda u of each parameter."""
    if not parameters:
        return []
    gradients: list[Tensor] = [p.grad for p in parameters]  # type: ignore[misc]
    updates = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
    by_device: dict[torch.device, list[int]] = {}
    for i, p in enumerate(parameters):
        by_device.setdefault(p.device, []).append(i)
    for rows in by_device.values():
        here = [updates[i] for i in rows]
        w = torch.stack(torch._foreach_norm([parameters[i] for i in rows]))
        u = torch.stack(torch._foreach_norm(here))
        ratios = torch.where((w > 0) & (u > 0), group["eta"] * w / (u + group["eps"]), 1.0)
        torch._foreach_mul_(here, list(ratios.unbind()))
    return updates
