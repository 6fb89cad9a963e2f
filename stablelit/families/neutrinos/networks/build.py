"""A network by its name and settings, as experiments give them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.families.neutrinos.networks.dynedge import DynEdge
from stablelit.families.neutrinos.networks.flat_transformer import FlatTransformer
from stablelit.families.neutrinos.networks.hierarchical_transformer import HierarchicalTransformer

NETWORKS: dict[str, type[nn.Module]] = {
    "hierarchical": HierarchicalTransformer,
    "flat": FlatTransformer,
    "dynedge": DynEdge,
}


def build_network(network: str | Mapping[str, Any], owner: str = "build_network") -> nn.Module:
    """The network of that name, with those settings.

    Args:
        network: "hierarchical", "flat" or "dynedge", or a mapping of ``name`` and settings, of which ``preset`` is a
            known size that the others change.
        owner: who asks, for the message.

    Raises:
        ConfigurationError: an unknown name, preset or setting, or a setting outside its range.
    """
    if not isinstance(network, str | Mapping):
        raise bad_argument(owner, "network", network, "a name, or a mapping of name and settings")
    settings = {"name": network} if isinstance(network, str) else dict(network)
    name = settings.pop("name", None)
    if not isinstance(name, str) or name not in NETWORKS:
        raise bad_argument(owner, "network", name, ", ".join(NETWORKS), did_you_mean(str(name), NETWORKS))
    made = NETWORKS[name]
    known = list(inspect.signature(made).parameters)
    if hasattr(made, "preset"):
        known.append("preset")
    for key in settings:
        if key not in known:
            raise ConfigurationError(
                f"{owner}: the network {name!r} has no setting {key!r}. {did_you_mean(str(key), known)} "
                f"Allowed: {', '.join(known)}."
            )
    preset = settings.pop("preset", None)
    return made(**settings) if preset is None else made.preset(preset, **settings)  # type: ignore[operator]
