"""Overrides whose key is in no configuration: all of them at once, with the nearest right name.

Hydra stops at the first and advises to add it with `+`, which only carries the mistake further. So where it stops, the
configuration is composed once more with every override forced in, and read by our own check, which knows the
signatures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig

from stablelit.run.command_line import CommandLine, key_of
from stablelit.run.experiments import shipped_conf

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def telling_misspelt_keys(compose_forced: Callable[[], DictConfig]) -> Iterator[None]:
    """Turns Hydra's complaint about one unknown key into ours about everything.

    Raises:
        ConfigurationError: with all problems, where the check finds them; else Hydra's own error comes through.
    """
    try:
        yield
    except ConfigCompositionException:
        try:
            config = compose_forced()
        except HydraException:
            config = None
        if config is not None:
            from stablelit.run.train_job import check_configuration

            check_configuration(config)
        raise


def forced(overrides: Sequence[str], conf: Path | None = None) -> list[str]:
    """The overrides with `++` before every plain value, and the first value of every sweep.

    >>> forced(["+experiment=jets", "model.latent_dimm=8", "seed=1,2"])
    ['+experiment=jets', '++model.latent_dimm=8', '++seed=1']
    """
    parser = OverridesParser.create()
    result = []
    for text in overrides:
        key = key_of(text)
        if parser.parse_override(text).is_sweep_override():
            first = next(iter(parser.parse_override(text).sweep_string_iterator()))
            text = f"{text.partition('=')[0]}={first}"
        is_group = "/" in key or (shipped_conf() / key).is_dir() or (conf is not None and (conf / key).is_dir())
        plain = text[0] not in "+~" and "=" in text and not is_group and not key.startswith("hydra.")
        result.append(f"++{text}" if plain else text)
    return result


def composed_by_force(line: CommandLine) -> DictConfig:
    """The configuration of a command line with every override forced in."""
    directory = line.option("--config-dir", "-cd")
    conf = Path(directory).absolute() if directory else None
    search = [f"hydra.searchpath=[file://{conf}]"] if conf else []
    with initialize_config_module("stablelit.conf", version_base="1.3"):
        name = line.option("--config-name", "-cn") or "train"
        return compose(name, overrides=[*search, *forced(line.ordered().overrides, conf)])
