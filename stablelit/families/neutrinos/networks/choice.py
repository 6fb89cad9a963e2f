"""A network by its name and settings, as configurations have it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.families.neutrinos.networks.dynedge import DynEdge
from stablelit.families.neutrinos.networks.flat_transformer import FlatTransformer
from stablelit.families.neutrinos.networks.hierarchical_transformer import PRESETS, HierarchicalTransformer

NETWORKS: dict[str, Callable[..., Any]] = {
    "hierarchical": HierarchicalTransformer,
    "flat": FlatTransformer,
    "dynedge": DynEdge,
}


def build_network(network: str | Mapping[str, Any]) -> nn.Module:
    """The network that `network` names.

    Args:
        network: "hierarchical", "flat" or "dynedge", or a mapping of its ``name`` and settings. The hierarchical
            transformer takes a ``preset`` too, of which settings given beside it change parts.

    Raises:
        ConfigurationError: no such network, preset or setting, or a setting out of range.
    """
    settings = {"name": network} if isinstance(network, str) else dict(network)
    name, preset = settings.pop("name", None), settings.pop("preset", None)
    if name not in NETWORKS:
        hint = did_you_mean(str(name), NETWORKS)
        raise bad_argument("NeutrinoDirection", "network.name", name, ", ".join(NETWORKS), hint)
    if preset is not None:
        if name != "hierarchical":
            raise ConfigurationError(f"NeutrinoDirection: network.preset={preset!r} is for the hierarchical network.")
        if preset not in PRESETS:
            raise bad_argument(
                "NeutrinoDirection", "network.preset", preset, ", ".join(PRESETS), did_you_mean(str(preset), PRESETS)
            )
        settings = PRESETS[preset] | settings
    make = NETWORKS[name]
    known = list(inspect.signature(make).parameters)
    for key, value in settings.items():
        if key not in known:
            raise ConfigurationError(
                f"NeutrinoDirection: network.{key}={value!r}: {name} has no such setting. "
                f"{did_you_mean(key, known)} It has {', '.join(known)}."
            )
    built: nn.Module = make(**settings)
    return built
