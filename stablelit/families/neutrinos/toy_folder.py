"""The generated events on disk: made once, found again by every later run with the same settings."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stablelit.data.files import replacing
from stablelit.errors import ConfigurationError, DataError
from stablelit.families.neutrinos.generator import generator_settings, write_event_files

EVENTS_PER_FILE = 500
"""Of generated files: small ones, so that few events can be split by whole files."""


def default_cache_dir() -> Path:
    """``$XDG_CACHE_HOME/stablelit/neutrinos``, ``~/.cache/stablelit/neutrinos`` where that is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stablelit" / "neutrinos"


def toy_folder(cache_dir: str | Path | None, n_events: int, seed: int) -> tuple[Path, dict[str, Any]]:
    """Where the files of these settings are or will be, named by a hash of the settings, and the settings."""
    settings = generator_settings(n_events=n_events, seed=seed, events_per_file=EVENTS_PER_FILE)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()
    return folder / digest[:16], settings


def generated_once(cache_dir: str | Path | None, n_events: int, seed: int, say: Callable[[str], None]) -> Path:
    """The folder of generated events; generates them, with a progress bar, where they are not there yet.

    They are there whole or not at all. The settings are kept in a file of JSON beside the folder.

    Raises:
        DataError: the settings beside the folder are others.
        ConfigurationError: the place cannot be written to.
    """
    folder, settings = toy_folder(cache_dir, n_events, seed)
    beside = folder.with_suffix(".json")
    if folder.is_dir():
        try:
            found = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else settings
        except ValueError:
            found = None
        if found != settings:
            raise DataError(
                f"{beside}: has other settings than {folder} is named for. Take both away; they are made again."
            )
        say(f"{n_events} TOY events were generated before: {folder}.")
    else:
        say(f"generating {n_events} TOY events in {folder} (once; later runs find them there).")
        try:
            write_event_files(folder, n_events, seed, events_per_file=EVENTS_PER_FILE)
        except (ConfigurationError, OSError) as error:
            # another process may have made them meanwhile
            if not (folder / "train_meta.parquet").is_file():
                if isinstance(error, ConfigurationError):
                    raise
                raise ConfigurationError(
                    f"{folder}: generated events cannot be written there ({error}). Give cache_dir=FOLDER, or set "
                    f"XDG_CACHE_HOME."
                ) from error
    if not beside.is_file():
        with replacing(beside) as temporary:
            temporary.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return folder
