r"""A linear probe: multinomial logistic regression on frozen features, solved to its optimum.

With standardised features x and n rows it minimises

.. math:: \frac1n \sum_i -\log \mathrm{softmax}(W x_i + b)_{y_i} + \frac\lambda2 \lVert W \rVert^2

(scikit-learn's ``LogisticRegression`` has the same optimum at ``C = 1 / (n lambda)``). It is convex: L-BFGS finds the
optimum, and no learning rate or number of epochs has a say in what an encoder is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from stablelit.errors import DataError, bad_argument
from stablelit.functional.schedules import check_count, check_number

L2_GRID = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
_OWNER = "fit_linear_probe"
_EPS = 1e-6


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe.

    Args:
        weight: W, ``(C, d)``, of standardised features.
        bias: b, ``(C,)``.
        mean: of the training features, ``(d,)``.
        scale: what they are divided by, ``(d,)``: their standard deviation.
        classes: the label of each row of W, ``(C,)``.
        l2: lambda.
        validation_accuracy: at each lambda that was tried.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    scale: Tensor
    classes: Tensor
    l2: float
    validation_accuracy: dict[float, float]

    def scores(self, features: Tensor) -> Tensor:
        """Logits ``(n, C)`` of features ``(n, d)``."""
        return _standardised(features, self.mean, self.scale) @ self.weight.T + self.bias

    def predict(self, features: Tensor) -> Tensor:
        """The label of each row, ``(n,)``."""
        return self.classes[self.scores(features).argmax(1)]

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """The share of rows of known label (0 or more) that are predicted right; NaN where none is known."""
        known = labels >= 0
        return float((self.predict(features[known]) == labels[known]).double().mean())


def fit_linear_probe(
    features: Tensor,
    labels: Tensor,
    l2: float | Sequence[float] = L2_GRID,
    validation_share: float = 0.2,
    max_iterations: int = 300,
    seed: int = 0,
) -> LinearProbe:
    """Fits the probe; among several lambdas it takes the best on a part of the rows, and then fits all of them.

    The part has its share of each class. Of lambdas that are as good the strongest is taken.

    Args:
        features: ``(n, d)``; in float64 it is solved in float64.
        labels: ``(n,)``; rows below 0 are left out.
        l2: lambda, or several.
        validation_share: of the rows of each class that decide between several.
        max_iterations: of L-BFGS at each lambda, which begins at the solution of the one before.
        seed: of the part.

    Raises:
        ConfigurationError: an argument outside its range.
        DataError: fewer than two classes, features that are not finite.
    """
    strengths = [l2] if isinstance(l2, int | float) else list(l2)
    if not strengths:
        raise bad_argument(_OWNER, "l2", l2, "a number above 0, or several")
    strengths = sorted((check_number(_OWNER, "l2", value, above=0.0) for value in strengths), reverse=True)
    check_number(_OWNER, "validation_share", validation_share, above=0.0, at_most=0.9)
    check_count(_OWNER, "max_iterations", max_iterations, 1)
    if features.dim() != 2 or labels.shape != features.shape[:1]:
        shapes = f"{tuple(features.shape)} and {tuple(labels.shape)}"
        raise bad_argument(_OWNER, "features and labels", shapes, "shapes (n, d) and (n,)")
    known = labels >= 0
    x, (classes, y) = features[known].detach(), torch.unique(labels[known], return_inverse=True)
    x = x if x.dtype == torch.float64 else x.float()
    if len(classes) < 2:
        raise DataError(f"{_OWNER}: {len(classes)} class in {len(x)} rows of known label; it needs two or more.")
    if not torch.isfinite(x).all():
        rows = int((~torch.isfinite(x)).any(1).sum())
        raise DataError(f"{_OWNER}: {rows} of {len(x)} rows are not finite. Take an encoder that has not diverged.")
    accuracies: dict[float, float] = {}
    if len(strengths) > 1:
        held_out = _part_of_each_class(y, validation_share, seed)
        accuracies = _compared(x[~held_out], y[~held_out], x[held_out], y[held_out], strengths, max_iterations)
        # sorted, and max takes the first: the strongest of the best
        strengths = strengths[: strengths.index(max(accuracies, key=accuracies.__getitem__)) + 1]
    mean, scale = _moments(x)
    x = _standardised(x, mean, scale)
    theta = x.new_zeros(len(classes), x.shape[1] + 1)
    with torch.inference_mode(False), torch.enable_grad():
        theta = _solved(x.clone(), y.clone(), strengths[-1], theta, max_iterations)
    return LinearProbe(theta[:, :-1], theta[:, -1], mean, scale, classes, strengths[-1], accuracies)


def _compared(
    x: Tensor, y: Tensor, x_val: Tensor, y_val: Tensor, strengths: Sequence[float], iterations: int
) -> dict[float, float]:
    mean, scale = _moments(x)
    x, x_val = _standardised(x, mean, scale), _standardised(x_val, mean, scale)
    accuracies = {}
    with torch.inference_mode(False), torch.enable_grad():
        x, y = x.clone(), y.clone()
        theta = x.new_zeros(int(y.max()) + 1, x.shape[1] + 1)
        for strength in strengths:
            theta = _solved(x, y, strength, theta, iterations)
            hits = (x_val @ theta[:, :-1].T + theta[:, -1]).argmax(1) == y_val
            accuracies[strength] = float(hits.double().mean())
    return accuracies


def _solved(x: Tensor, y: Tensor, strength: float, start: Tensor, iterations: int) -> Tensor:
    theta = start.clone().requires_grad_()
    # the gradient says when it is there: near the optimum the loss stands still long before the weights do
    gradient, change = (1e-9, 1e-16) if x.dtype == torch.float64 else (1e-5, 1e-9)
    solver = torch.optim.LBFGS(
        [theta],
        max_iter=iterations,
        tolerance_grad=gradient,
        tolerance_change=change,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        solver.zero_grad()
        loss = cross_entropy(x @ theta[:, :-1].T + theta[:, -1], y) + 0.5 * strength * theta[:, :-1].square().sum()
        loss.backward()
        return loss

    with torch.autocast(x.device.type, enabled=False):
        solver.step(objective)
    return theta.detach()


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    deviation = x.std(0, correction=0)
    # a feature that never changes says nothing, and must not be divided by nothing
    return x.mean(0), torch.where(deviation > _EPS, deviation, 1.0)


def _standardised(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return (x.to(mean.dtype) - mean) / scale


def _part_of_each_class(y: Tensor, share: float, seed: int) -> Tensor:
    """A mask of about `share` of each class's rows, and never of all: who has one row keeps it for training."""
    drawn = torch.rand(len(y), generator=torch.Generator().manual_seed(seed)).to(y.device)
    # rows class after class, at random within a class; the place of each within its class
    order = drawn.argsort()
    order = order[y[order].argsort(stable=True)]
    counts = torch.bincount(y)
    place = torch.arange(len(y), device=y.device) - (counts.cumsum(0) - counts)[y[order]]
    held_out = (share * counts).round().clamp(min=1).minimum(counts.double() - 1)
    mask = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    mask[order] = place < held_out[y[order]]
    return mask
