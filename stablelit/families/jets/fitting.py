"""What a jet model takes from a datamodule before it is trained, and how the two have to agree."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from stablelit.errors import ConfigurationError, ContractError
from stablelit.families.jets.network import HypergraphVAE
from stablelit.families.jets.scaler import MAX_JETS_FOR_PAIRS


class HasNetwork(Protocol):
    """A jet model: its class is named in messages."""

    network: HypergraphVAE


def check_fit(model: HasNetwork, datamodule: Any) -> None:
    """Compares what the model was built for with what the datamodule gives.

    Raises:
        ConfigurationError: another number of particles, or for a condition on the class other classes.
    """
    network, owner, giver = model.network, type(model).__name__, type(datamodule).__name__
    size = getattr(datamodule, "n_particles", network.n_particles)
    if size != network.n_particles:
        raise ConfigurationError(
            f"{owner} was built for n_particles={network.n_particles}, but {giver} gives jets of n_particles={size}. "
            f"Set both to the same number."
        )
    known, jets = network.conditions.classes, getattr(datamodule, "jets", None)
    given = tuple(getattr(jets, "classes", known))
    if network.conditions.on_label and given != known:
        raise ConfigurationError(
            f"{owner} is conditioned on classes {', '.join(known)}, but {giver} gives {', '.join(given)}. "
            f"Set model.classes to these, in this order."
        )


def take_from(model: HasNetwork, datamodule: Any) -> None:
    """Gives the model the coordinates, and for a condition on the class the shares of the classes.

    Both are those of the training jets, without the ones that are left out.

    Raises:
        ContractError: a datamodule without a scaler.
    """
    network, owner = model.network, type(model).__name__
    if datamodule is None or not hasattr(datamodule, "scaler"):
        raise ContractError(
            f"{owner} needs `trainer.datamodule.scaler` (a JetScaler fitted to training jets), but the datamodule is "
            f"{type(datamodule).__name__} without one. Use JetDataModule, or call "
            f"`module.network.set_scaler(JetScaler.fit(particles, mask, jet))` before fit."
        )
    network.set_scaler(datamodule.scaler)
    dataset = getattr(datamodule, "training_jets", None)
    if dataset is None:
        return
    jets: dict[str, Tensor] = dataset.__getitems__(list(range(len(dataset))))
    few = slice(0, MAX_JETS_FOR_PAIRS)
    network.scale_hyperedges(jets["particles"][few], jets["mask"][few])
    if network.conditions.on_label:
        network.conditions.set_label_counts(torch.bincount(jets["label"], minlength=len(network.conditions.classes)))
