"""Overrides whose key is in no configuration: all of them at once, with the nearest right name.

Hydra stops at the first and advises to add it with `+`, which only carries the mistake further. So where it stops, the
configuration is composed once more with every override forced in, and read by our own check, which knows the
signatures; where a section has no signature (the settings of a decoder), its own keys say which there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf

from stablelit.errors import did_you_mean
from stablelit.run.command_line import CommandLine, key_of
from stablelit.run.composing import naming_bad_files
from stablelit.run.experiments import shipped_conf
from stablelit.run.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def telling_misspelt_keys(
    compose_with: Callable[[Sequence[str]], DictConfig], overrides: Sequence[str]
) -> Iterator[None]:
    """Turns Hydra's complaint about one unknown key into ours about everything.

    Args:
        compose_with: composes the configuration with overrides.
        overrides: `forced` ones.

    Raises:
        ConfigurationError: with all problems, where the check finds them; else Hydra's own error comes through.
    """
    try:
        yield
    except ConfigCompositionException:
        try:
            config = compose_with(overrides)
            as_written = compose_with([text for text in overrides if not text.startswith("++")])
        except HydraException:
            config = None
        if config is not None:
            from stablelit.run.train_job import check_configuration

            check_configuration(config, list(_strangers(overrides, config, as_written)))
        raise


def _strangers(overrides: Sequence[str], config: DictConfig, as_written: DictConfig) -> Iterator[Problem]:
    """Keys that no configuration has, in sections that are no arguments of a `_target_`."""
    for text in overrides:
        section, _, name = key_of(text).rpartition(".")
        there = OmegaConf.select(as_written, section, throw_on_missing=False) if section else None
        if text.startswith("++") and isinstance(there, DictConfig) and "_target_" not in there and name not in there:
            value = OmegaConf.select(config, f"{section}.{name}")
            known = [str(key) for key in there]
            remedy = f"{did_you_mean(name, known)} There are: {', '.join(known) or 'none'}.".strip()
            yield Problem(f"{section}.{name}", value, f"{section} has no key {name!r}", remedy)


def forced(overrides: Sequence[str], conf: Path | None = None) -> list[str]:
    """The overrides with `++` before every plain value, and the first value of every sweep.

    >>> forced(["+experiment=jets", "model.latent_dimm=8", "seed=1,2"])
    ['+experiment=jets', '++model.latent_dimm=8', '++seed=1']
    """
    parser = OverridesParser.create()
    result = []
    for text in overrides:
        key = key_of(text)
        override = parser.parse_override(text)
        if override.is_sweep_override():
            value = override.value()
            if isinstance(value, Glob):
                continue  # which names there are only Hydra knows
            first: object = value.start if isinstance(value, IntervalSweep) else next(override.sweep_string_iterator())
            text = f"{text.partition('=')[0]}={first}"
        is_group = "/" in key or (shipped_conf() / key).is_dir() or (conf is not None and (conf / key).is_dir())
        plain = text[0] not in "+~" and "=" in text and not is_group and not key.startswith("hydra.")
        result.append(f"++{text}" if plain else text)
    return result


def composer(line: CommandLine) -> tuple[Callable[[Sequence[str]], DictConfig], list[str]]:
    """What composes the configuration of a command line, and its overrides, forced."""
    directory = line.option("--config-dir", "-cd")
    conf = Path(directory).absolute() if directory else None
    search = [f"hydra.searchpath=[file://{conf}]"] if conf else []

    def composed(overrides: Sequence[str]) -> DictConfig:
        with naming_bad_files([conf] if conf else []), initialize_config_module("stablelit.conf", version_base="1.3"):
            name = line.option("--config-name", "-cn") or "train"
            return compose(name, overrides=[*search, *overrides])

    return composed, forced(line.ordered().overrides, conf)
