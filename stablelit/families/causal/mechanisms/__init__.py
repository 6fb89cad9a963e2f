r"""How a node comes about from others, by name.

Each predicts all nodes of a row at once, from the other nodes of the row and from earlier rows,

.. math:: \hat x_t = b + f(x_t; W) + \sum_{l=1}^{p} f_l(x_{t-l}; A_l),

where the j-th component of f does not depend on :math:`x_{t,j}`; beside it stands the scale of the noise.

================  ==================================================================================================
`linear`          f is a weighted sum; what polishing and edge confidence are for
`network`         one network a node, an edge is the norm of its first layer (NOTEARS-MLP)
`tri_latent`      signal, noise and bias codes as in the post-mortem, with the signal mixed *through* the graph
`autoencoder`     the post-mortem's, with the decoder *around* the graph: no gradient of a reconstruction reaches W
================  ==================================================================================================
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from stablelit.errors import ConfigurationError, bad_argument, did_you_mean

_MECHANISMS = {
    "linear": ("linear", "LinearMechanism"),
    "network": ("network", "NetworkMechanism"),
    "tri_latent": ("tri_latent", "TriLatentMechanism"),
    "autoencoder": ("autoencoder", "AutoencoderMechanism"),
}


@dataclass
class Prediction:
    """What a mechanism says of a batch.

    Args:
        mean: (B, d), in the units that came in.
        log_scale: logarithm of the noise's scale: (d,), (B, d), or 0-dim where all columns share it.
        codes: latent codes (B, k) of the mechanisms that have any, to be disentangled.
    """

    mean: Tensor
    log_scale: Tensor
    codes: tuple[Tensor, ...] = ()


class Mechanism(nn.Module, ABC):
    """A network with a `structure` whose `edge_weights()` are W, and whose `allowed` says which edges may be."""

    structure: Any
    log_scale: nn.Parameter

    @abstractmethod
    def forward(self, rows: Tensor, environment: Tensor, graph: Tensor | None = None) -> Prediction:
        """Predicts every node of the newest row.

        Args:
            rows: (B, 1 + p, d), the newest first, without holes.
            environment: (B,) int64.
            graph: (d, d) bool: only these edges; None is all.
        """

    def edge_weights(self) -> Tensor:
        """W, (d, d), float64."""
        weights: Tensor = self.structure.edge_weights()
        return weights

    def lag_sizes(self) -> Tensor | None:
        """What is to be sparse of the lags, (p, d, d); None without lags."""
        return None

    @property
    def predicts_by_graph(self) -> bool:
        """Whether a prediction goes through W."""
        return True

    @property
    def has_slopes(self) -> bool:
        """Whether W is the slope of the prediction, exactly or on average, so that I - W is a Jacobian."""
        return self.is_linear

    @property
    def is_linear(self) -> bool:
        """Whether the prediction is W's product with the row."""
        return False


def mechanism_name(mechanism: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and settings of what a configuration gives: a name, or a mapping with a ``name``.

    Raises:
        ConfigurationError: an unknown name or setting.
    """
    settings = {"name": mechanism} if isinstance(mechanism, str) else dict(mechanism)
    name = settings.pop("name", None)
    if name not in _MECHANISMS:
        raise bad_argument(
            "StructureLearner", "mechanism", name, ", ".join(_MECHANISMS), did_you_mean(str(name), _MECHANISMS)
        )
    known = list(inspect.signature(_class(name)).parameters)[5:]
    for key in settings:
        if key not in known:
            raise ConfigurationError(
                f"StructureLearner: the mechanism {name!r} has no setting {key!r}. {did_you_mean(str(key), known)} "
                f"Allowed: {', '.join(known) or 'none'}."
            )
    return name, settings


def build_mechanism(
    mechanism: str | Mapping[str, Any],
    nodes: int,
    lags: int,
    allowed: Tensor | None,
    shared_scale: bool,
    environments: int,
) -> Mechanism:
    """The mechanism of that name, with those settings.

    Args:
        mechanism: a name, or a mapping of ``name`` and settings.
        nodes: d.
        lags: p.
        allowed: (d, d) bool, edges that may be; None is all.
        shared_scale: one scale of the noise for all columns.
        environments: how many there are.

    Raises:
        ConfigurationError: an unknown name or setting, a setting outside its range.
    """
    name, settings = mechanism_name(mechanism)
    made: Mechanism = _class(name)(nodes, lags, allowed, shared_scale, environments, **settings)
    return made


def _class(name: str) -> Any:
    module, class_name = _MECHANISMS[name]
    return getattr(import_module(f"{__name__}.{module}"), class_name)
