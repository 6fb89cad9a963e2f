"""The configurations of many jobs, composed once for each choice of groups: Hydra takes half a second for each.

What an override does beyond choosing a file of a group is applied to a copy, as Hydra itself applies it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from stablelit.errors import ConfigurationError, did_you_mean
from stablelit.run.door import users_mistake
from stablelit.run.problems import NO_VALUE, Problem


@dataclass
class Composed:
    """One job's configuration.

    Args:
        config: without its `hydra` section; None where it cannot be composed.
        files: the choices of files that it is made of.
        problems: what is wrong with its overrides.
    """

    config: DictConfig | None
    files: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)


class JobComposer:
    """Composes jobs of one sweep.

    Args:
        loader: Hydra's.
        sweep: the sweep's own configuration, with its `hydra` section.
    """

    def __init__(self, loader: Any, sweep: DictConfig) -> None:
        self._loader, self._name = loader, sweep.hydra.job.config_name
        self._own = [str(override) for override in sweep.hydra.overrides.hydra]
        self._parser = OverridesParser.create(config_loader=loader)
        _, self._repository = loader._parse_overrides_and_create_caching_repo(self._name, self._own)
        self._bases: dict[tuple[str, ...], Composed] = {}

    def compose(self, overrides: Sequence[str]) -> Composed:
        """The configuration that these overrides give, and what is wrong with them."""
        parsed = self._parser.parse_overrides(list(overrides))
        chosen = tuple(str(o.input_line) for o in parsed if self._chooses_a_file(o))
        if chosen not in self._bases:
            self._bases[chosen] = self._base(chosen)
        base = self._bases[chosen]
        if base.config is None:
            return base
        composed = Composed(copy.deepcopy(base.config), chosen)
        for override in parsed:
            if override.input_line not in chosen:
                composed.problems += _apply(override, composed.config)
        return composed

    def _chooses_a_file(self, override: Override) -> bool:
        is_group = self._repository.group_exists(override.key_or_group)
        return (is_group and not isinstance(override.value(), dict)) or override.is_hydra_override()

    def _base(self, chosen: Sequence[str]) -> Composed:
        try:
            config = self._loader.load_configuration(self._name, [*self._own, *chosen], run_mode=RunMode.RUN)
        except (HydraException, ConfigurationError) as error:
            if isinstance(error, ConfigurationError):
                raise
            said = (users_mistake(error) or str(error)).strip().splitlines()
            return Composed(None, problems=[Problem(" ".join(chosen), NO_VALUE, said[0], "\n    ".join(said[1:]))])
        with open_dict(config):
            config.pop("hydra")
            # callbacks and loggers refer to the run's directory, which is made only for a configuration that is right
            config.run_dir = config.get("run_dir") or "runs"
        return Composed(config)


def _apply(override: Override, config: DictConfig | None) -> list[Problem]:
    assert config is not None
    try:
        ConfigLoaderImpl._apply_overrides_to_config([override], config)
        return []
    except HydraException as error:
        key = override.key_or_group
        section, _, name = key.rpartition(".")
        inside = OmegaConf.select(config, section, throw_on_missing=False) if section else config
        known = [str(k) for k in inside] if isinstance(inside, DictConfig) else []
        unknown = not (override.is_add() or override.is_delete())
        if unknown:
            # forced in, so that the check, which knows the signatures, can say more
            try:
                OmegaConf.update(config, key, override.value(), merge=True, force_add=True)
            except (OmegaConfBaseException, ValueError):
                unknown = False
        if not unknown:
            return [Problem(override.input_line or key, NO_VALUE, str(error).strip().splitlines()[0])]
        where = f"{section} has no key {name!r}" if section else f"there is no key {name!r}"
        if not known and section:
            where = f"there is no {section} in this configuration"
            return [Problem(key, override.value(), where, _others(config, section))]
        if "_target_" in known:
            # what its class does not take the check says, and better
            return [Problem(key, override.value(), where, f"To add it: +{key}=...")]
        remedy = f"{did_you_mean(name, known)} There are: {', '.join(known)}.".strip()
        return [Problem(key, override.value(), where, remedy)]


def _others(config: DictConfig, section: str) -> str:
    """What there is beside a section that is not there."""
    above, _, name = section.rpartition(".")
    inside = OmegaConf.select(config, above, throw_on_missing=False) if above else config
    members = [str(k) for k in inside if k != name] if isinstance(inside, DictConfig) else []
    return f"{did_you_mean(name, members)} There are: {', '.join(members) or 'none'}.".strip()
