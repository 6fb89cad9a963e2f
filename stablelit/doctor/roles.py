"""Names logged curves by their role, so that a rule finds the KL or the edges whatever a project calls them."""

from __future__ import annotations

from collections.abc import Mapping

from stablelit.doctor.evidence import Curve, Settings
from stablelit.doctor.evidence.hyperparameters import number_named
from stablelit.doctor.readers.tag_guess import Tag, guess_tags

LOGGED = "logged/"
# hyperparameters that a rule compares a curve with, as curves of one point
CONSTANTS = {
    "latent_dim": ("latent_dim", "z_dim", "latent_size", "latent_dims", "n_latent", "zdim", "dim_z", "code_dim"),
    "true_edges": ("true_edges", "n_true_edges", "num_true_edges"),
    "nodes": ("n_nodes", "num_nodes", "n_vars", "num_vars", "n_variables", "num_variables"),
    "ema_decay": ("ema_decay", "ema"),
}
_MEASURED_INSIDE = ("loss", "val_loss", "lr", "grad_norm")


class RoleNamer:
    """Gives logged curves of a run that goes on their roles, and looks at names only when there are new ones.

    >>> curves = {"logged/train_kl": Curve([1], [0.5])}
    >>> RoleNamer().add_to(curves, Settings())
    >>> curves["kl"] is curves["logged/train_kl"]
    True
    """

    def __init__(self) -> None:
        self._names = -1

    def add_to(self, curves: dict[str, Curve], settings: Settings) -> None:
        """Adds what roles there are; never a loss, a rate or a norm, which the doctor measures itself."""
        names = sum(name.startswith(LOGGED) for name in curves)
        if names == self._names:
            return
        self._names = names
        _, added = name_roles(curves, settings)
        curves.update({role: curve for role, curve in added.items() if role not in _MEASURED_INSIDE})


def name_roles(
    curves: Mapping[str, Curve], settings: Settings, fixed: Mapping[str, str] | None = None
) -> tuple[dict[str, str], dict[str, Curve]]:
    """The tag of each role, and the curves that roles and constants add: the same objects under another name.

    Args:
        curves: what was logged, by ``logged/<name>``; others are left alone, and a role that has a curve keeps it.
        settings: with hyperparameters, where these are known.
        fixed: roles whose tag is given.
    """
    shown = [
        Tag(name.removeprefix(LOGGED), len(curve), _largest(curve))
        for name, curve in curves.items()
        if name.startswith(LOGGED)
    ]
    tags = guess_tags(shown, fixed)
    added = {role: curves[LOGGED + tag] for role, tag in tags.items() if role not in curves}
    for role, names in CONSTANTS.items():
        found = number_named(settings, names)
        if found is not None and role not in curves and role not in added:
            added[role] = Curve([0.0], [found[1]])
    return tags, added


def _largest(curve: Curve) -> float:
    values = curve.finite().values
    return float(values.max()) if len(values) else float("-inf")
