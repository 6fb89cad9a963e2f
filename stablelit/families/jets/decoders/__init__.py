"""Decoders of jets: what every one offers, and the ones there are, by name.

| name | particles |
|---|---|
| `hardest_first` | the hardest one after another, the others an exchangeable set that knows of them |
| `mixture` | an exchangeable set: independent draws from one mixture given z |
| `slots` | an ordered list, and heads for pairs and hyperedges: a published decoder, with its losses |

A decoder's constructor takes ``code_dim`` and ``n_particles`` first, then settings of its own, all with defaults:
these are what a configuration may give beside the name, ``{"name": "mixture", "n_components": 24}``.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.families.jets.coordinates import JetCoordinates, JetGraph
from stablelit.functional.schedules import check_number

# name: module of this package and class
_DECODERS = {
    "hardest_first": ("hardest_first", "HardestFirstDecoder"),
    "mixture": ("mixture", "MixtureDecoder"),
    "slots": ("slots", "SlotsDecoder"),
}


class JetDecoder(nn.Module, ABC):
    """What the model asks of a decoder: the terms of ``-log p(X | z)``, and jets drawn from ``p(X | z)``.

    The code z is the latent code, followed by what the jet is conditioned on (if anything): ``(B, code_dim)``.
    Particles x are `JetCoordinates.standardise`'s: scaled (ln ptrel, etarel, phirel), ``(B, N, 3)``.
    """

    @property
    def is_likelihood(self) -> bool:
        """Whether ``"recon"`` is minus a log density, so that recon + KL is a bound in nats."""
        return True

    @abstractmethod
    def recon_terms(self, z: Tensor, x: Tensor, mask: Tensor, graph: JetGraph | None = None) -> dict[str, Tensor]:
        """The terms of the reconstruction, each ``(B,)`` and live, where they are likelihoods in nats per jet.

        Args:
            z: ``(B, code_dim)``.
            x: ``(B, N, 3)`` particles.
            mask: ``(B, N)`` bool: which are there; the others do not matter.
            graph: the whole batch as the encoder sees it, for a decoder that needs more than particles.

        Returns:
            ``"recon"``, which enters the bound, and whatever it is made of, under names of the decoder's own.
        """

    @abstractmethod
    def draw(
        self,
        z: Tensor,
        generator: torch.Generator,
        coordinates: JetCoordinates | None = None,
        jet_pt: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draws one jet for every z.

        Args:
            z: ``(B, code_dim)``.
            generator: on the device of z.
            coordinates: for a decoder whose own coordinates are others.
            jet_pt: ``(B,)`` GeV, likewise.

        Returns:
            ``x`` ``(B, N, 3)`` in any order, and ``mask`` ``(B, N)`` with at least one particle a jet; where there is
            none, x does not matter.
        """


def build_decoder(decoder: str | Mapping[str, Any], code_dim: int, n_particles: int) -> JetDecoder:
    """The decoder of that name, with those settings.

    Args:
        decoder: a name, or a mapping of ``name`` and settings.
        code_dim: size of the code it is given.
        n_particles: largest number of particles.

    Raises:
        ConfigurationError: an unknown name or setting, a setting outside its range.
    """
    settings = {"name": decoder} if isinstance(decoder, str) else dict(decoder)
    name = settings.pop("name", None)
    if name not in _DECODERS:
        raise bad_argument("JetVAE", "decoder", name, ", ".join(_DECODERS), did_you_mean(str(name), _DECODERS))
    module, class_name = _DECODERS[name]
    made: type[JetDecoder] = getattr(import_module(f"{__name__}.{module}"), class_name)
    known = list(inspect.signature(made).parameters)[2:]
    for key in settings:
        if key not in known:
            raise ConfigurationError(
                f"JetVAE: the decoder {name!r} has no setting {key!r}. {did_you_mean(str(key), known)} "
                f"Allowed: {', '.join(known)}."
            )
    return made(code_dim, n_particles, **settings)


def check_count(owner: str, name: str, value: object, at_least: int = 1) -> None:
    """Raises unless `value` is an int of at least `at_least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise bad_argument(owner, name, value, f"an int of at least {at_least}")


def check_sizes(owner: str, dropout: float, **counts: int) -> None:
    """What all decoders' settings have to be.

    Raises:
        ConfigurationError: a count that is no int of at least 1, a dropout outside 0 to 0.95.
    """
    for name, value in counts.items():
        check_count(owner, name, value)
    check_number(owner, "dropout", dropout, at_least=0.0, at_most=0.95)


def hidden_layers(n_in: int, hidden: int, dropout: float) -> list[nn.Module]:
    """Two hidden layers, the first normalised: what a code is widened by before it is a mixture."""
    first: list[nn.Module] = [nn.Linear(n_in, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Dropout(dropout)]
    return [*first, nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)]
