"""Muon for the matrices inside a network, AdamW for everything else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from stablelit.errors import ConfigurationError, bad_argument
from stablelit.functional.schedules import check_count, check_flag, check_number

NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315
"""Coefficients of the quintic iteration, from K. Jordan's post. They end within about 0.3 of 1, not at 1."""


class MuonAdamW(Optimizer):
    r"""Muon on hidden matrices, AdamW on embeddings, norms, biases, heads.

    For a matrix W of shape (m, n) with gradient G, momentum :math:`\mu` and :math:`O(X) \approx U V^T` of the singular
    value decomposition :math:`X = U S V^T`, found by Newton-Schulz iterations:

    .. math:: B \leftarrow \mu B + G, \qquad
       W \leftarrow (1 - \eta \lambda) W - 0.2 \sqrt{\max(m, n)}\; \eta\; O(G + \mu B)

    The factor gives an update the root mean square that AdamW's has, so that one learning rate serves both. All
    singular directions of a matrix move alike: a direction that the loss hardly sees at first, which Adam would leave
    for later, is learned at once. Matrices of one shape are iterated together.

    Parameters come with their names, as `build_optimizers` gives them. Every rank does the same work under DDP;
    sharded parameters (FSDP) are not supported.

    Args:
        named_parameters: pairs of name and parameter.
        lr: AdamW's rate; Muon's is `muon_scale` times it.
        hidden: a matrix is Muon's where one of these is a part of its dotted name.
        muon_scale: Muon's rate over AdamW's.
        momentum: mu.
        nesterov: whether the gradient is looked at once more, as above; otherwise O(B).
        newton_schulz_steps: iterations.
        weight_decay: lambda, of both.
        betas: of AdamW.
        eps: of AdamW.

    Raises:
        ConfigurationError: an argument out of range, parameters without names, or no hidden matrix.

    Source: K. Jordan et al. 2024, kellerjordan.github.io/posts/muon; the factor: J. Liu et al. 2025, arXiv:2502.16982.
    """

    takes_names = True

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]],
        lr: float = 1e-3,
        hidden: Sequence[str] = ("blocks",),
        muon_scale: float = 1.0,
        momentum: float = 0.95,
        nesterov: bool = True,
        newton_schulz_steps: int = 5,
        weight_decay: float = 0.01,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        owner = type(self).__name__
        check_number(owner, "lr", lr, at_least=0.0)
        check_number(owner, "muon_scale", muon_scale, above=0.0)
        check_number(owner, "momentum", momentum, at_least=0.0, at_most=1.0)
        check_number(owner, "weight_decay", weight_decay, at_least=0.0)
        pairs = list(named_parameters)
        if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
            raise ConfigurationError(f"{owner}: parameters without names. Give module.named_parameters().")
        parts = [hidden] if isinstance(hidden, str) else list(hidden)
        inside = {n for n, p in pairs if p.dim() == 2 and set(n.split(".")) & set(parts)}
        if not inside:
            matrices = [name for name, parameter in pairs if parameter.dim() == 2]
            some = ", ".join(matrices[:5]) or "none"
            remedy = "Name a part of one of these, or choose another optimizer (optimizer=adamw)."
            raise bad_argument(owner, "hidden", list(parts), f"a part of a matrix's name; there are: {some}", remedy)
        chosen = [p for n, p in pairs if n in inside]
        others = [p for n, p in pairs if n not in inside]
        # with nothing left for it AdamW would refuse an empty list, but takes a group of none
        self._adamw = AdamW([{"params": others}], lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay)  # type: ignore[arg-type]
        muon = {
            "params": chosen,
            "lr": lr * muon_scale,
            "momentum": float(momentum),
            "nesterov": check_flag(owner, "nesterov", nesterov),
            "newton_schulz_steps": check_count(owner, "newton_schulz_steps", newton_schulz_steps, 1),
            "weight_decay": float(weight_decay),
        }
        super().__init__([*self._adamw.param_groups, muon], {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        *adamw, muon = self.param_groups
        # a loaded state is a new dict, and so are its groups
        self._adamw.state, self._adamw.param_groups = self.state, adamw
        self._adamw.step()
        self._step_of_muon(muon)
        return loss

    def _step_of_muon(self, group: dict[str, Any]) -> None:
        parameters: list[Tensor] = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        gradients: list[Tensor] = [p.grad for p in parameters]  # type: ignore[misc]
        for p in parameters:
            if not self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum_buffer"] for p in parameters]
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, gradients)
        ahead: Sequence[Tensor] = buffers
        if group["nesterov"]:
            ahead = torch._foreach_add(gradients, buffers, alpha=group["momentum"])
        if decay := group["lr"] * group["weight_decay"]:
            torch._foreach_mul_(parameters, 1.0 - decay)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, p in enumerate(parameters):
            by_shape.setdefault(tuple(p.shape), []).append(i)
        for shape, rows in by_shape.items():
            update = orthogonalized(torch.stack([ahead[i] for i in rows]), group["newton_schulz_steps"])
            rate = 0.2 * max(shape) ** 0.5 * group["lr"]
            torch._foreach_add_([parameters[i] for i in rows], list(update.unbind()), alpha=-rate)


def orthogonalized(matrices: Tensor, steps: int = 5) -> Tensor:
    r"""About :math:`U V^T` of each matrix ``(N, m, n)``, whose singular values come out between about 0.7 and 1.3.

    .. math:: X_0 = \frac{X}{|X|_F}, \qquad X_{k+1} = a X_k + b X_k X_k^T X_k + c\, (X_k X_k^T)^2 X_k

    In bfloat16 on a GPU, where the error of it is small beside that spread; in float32 on a CPU, which is faster there.
    A matrix of zeros stays zeros.

    Args:
        matrices: as many as there are, of one shape.
        steps: iterations.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x.bfloat16() if x.is_cuda else x.float()
    x = x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
