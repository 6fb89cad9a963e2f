"""The `hydra:` section of a configuration, read before Hydra acts on it.

Hydra builds its callbacks, launcher, sweeper and logging handlers from the configuration itself, before a line of ours
runs. A recipe that brings its own could therefore run anything, however well its task section is checked. So every
configuration is looked at where Hydra loads it, that of each job of a sweep too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.experimental.callback import Callback
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from stablelit.errors import ConfigurationError
from stablelit.run.composing import directories_of, naming_bad_files
from stablelit.run.environment import allowed_targets

# where the classes live that Hydra, its own plugins and logging are configured with
_PACKAGES = (
    "hydra._internal.core_plugins.",
    "hydra.experimental.",
    "hydra_plugins.",
    "optuna.samplers.",
    "optuna.pruners.",
    "logging.",
    "colorlog.",
    "stablelit.run.sweep.",
)
_BASES = (Launcher, Sweeper, Callback, logging.Handler, logging.Formatter, logging.Filter)
# the keys under which Hydra or logging.config calls something by name
_CALLS = ("_target_", "()", "class", "custom_search_space")


@contextmanager
def only_trusted_hydra_sections() -> Iterator[None]:
    """While it is open, a configuration whose `hydra:` section would call something unknown cannot be loaded."""
    # Hydra has no public place between composing and acting
    original = ConfigLoaderImpl.load_configuration

    def load_configuration(self: Any, *args: Any, **kwargs: Any) -> DictConfig:
        with naming_bad_files(directories_of(self.config_search_path)):
            config = original(self, *args, **kwargs)
        refuse_untrusted(config)
        return config

    ConfigLoaderImpl.load_configuration = load_configuration  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = original  # type: ignore[method-assign]


def refuse_untrusted(config: DictConfig) -> None:
    """Reads the `hydra:` section.

    Raises:
        ConfigurationError: it names something to call that is neither Hydra's, nor logging's, nor allowed on the
            command line; or it sets environment variables, which can make a child process load code.
    """
    section = config.get("hydra")
    if section is None:
        return
    plain = OmegaConf.to_container(section, resolve=False)
    # these repeat what was typed and where it came from
    own = {k: v for k, v in plain.items() if k not in ("overrides", "runtime")}  # type: ignore[union-attr]
    allowed = set(allowed_targets())
    for key, value in _calls(own, "hydra"):
        if value not in allowed and not _is_trusted(str(value)):
            raise ConfigurationError(
                f"{key}={value}: Hydra itself would call this before anything is checked. Allowed there: Hydra's own "
                f"classes, its plugins and logging's. If you trust it: 'allow_targets=[{value}]' on the command line."
            )
    if variables := own.get("job", {}).get("env_set"):
        raise ConfigurationError(
            f"hydra.job.env_set={variables}: a configuration may not set environment variables. Set them in your shell."
        )


def _is_trusted(path: str) -> bool:
    """Whether a name stands for a class of the right kind, and is not a function that such a module has imported."""
    if not path.startswith(_PACKAGES):
        return False
    try:
        thing = get_object(path)
    except (ImportError, AttributeError, ValueError):
        return False
    if not isinstance(thing, type) or not f"{thing.__module__}.".startswith(_PACKAGES):
        return False
    return issubclass(thing, _BASES) or thing.__module__.startswith("optuna.")


def _calls(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for name, value in node.items():
            here = f"{key}.{name}"
            # logging.config imports what `ext://` names
            imported = isinstance(value, str) and value.startswith("ext://") and not value.startswith("ext://sys.")
            if imported or (name in _CALLS and value is not None):
                yield here, value
            else:
                yield from _calls(value, here)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _calls(value, f"{key}[{index}]")
