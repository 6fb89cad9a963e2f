"""Prepared sequences of a FASTA file: made once, found again by every later run with the same settings."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stablelit.data.files import existing_file
from stablelit.errors import ConfigurationError, bad_argument
from stablelit.families.proteins.preparation import prepare, report
from stablelit.families.proteins.readers.policies import Policies
from stablelit.families.proteins.store import VERSION, SequenceStore

_OWNER = "ProteinDataModule"


def default_cache_dir() -> Path:
    """``$XDG_CACHE_HOME/stablelit/proteins``, ``~/.cache/stablelit/proteins`` where that is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stablelit" / "proteins"


def prepared_once(
    path: str | Path,
    cache_dir: str | Path | None,
    policies: Mapping[str, Any],
    say: Callable[[str], None],
) -> SequenceStore:
    """The sequences of a prepared folder, or of a FASTA file, which is prepared where that was not done yet.

    A file is known by its path, its size and when it was last changed.

    Args:
        path: of the folder or the file.
        cache_dir: where files are prepared; None is `default_cache_dir`.
        policies: arguments of `Policies`.
        say: told what is done.

    Raises:
        ConfigurationError: policies that there are not, or policies for a folder, which was prepared with its own.
        DataError: neither a FASTA file nor a prepared folder.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        store = SequenceStore(path)
        if policies and any(store.meta["policies"].get(name) != value for name, value in policies.items()):
            raise ConfigurationError(
                f"{path}: was prepared with policies={store.meta['policies']}, not {dict(policies)}. Leave policies "
                f"out, or prepare the FASTA file with them."
            )
        _tell(store, path, say)
        return store
    existing_file(path, "a FASTA file or a prepared folder", "*.fasta")
    try:
        wanted = Policies(**policies)
    except TypeError as error:
        allowed = f"a mapping of {', '.join(Policies().as_dict())} ({error})"
        raise bad_argument(_OWNER, "policies", dict(policies), allowed) from error
    folder = (default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()) / _name(path, wanted)
    if folder.is_dir():
        say(f"{path} was prepared before: {folder}.")
        store = SequenceStore(folder)
        _tell(store, path, say)
        return store
    say(f"preparing {path} in {folder} (once; later runs find it there).")
    try:
        prepare(str(path), str(folder), **wanted.as_dict())
    except ConfigurationError:
        # another process made it meanwhile
        if not folder.is_dir():
            raise
    except OSError as error:
        raise ConfigurationError(
            f"{folder}: sequences cannot be prepared there ({error}). Give cache_dir=FOLDER, or set XDG_CACHE_HOME."
        ) from error
    return SequenceStore(folder)


def _tell(store: SequenceStore, path: Path, say: Callable[[str], None]) -> None:
    for line in report(store.meta):
        say(f"{path}: {line}.")


def _name(path: Path, policies: Policies) -> str:
    stat = path.stat()
    known = [str(path.resolve()), stat.st_size, stat.st_mtime_ns, policies.as_dict(), VERSION]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]
