from __future__ import annotations

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.jets import decoders
from stablelit.families.jets.decoders import JetDecoder, build_decoder

NAMES = list(decoders._DECODERS)


def jets():
    torch.manual_seed(0)
    mask = torch.arange(6) < torch.tensor([[1], [3], [6], [5]])
    return torch.randn(4, 6, 3).masked_fill(~mask[..., None], 0.0), mask


@pytest.mark.parametrize("name", [name for name in NAMES if name != "slots"])
def test_every_likelihood_decoder_keeps_what_the_interface_says(name):
    made = build_decoder(name, 5, 6)
    assert isinstance(made, JetDecoder)
    (x, mask), z = jets(), torch.randn(4, 5, requires_grad=True)
    terms = made.recon_terms(z, x, mask)
    assert all(term.shape == (4,) and term.requires_grad for term in terms.values())
    parts = [term for key, term in terms.items() if key != "recon"]
    assert torch.allclose(terms["recon"], torch.stack(parts).sum(0), rtol=1e-5)
    drawn, there = made.draw(z, torch.Generator().manual_seed(1))
    assert drawn.shape == (4, 6, 3)
    assert there.dtype == torch.bool
    assert there.any(1).all()
    again, _ = made.draw(z, torch.Generator().manual_seed(1))
    assert torch.equal(drawn[there], again[there])
    assert not drawn.requires_grad


@pytest.mark.parametrize("name", [name for name in NAMES if name != "slots"])
def test_a_decoders_own_draws_are_likelier_than_those_of_another_code(name):
    torch.manual_seed(0)
    made = build_decoder(name, 2, 6)
    for parameter in made.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    z = 3.0 * torch.randn(400, 2)
    x, mask = made.draw(z, torch.Generator().manual_seed(1))
    with torch.no_grad():
        own, other = (made.recon_terms(code, x, mask)["recon"].mean() for code in (z, z.flip(0)))
    assert own < other


def test_settings_come_with_the_name():
    made = build_decoder({"name": "mixture", "n_components": 5, "hidden": 8}, 3, 4)
    assert made(torch.randn(2, 3)).mean.shape == (2, 5, 3)


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        ("mixtur", "Did you mean 'mixture'"),
        ({"n_components": 3}, "decoder=None"),
        ({"name": "mixture", "n_component": 3}, "no setting 'n_component'. Did you mean 'n_components'"),
        ({"name": "mixture", "n_particles": 3}, "no setting 'n_particles'"),
    ],
)
def test_unknown_names_and_settings_are_refused(decoder, message):
    with pytest.raises(ConfigurationError, match=message):
        build_decoder(decoder, 3, 4)
