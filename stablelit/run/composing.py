"""What Hydra and its YAML raise of files that are no configuration, told as one mistake that names the file.

Hydra has errors of its own for names that it does not find. Of a bracket that is not closed, of a defaults list that is
a mapping, of letters that are no UTF-8, or of an alias inside of what it stands for, the exceptions of Python and of
the parser come through, most of them without the file's name.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from stablelit.errors import ConfigurationError, StablelitError
from stablelit.run.saved_yaml import check_yaml

_OF_READING = (YAMLError, UnicodeDecodeError, RecursionError)
_OF_LISTS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
_MOST_NAMED = 3


@contextmanager
def naming_bad_files(directories: Sequence[Path]) -> Iterator[None]:
    """Turns what a composition raises of a file's content into a mistake that can be mended.

    Args:
        directories: those of the configuration that are not the suite's own.

    Raises:
        ConfigurationError: with the files there that cannot be read, or with what is wrong with a defaults list.
    """
    try:
        yield
    except (HydraException, OmegaConfBaseException, StablelitError):
        raise
    except _OF_READING as error:
        bad = list(_unreadable(directories))[:_MOST_NAMED]
        raise ConfigurationError(
            "\n".join(bad) or f"A file of the configuration cannot be read: {_said(error)}"
        ) from error
    except _OF_LISTS as error:
        raise ConfigurationError(
            f"The configuration cannot be composed: {_said(error)}. Allowed in a defaults list: '- group: name', "
            f"'- group: [name, name]', '- override /group: name', '- file' and '- _self_'; on the command line: "
            f"group=name, or ~group to leave it out."
        ) from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise ConfigurationError(f"The configuration names a file that cannot be: {error!s:.300}") from error


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["of its content"]
    return f"{type(error).__name__}: {lines[0]}"[:500]


def directories_of(path: ConfigSearchPath) -> list[Path]:
    """The directories in a search path of Hydra's."""
    found = [element.path or "" for element in path.get_path()]
    return [Path(name.removeprefix("file://")) for name in found if name.startswith("file://")]


def _unreadable(directories: Sequence[Path]) -> Iterator[str]:
    for directory in directories:
        for path in sorted((*directory.rglob("*.yaml"), *directory.rglob("*.yml"))):
            try:
                check_yaml(path)
            except ConfigurationError as error:
                yield str(error)
            except OSError as error:
                yield f"{path}: {error.strerror}"
