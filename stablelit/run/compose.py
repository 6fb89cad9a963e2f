"""A run's configuration on disk: how it is written, and how another command composes it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from stablelit.data.files import replacing
from stablelit.errors import ConfigurationError
from stablelit.run.composing import naming_bad_files
from stablelit.run.directory import OVERRIDES_FILE
from stablelit.run.misspelt import forced, telling_misspelt_keys
from stablelit.run.saved_yaml import check_yaml
from stablelit.run_files import CONFIG_FILE

_HEADER = """\
# What this run was, complete. To run it again:
#   python -m stablelit.train --config-dir {directory} --config-name config
# To go on with it:
#   python -m stablelit.train resume={directory}
defaults:
  - run_settings
  - override hydra/job_logging: stdout
  - _self_

"""
# these belong to one run, not to what is run again
_OF_ONE_RUN = ("run_dir", "resume")


@dataclass(frozen=True)
class SavedCommand:
    """What was typed to begin a run.

    Args:
        config_name: the root configuration.
        config_dir: the user's own configuration directory, absolute.
        overrides: Hydra's overrides in their order.
    """

    config_name: str
    config_dir: str | None
    overrides: tuple[str, ...]


def write_configuration(run_dir: Path, config: DictConfig) -> None:
    """Writes `config.yaml` and `overrides.yaml`."""
    saved = config.copy()
    with open_dict(saved):
        for key in _OF_ONE_RUN:
            saved[key] = None
        saved.pop("hydra", None)
    # a line break in the path would end the comment
    place = shlex.quote(str(run_dir)).replace("\n", "?").replace("\r", "?")
    text = _HEADER.format(directory=place) + OmegaConf.to_yaml(saved, resolve=False)
    _write(run_dir / CONFIG_FILE, text)
    command = _typed_command()
    if command is not None:
        text = "# what resume= composes again\n" + OmegaConf.to_yaml(OmegaConf.create(_as_plain(command)))
        _write(run_dir / OVERRIDES_FILE, text)


def _write(path: Path, text: str) -> None:
    # a resume writes them again, and must not lose them to a disk that is full
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def read_command(run_dir: Path) -> SavedCommand:
    """What was typed to begin the run in this directory.

    Raises:
        ConfigurationError: the file is missing or is not what `write_configuration` writes.
    """
    path = run_dir / OVERRIDES_FILE
    if not path.is_file():
        raise ConfigurationError(f"{run_dir} is not a run's directory: it has no {OVERRIDES_FILE}.")
    check_yaml(path)
    try:
        # as it is written: an interpolation belongs to the configuration, and is resolved there
        plain: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        name, directory, overrides = plain["config_name"], plain["config_dir"], plain["overrides"]
    except (YAMLError, OmegaConfBaseException, LookupError, TypeError, ValueError, AttributeError, OSError) as error:
        raise ConfigurationError(f"{path} cannot be read as the overrides of a run: {error}") from error
    if not isinstance(name, str) or not (directory is None or isinstance(directory, str)) or name.startswith("-"):
        raise ConfigurationError(f"{path}: config_name={name!r}, config_dir={directory!r}. Allowed: names.")
    if not isinstance(overrides, list) or not all(isinstance(o, str) for o in overrides):
        raise ConfigurationError(f"{path}: overrides={overrides!r:.80}. Allowed: a list of key=value.")
    # an option of Hydra's could have it load a pickle (--experimental-rerun)
    if options := [o for o in overrides if o.lstrip().startswith("-")]:
        raise ConfigurationError(f"{path}: the override {options[0]!r:.80} is an option. Allowed: key=value alone.")
    return SavedCommand(name, directory, tuple(overrides))


def compose_saved_run(run_dir: Path, overrides: Sequence[str]) -> DictConfig:
    """The configuration that a run has saved, with overrides.

    Raises:
        ConfigurationError: the directory has no `config.yaml`, or one that `check_yaml` refuses.
    """
    if not (run_dir / CONFIG_FILE).is_file():
        raise ConfigurationError(f"{run_dir} is not a run's directory: it has no {CONFIG_FILE}.")
    check_yaml(run_dir / CONFIG_FILE)

    def composed(overrides: Sequence[str]) -> DictConfig:
        here = run_dir.absolute()
        with naming_bad_files([]), initialize_config_dir(str(here), version_base="1.3"):
            return compose("config", overrides=["hydra.searchpath=[pkg://stablelit.conf]", *overrides])

    with telling_misspelt_keys(composed, forced(overrides)):
        return composed(overrides)


def _typed_command() -> SavedCommand | None:
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    directories = [s.path for s in hydra.runtime.config_sources if s.provider == "command-line"]
    # the search path is the one override of Hydra's own that decides what is composed
    own = [o for o in hydra.overrides.hydra if o.lstrip("+").startswith("hydra.searchpath=")]
    task = [o for o in hydra.overrides.task if o.partition("=")[0].lstrip("+") not in _OF_ONE_RUN]
    name = str(hydra.job.config_name)
    return SavedCommand(name, directories[0] if directories else None, (*task, *own))


def _as_plain(command: SavedCommand) -> dict[str, Any]:
    return {
        "config_name": command.config_name,
        "config_dir": command.config_dir,
        "overrides": list(command.overrides),
    }
