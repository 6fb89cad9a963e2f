from __future__ import annotations

import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.neutrinos.networks import DynEdge, FlatTransformer, HierarchicalTransformer, build_network


def test_a_name_brings_the_defaults_and_a_mapping_its_settings():
    assert isinstance(build_network("hierarchical"), HierarchicalTransformer)
    flat = build_network({"name": "flat", "d_model": 32, "layers": 2})
    assert isinstance(flat, FlatTransformer)
    assert (flat.width, len(flat.event_transformer.blocks)) == (32, 2)


def test_a_preset_is_changed_by_settings_and_the_mapping_is_left_alone():
    settings = {"name": "dynedge", "preset": "small", "neighbours": 4}
    network = build_network(settings)
    assert isinstance(network, DynEdge)
    assert (network.width, network.neighbours) == (64, 4)
    assert settings == {"name": "dynedge", "preset": "small", "neighbours": 4}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("hierarchic", "Neutrinos: network='hierarchic'.*Did you mean 'hierarchical'"),
        ({"d_model": 64}, "Neutrinos: network=None is not allowed. Allowed: hierarchical, flat, dynedge"),
        (3, "Neutrinos: network=3 is not allowed. Allowed: a name, or a mapping"),
        ({"name": "flat", "head": 4}, "the network 'flat' has no setting 'head'. Did you mean 'heads'"),
        ({"name": "flat", "preset": "small"}, "the network 'flat' has no setting 'preset'"),
        ({"name": "dynedge", "preset": "big"}, "DynEdge: preset='big'"),
        ({"name": "hierarchical", "heads": 0}, "heads=0"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(network, message):
    with pytest.raises(ConfigurationError, match=message):
        build_network(network, owner="Neutrinos")
