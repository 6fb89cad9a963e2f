"""What constructors refuse, found out by constructing: each distinct section once, and nothing is kept."""

from __future__ import annotations

import glob
import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from hydra.utils import instantiate
from lightning.fabric.utilities.seed import _collect_rng_states, _set_rng_states
from omegaconf import DictConfig

from stablelit.run.build import build_data, build_module, built_from
from stablelit.run.door import users_mistake
from stablelit.run.problems import NO_VALUE, Problem
from stablelit.run.sweep.job import repeats_the_sweep
from stablelit.run.weights import initial_checkpoint

_LONGEST_S = 30.0


class Construction:
    """Builds the parts of jobs, remembering what it has built.

    Args:
        local: the jobs run on this machine. Elsewhere there may be other devices and other files.
    """

    def __init__(self, local: bool = True) -> None:
        self._local = local
        self._known: dict[str, list[Problem]] = {}
        self._seconds = 0.0
        self._not_built = 0

    @property
    def notes(self) -> list[str]:
        """What was not looked at."""
        if not self._local:
            return ["The jobs run elsewhere: their devices and files were not looked at."]
        if self._not_built:
            return [f"{self._not_built} sections were not built, to begin in time: their jobs may still refuse them."]
        return []

    def problems(self, config: DictConfig, plain: Mapping[str, Any]) -> list[Problem]:
        """What this job's constructors say, and which of its files are not there.

        Args:
            config: the job's configuration.
            plain: the same, resolved.
        """
        if not self._local:
            return []
        parts = [plain.get(name) for name in ("model", "optimizer", "lr_schedule")]
        found = [
            *_missing_files(config),
            *self._section("trainer", plain["trainer"], lambda: _strategy(config)),
            *self._section("data", plain.get("data"), lambda: _built("data", lambda: build_data(config))),
            *self._section("model", parts, lambda: _built("model", lambda: build_module(config))),
            *self._section(
                "weights", plain.get("weights"), lambda: _built("weights", lambda: initial_checkpoint(config))
            ),
        ]
        for name, section in (plain.get("callbacks") or {}).items():
            if isinstance(section, dict) and "_target_" in section:
                found += self._section(f"callbacks.{name}", section, partial(_callback, config, name))
        return found

    def _section(self, key: str, section: Any, build: Callable[[], list[Problem]]) -> list[Problem]:
        known_as = f"{key}: {json.dumps(section, sort_keys=True, default=str)}"
        if known_as not in self._known:
            if self._seconds > _LONGEST_S:
                self._not_built += 1
                return []
            began = time.monotonic()
            self._known[known_as] = build()
            self._seconds += time.monotonic() - began
        return self._known[known_as]


def _callback(config: DictConfig, name: str) -> list[Problem]:
    return _built(f"callbacks.{name}", lambda: built_from(config.callbacks[name]))


def _built(key: str, build: Callable[[], object]) -> list[Problem]:
    states = _collect_rng_states(include_cuda=False)
    try:
        build()
    except Exception as error:
        said = users_mistake(error) or f"{type(error).__name__}: {error}"
        said = said.partition("\n(full_key")[0].partition("\nfull_key")[0]
        return [Problem(key, NO_VALUE, said.removeprefix("ConfigurationError: "))]
    finally:
        _set_rng_states(states)
    return []


def _strategy(config: DictConfig) -> list[Problem]:
    complaint: list[str] = []

    def build() -> None:
        own = {"callbacks": [], "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        own = {name: value for name, value in own.items() if name not in config.trainer or name == "callbacks"}
        trainer: pl.Trainer = instantiate(config.trainer, _convert_="all", **own)
        complaint.append(repeats_the_sweep(trainer))

    refused = _built("trainer", build)
    if not refused and complaint[0]:
        return [Problem("trainer.strategy", str(config.trainer.get("strategy", "auto")), complaint[0])]
    return refused


def _missing_files(config: DictConfig) -> Iterator[Problem]:
    data, model = config.get("data") or {}, config.get("model") or {}
    # what `path` means to a stranger's data is not known
    if str(data.get("_target_", "")).startswith("stablelit."):
        given = data.get("path")
        for path in [given] if isinstance(given, str) else given or []:
            if isinstance(path, str) and "://" not in path and not _is_there(path):
                yield Problem("data.path", path, "there is no such file or folder", f"Looked for it from {Path.cwd()}.")
    encoder = model.get("encoder_from") if isinstance(model, DictConfig) else None
    if isinstance(encoder, str) and not _is_there(encoder):
        yield Problem("model.encoder_from", encoder, "there is no such run or checkpoint")


def _is_there(path: str) -> bool:
    place = Path(path).expanduser()
    return place.exists() or bool(glob.glob(str(place)))
