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
    "temperature": ("temperature", "tau"),
    "ema_decay": ("ema_decay", "ema"),
}


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
