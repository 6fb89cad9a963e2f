from __future__ import annotations

import pytest
import torch

from stablelit.functional.gradient_reach import component_gradients, judge_reach, unexplained_share


def parameters(*values):
    return [torch.tensor(v, requires_grad=True) for v in values]


def state(component, *among):
    return judge_reach(component, component_gradients(component, list(among)))


def test_norm_is_that_of_the_sum_over_samples():
    w, b = parameters([1.0, 2.0], 3.0)
    x = torch.tensor([[1.0, 5.0], [2.0, -1.0], [0.5, 0.5]])
    found = state(x @ w + b, w, b)
    # d/dw of the sum is the column sum of x, d/db the number of samples
    expected = (x.sum(0).square().sum() + 9.0).sqrt()
    assert found.state == "reaches"
    assert (found.reached, found.parameters) == (2, 2)
    assert found.norm == pytest.approx(float(expected), rel=1e-6)
    assert w.grad is None
    assert b.grad is None


def test_five_kinds_of_no_gradient_are_told_apart():
    w, other = parameters([1.0, -2.0], [1.0, 1.0])
    assert state((w * 0).sum() + 0 * other.sum(), w).state == "zero"
    assert state(other.sum(), w).state == "unused"
    assert state(w.detach().sum(), w).state == "detached"
    assert state((w * float("nan")).sum(), w).state == "non-finite"
    assert judge_reach(w.sum(), [], any_trainable=False).state == "frozen"


def test_a_gradient_that_half_precision_rounds_to_zero_is_seen():
    w = torch.ones(4, dtype=torch.float16, requires_grad=True)
    # 1e-8 is below float16's smallest number, 6e-8
    component = ((w * 1e-3) * 1e-3 * 1e-2).sum()
    assert torch.autograd.grad(component, w, retain_graph=True)[0].eq(0).all()
    found = state(component, w)
    assert found.state == "reaches"
    assert found.norm == pytest.approx(2e-8, rel=0.05)


def test_the_graph_stays():
    (w,) = parameters([1.0, 2.0])
    loss = (w**2).sum()
    component_gradients(loss, [w])
    loss.backward()
    assert w.grad.tolist() == [2.0, 4.0]


def test_unexplained_share_is_the_residual_of_least_squares():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    target = torch.randn(6, generator=generator, dtype=torch.float64)

    def cut(v):
        return [v[:2], None, v[2:].reshape(2, 2)]

    weights = torch.linalg.lstsq(matrix, target).solution
    expected = float((matrix @ weights - target).norm() / target.norm())
    assert unexplained_share(cut(target), [cut(c) for c in matrix.T]) == pytest.approx(expected, rel=1e-9)
    combined = 1e-9 * matrix[:, 0] + 1e6 * matrix[:, 1]
    assert unexplained_share(cut(combined), [cut(c) for c in matrix.T]) < 1e-6
    assert unexplained_share(cut(target), []) == 1.0
    assert unexplained_share(cut(0 * target), []) == 0.0
