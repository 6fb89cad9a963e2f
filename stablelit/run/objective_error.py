"""An objective that nothing logs, apart from who finds it: who looks for it does not wait for Lightning."""

from __future__ import annotations

from stablelit.errors import ConfigurationError


class ObjectiveNotLogged(ConfigurationError):
    """The objective is not among what a run has logged."""
