"""Where a door writes: a new file that the user names."""

from __future__ import annotations

from pathlib import Path

from stablelit.errors import ConfigurationError


def output_path(output: object) -> Path:
    """The absolute path of `output`, a file that is not there yet in a directory that is.

    Raises:
        ConfigurationError: nothing given, a directory, a file that is there already, no such directory.
    """
    if not isinstance(output, str) or not output:
        raise ConfigurationError("Where to? Give output=FILE; its ending says the format.")
    path = Path(output).expanduser().absolute()
    if path.is_dir():
        raise ConfigurationError(f"output={output} is a directory; name a file in it.")
    if path.exists():
        raise ConfigurationError(f"output={output} is there already; give another name, or take it away first.")
    if not path.parent.is_dir():
        raise ConfigurationError(f"output={output}: there is no directory {path.parent}.")
    return path
