"""hparams.yaml of Lightning's loggers and our config.yaml, as flat plain data; nothing in them is executed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from stablelit.doctor.evidence.settings import Plain
from stablelit.doctor.readers.run_log import RunLog
from stablelit.run_files import CONFIG_FILE

HPARAMS_FILE = "hparams.yaml"
_REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")
_LARGEST = 4 << 20
_MOST_SETTINGS = 20_000


class _PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe: what is tagged as an object of Python is read as the mapping, list or word that stands there."""


def _as_it_stands(loader: Any, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", _as_it_stands)
_PlainLoader.add_multi_constructor("!", _as_it_stands)


def read_yaml_settings(path: Path, log: RunLog) -> None:
    """Adds the hyperparameters of one file; one that cannot be read is said so."""
    held = read_plain_yaml(path, log.remarks)
    if held is None:
        return
    flat = dict(islice(_flatten(held), _MOST_SETTINGS + 1))
    if len(flat) > _MOST_SETTINGS:
        # an alias of an alias of an alias: a line of YAML may stand for a million
        log.remarks.append(f"{path.name}: more than {_MOST_SETTINGS} settings were not read.")
        return
    log.hyperparameters.update({key: _resolved(value, flat) for key, value in flat.items()})
    log.sources.append(path.name)
    log.keys_are_overrides = log.keys_are_overrides or path.name == CONFIG_FILE


def read_plain_yaml(path: Path, remarks: list[str]) -> dict[Any, Any] | None:
    """The mapping of a file, of plain data; None where there is none, and where it cannot be read, which is said."""
    try:
        if path.stat().st_size > _LARGEST:
            remarks.append(f"{path.name}: {path.stat().st_size >> 20} MiB of settings were not read.")
            return None
        held = yaml.load(path.read_text(encoding="utf-8", errors="replace"), Loader=_PlainLoader)
    # of values that are not what their tags say, the loader raises whatever comes
    except (OSError, yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        remarks.append(f"{path.name}: settings that cannot be read: {(str(error).splitlines() or [''])[0][:100]}.")
        return None
    return held if isinstance(held, dict) else None


def _flatten(held: dict[Any, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Plain]]:
    for key, value in held.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and depth < 12:
            yield from _flatten(value, f"{name}.", depth + 1)
        elif isinstance(value, str):
            yield name, _word(value)
        elif isinstance(value, bool | int | float):
            yield name, value


def _word(text: str) -> Plain:
    """A number where YAML has left one a word, as it does with 1e-3."""
    try:
        return float(text)
    except ValueError:
        return text


def _resolved(value: Plain, flat: dict[str, Plain]) -> Plain:
    for _ in range(8):
        match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if match is None or match[1] not in flat:
            break
        value = flat[match[1]]
    return value
