from __future__ import annotations

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.jets.decoders.mixture import MixtureDecoder, MixtureParameters
from stablelit.families.jets.losses import mixture_log_density


def decoder(**arguments):
    torch.manual_seed(1)
    return MixtureDecoder(4, 6, **{"hidden": 16, "n_components": 3, **arguments})


def test_likelihood_of_a_padded_batch_is_that_of_its_jets():
    made, z = decoder(), torch.randn(3, 4)
    x, mask = torch.randn(3, 6, 3), torch.arange(6) < torch.tensor([[1], [2], [6]])
    x[~mask] = 1e6
    together = made.recon_terms(z, x, mask)
    decoded = made(z)
    for b, n in enumerate((1, 2, 6)):
        one = [part[b : b + 1] for part in decoded[1:]]
        particles = -mixture_log_density(x[b : b + 1, :n], *one).sum()
        count = -decoded.count_logits[b].log_softmax(-1)[n - 1]
        assert torch.allclose(together["particles"][b], particles, atol=1e-5)
        assert torch.allclose(together["count"][b], count, atol=1e-5)
        assert torch.allclose(together["recon"][b], particles + count, atol=1e-5)


def test_likelihood_does_not_know_an_order():
    made, z = decoder(), torch.randn(2, 4)
    x, mask = torch.randn(2, 6, 3), torch.arange(6) < torch.tensor([[4], [6]])
    order = torch.randperm(6)
    first, second = (made.recon_terms(z, a, m)["recon"] for a, m in ((x, mask), (x[:, order], mask[:, order])))
    assert torch.allclose(first, second, atol=1e-5)


def test_padding_gets_no_gradient():
    made, z = decoder(), torch.randn(2, 4)
    x, mask = torch.randn(2, 6, 3, requires_grad=True), torch.arange(6) < torch.tensor([[2], [3]])
    made.recon_terms(z, x, mask)["recon"].sum().backward()
    assert not x.grad[~mask].any()
    assert x.grad[mask].all()


def test_parameters_are_normalised_and_bounded():
    made = decoder()
    # far outside what training would leave there
    torch.nn.init.normal_(made.out.bias, std=20.0)
    decoded = made(torch.randn(7, 4))
    assert torch.allclose(decoded.log_weight.exp().sum(-1), torch.ones(7))
    assert decoded.log_sigma.min() == -4
    assert decoded.log_sigma.max() == 2
    assert decoded.count_logits.shape == (7, 6)


def test_draws_follow_the_decoder():
    made = decoder()
    z = torch.zeros(4000, 4)
    decoded = MixtureParameters(*(part.detach() for part in made(z[:1])))
    x, mask = made.draw(z, torch.Generator().manual_seed(0))
    count = decoded.count_logits.softmax(-1)[0] @ torch.arange(1.0, 7.0)
    assert float(mask.sum(1).float().mean()) == pytest.approx(float(count), rel=0.03)
    mean = (decoded.log_weight.exp()[0, :, None] * decoded.mean[0]).sum(0)
    assert torch.allclose(x[mask].mean(0), mean, atol=0.04)


@pytest.mark.parametrize("arguments", [{"hidden": 0}, {"n_components": 2.5}, {"dropout": 1.0}])
def test_settings_are_checked(arguments):
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        decoder(**arguments)
