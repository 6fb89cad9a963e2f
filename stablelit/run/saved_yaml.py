"""Files of YAML in a run's directory, looked at before OmegaConf reads them.

A line of YAML may stand for a million (`a: &a [x, x]`, `b: &b [*a, *a]`, ...), and OmegaConf copies what an alias
stands for every time it is met. A configuration of a run is written without aliases, and is some ten kilobytes.
"""

from __future__ import annotations

from pathlib import Path

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stablelit.errors import ConfigurationError

LARGEST_BYTES, DEEPEST = 1 << 18, 50
# the parser in Python, which OmegaConf uses, takes minutes over some thousand brackets in brackets
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MOST_ALIASES = 8
"""Eight stand for some twenty times what is written."""


def check_yaml(path: Path) -> None:
    """Refuses a file that is no YAML, or that would fill the memory.

    Raises:
        ConfigurationError: it is larger than `LARGEST_BYTES`, is no text, is no YAML (the place is named), has more
            than `MOST_ALIASES` aliases, more than `DEEPEST` brackets in brackets, or an alias inside of what it stands
            for.
    """
    if (size := path.stat().st_size) > LARGEST_BYTES:
        raise ConfigurationError(f"{path}: has {size} bytes. Allowed: {LARGEST_BYTES} for the settings of a run.")
    aliases = 0
    # the anchors of the lists and mappings that are open
    opened: list[str | None] = []
    try:
        for event in yaml.parse(path.read_text(encoding="utf-8"), Loader=_LOADER):
            if isinstance(event, yaml.CollectionStartEvent):
                opened.append(event.anchor)
            elif isinstance(event, yaml.CollectionEndEvent):
                opened.pop()
            elif isinstance(event, yaml.AliasEvent):
                aliases += 1
                if event.anchor in opened:
                    line = event.start_mark.line + 1
                    raise ConfigurationError(
                        f"{path}: line {line}: *{event.anchor} stands inside of what it stands for, without an end. "
                        f"Write out what is meant."
                    )
            if len(opened) > DEEPEST:
                raise ConfigurationError(f"{path}: nests more than {DEEPEST} levels. No settings of a run do.")
        if aliases <= MOST_ALIASES:
            OmegaConf.load(path)
    except ConfigurationError:
        raise
    # of values that are not what their tags say, the loader raises whatever comes
    except (
        yaml.YAMLError,
        OmegaConfBaseException,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
        OSError,
    ) as error:
        said = str(error).replace('"<unicode string>", ', "")
        raise ConfigurationError(f"{path}: cannot be read as YAML: {said}.") from error
    if aliases > MOST_ALIASES:
        raise ConfigurationError(
            f"{path}: has {aliases} aliases (`*name`), each of which may stand for many others. Allowed: "
            f"{MOST_ALIASES}. Write out what they stand for."
        )
