from __future__ import annotations

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.neutrinos.networks.edge_convolution import EdgeConvolution
from tests.families.neutrinos.networks.ragged_events import randomised

NEIGHBOUR = torch.tensor([[1, 2], [0, 1], [2, 2], [0, 1]])
VALID = torch.tensor([[True, True], [True, False], [False, False], [True, True]])


@pytest.mark.parametrize("backend", ["dense", "pyg"])
def test_each_row_sums_over_its_edges(backend):
    convolution = randomised(EdgeConvolution(3, (6, 5, 4), backend))
    x = torch.randn(4, 3)
    expected = torch.zeros(4, 4)
    for i in range(4):
        for j, valid in zip(NEIGHBOUR[i].tolist(), VALID[i].tolist(), strict=True):
            if valid:
                expected[i] += convolution.layers(torch.cat([x[i], x[j] - x[i]]))
    torch.testing.assert_close(convolution(x, NEIGHBOUR, VALID), expected, atol=1e-5, rtol=1e-5)


def test_both_backends_have_the_same_parameters_and_gradients():
    dense, sparse = randomised(EdgeConvolution(3, (6, 4))), EdgeConvolution(3, (6, 4), "pyg")
    assert list(dense.state_dict()) == list(sparse.state_dict())
    sparse.load_state_dict(dense.state_dict())
    x = torch.randn(4, 3, requires_grad=True)
    for one, other in zip(
        torch.autograd.grad(dense(x, NEIGHBOUR, VALID).square().sum(), [x, *dense.parameters()]),
        torch.autograd.grad(sparse(x, NEIGHBOUR, VALID).square().sum(), [x, *sparse.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ConfigurationError, match="backend='pyf'.*Did you mean 'pyg'"):
        EdgeConvolution(3, (6,), "pyf")
