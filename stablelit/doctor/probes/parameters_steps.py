r"""How large steps are: gradient norm, update ratio, weight norm and the part that weight decay has in a step.

For a weight matrix :math:`w` with gradient :math:`g` and step :math:`\Delta`,

.. math:: \text{update ratio} = \|\Delta\| / \|w\|, \qquad
   \text{decay pull} = \begin{cases} \eta\lambda\|w\| / \|\Delta\| & \text{decoupled (AdamW)} \\
   \lambda\|w\| / (\|g\| + \lambda\|w\|) & \text{added to the gradient (SGD, Adam)} \end{cases}

with learning rate :math:`\eta` and weight decay :math:`\lambda`. The relative step is
:math:`\|\Delta\| / \max(\|w\|, \|w_0\|)` with :math:`\|w_0\|` what torch would have drawn,
:math:`1 / \sqrt{3 n_\text{in}}` a number: weights that begin next to nil on purpose grow to that size at any rate.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from stablelit.doctor.probes.parameters_census import Census, rate_of
from stablelit.doctor.probes.tensors import dense_gradient, read_numbers, sample

_MATRICES = 8
_NUMBERS = 16_384
_SMOOTHING = 0.2
_ASCENT_STEPS = 5


class Steps:
    """Measures the optimizer steps of looks, on at most eight weight matrices spread over the module.

    Args:
        census: the parameters.
    """

    def __init__(self, census: Census) -> None:
        matrices = [i for i in census.held if census.tensors[i].ndim >= 2]
        spread = max(1, math.ceil(len(matrices) / _MATRICES))
        chosen = sorted({*matrices[::spread], *matrices[-1:]}) if matrices else []
        self._matrices = [census.tensors[i] for i in chosen]
        self._groups = [census.groups[i] for i in chosen]
        self._all = [census.tensors[i] for i in census.held]
        self._position = {id(tensor): place for place, tensor in enumerate(self._all)}
        self._views = sample(self._matrices, _NUMBERS)
        self._usual = [_usual_norm(m, len(v)) for m, v in zip(self._matrices, self._views, strict=True)]
        self._before: list[Tensor] = []
        self._slopes: list[Tensor | None] = []
        self._gradients: list[Tensor] = []
        self._gradient_places: list[int] = []
        self._rates: list[float] = []
        self._first_norms: list[float] = []
        self._ascents: list[float] = []
        self.pull: float | None = None
        self.norm_ratio: float | None = None
        self.finite = True
        self.some_gradient = False

    @property
    def ascent(self) -> float | None:
        """Mean cosine between the first steps and the gradient."""
        return sum(self._ascents) / len(self._ascents) if self._ascents else None

    @torch.no_grad()
    def before(self, optimizer: Any) -> None:
        """Just before an optimizer steps; the first one in a batch counts."""
        if self._gradients:
            return
        own = [tensor for group in optimizer.param_groups for tensor in group["params"] if id(tensor) in self._position]
        found = [(self._position[id(t)], g) for t in own if (g := dense_gradient(t)) is not None]
        if not found:
            return
        self._gradient_places = [place for place, _ in found]
        self._gradients = list(torch._foreach_norm([gradient for _, gradient in found]))
        # times one: a copy of all in a single call
        self._before = list(torch._foreach_mul(self._now(), 1.0)) if self._matrices else []
        self._rates = [rate_of(group) for group in self._groups]
        self._slopes = []
        if len(self._ascents) < _ASCENT_STEPS:
            # of this optimizer alone: what another one will step has gradients of another moment
            stepped = {id(tensor) for tensor in own}
            slopes = [dense_gradient(m) if id(m) in stepped else None for m in self._matrices]
            self._slopes = [None if slope is None else sample([slope], _NUMBERS)[0].clone() for slope in slopes]

    @torch.no_grad()
    def after(self) -> dict[str, float]:
        """At the end of the batch: the new points of curves; none where nothing has stepped."""
        if not self._gradients:
            return {}
        numbers = list(self._gradients)
        count = len(self._before)
        if count:
            now = self._now()
            moves = torch._foreach_sub(now, self._before)
            numbers += [*torch._foreach_norm(moves), *torch._foreach_norm(self._before)]
            self._look_uphill(moves)
        sizes = read_numbers(numbers)
        gradients = sizes[: len(self._gradients)]
        deltas, norms = sizes[len(gradients) :][:count], sizes[len(gradients) + count :]
        total = math.sqrt(sum(size * size for size in gradients))
        self.finite = math.isfinite(total)
        self.some_gradient = total > 0
        points = {"grad_norm": total}
        if count:
            points["update_ratio"] = max((d / n for d, n in zip(deltas, norms, strict=True) if n > 0), default=0.0)
            points["relative_step"] = max(
                (d / max(n, usual) for d, n, usual in zip(deltas, norms, self._usual, strict=True)), default=0.0
            )
            points["weight_norm"] = math.sqrt(sum(norm * norm for norm in norms))
            self._weigh_decay(gradients, deltas, norms)
        self.forget()
        return points

    def _now(self) -> list[Tensor]:
        """Flat views of the weights; made anew where a tensor's storage has been exchanged."""
        if any(view.data_ptr() != matrix.data_ptr() for view, matrix in zip(self._views, self._matrices, strict=True)):
            self._views = sample(self._matrices, _NUMBERS)
        return self._views

    def forget(self) -> None:
        """Drops what a batch has left."""
        self._gradients, self._before, self._slopes = [], [], []

    def _look_uphill(self, moves: list[Tensor] | tuple[Tensor, ...]) -> None:
        pairs = [(s, m) for s, m in zip(self._slopes, moves, strict=False) if s is not None]
        if not pairs:
            return
        doubles = [(slope.double(), move.double()) for slope, move in pairs]
        products = [torch.dot(a, b) for s, m in doubles for a, b in ((s, m), (s, s), (m, m))]
        numbers = read_numbers(products)
        along, size = sum(numbers[::3]), math.sqrt(sum(numbers[1::3])) * math.sqrt(sum(numbers[2::3]))
        if size > 0 and math.isfinite(along):
            self._ascents.append(along / size)

    def _weigh_decay(self, gradients: list[float], deltas: list[float], norms: list[float]) -> None:
        by_place = dict(zip(self._gradient_places, gradients, strict=True))
        if not self._first_norms:
            self._first_norms = norms
        ratios = sorted(now / first for now, first in zip(norms, self._first_norms, strict=True) if first > 0)
        self.norm_ratio = ratios[len(ratios) // 2] if ratios else None
        pulls = []
        each = zip(self._matrices, self._groups, self._rates, deltas, norms, strict=True)
        for matrix, group, rate, delta, norm in each:
            decay = float((group or {}).get("weight_decay", 0.0))
            if is_decoupled(group):
                pull = rate * decay * norm / delta if delta > 0 else 0.0
            else:
                gradient = by_place.get(self._position[id(matrix)], 0.0)
                pull = decay * norm / (gradient + decay * norm) if decay * norm > 0 else 0.0
            pulls.append(min(pull, 1.0))
        if pulls:
            pull = sorted(pulls)[len(pulls) // 2]
            self.pull = pull if self.pull is None else (1 - _SMOOTHING) * self.pull + _SMOOTHING * pull


def _usual_norm(matrix: Tensor, numbers: int) -> float:
    """The norm of so many numbers of a matrix (or kernel) as `torch.nn.Linear` draws it: variance 1 / (3 fan_in)."""
    return math.sqrt(numbers / (3.0 * max(1, matrix[0].numel())))


def is_decoupled(group: dict[str, Any] | None) -> bool:
    """Whether a group's weight decay is applied to the weights themselves, as torch's AdamW does."""
    return bool((group or {}).get("decoupled_weight_decay", False))
