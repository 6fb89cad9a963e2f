"""The arguments of ``python -m stablelit.doctor``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from stablelit.doctor.readers.tag_guess import ROLES
from stablelit.errors import ConfigurationError, did_you_mean

_EPILOG = """\
Reads TensorBoard event files, metrics.csv, history.jsonl, hparams.yaml and config.yaml; several runs give a table.
Exit codes: 0 healthy, 1 warnings, 2 critical, 3 unreadable or no numbers, 64 a mistake in what was asked for; of
several runs the worst.
  python -m stablelit.doctor lightning_logs/version_3
  python -m stablelit.doctor runs --json verdicts.json --fail-on critical
  python -m stablelit.doctor logs --tags loss=my/objective,kl=vae/rate"""


@dataclass(frozen=True)
class Arguments:
    """What was asked for.

    Args:
        places: directories or files.
        tags: by role.
        json: where to write; ``-`` is the standard output, None nowhere.
        mute: names of rules.
        fail_on: the mildest severity for which the exit code is not 0.
    """

    places: tuple[Path, ...]
    tags: dict[str, str]
    json: str | None
    mute: tuple[str, ...]
    fail_on: str


class Parser(argparse.ArgumentParser):
    """Raises where argparse would print and leave, and shows the text below the options as it is."""

    def __init__(self, prog: str, description: str, epilog: str, allow_abbrev: bool = True) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=allow_abbrev,
        )

    def error(self, message: str) -> NoReturn:
        """Says what is wrong, and how it is called.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(f"{message}. {self.format_usage().strip()}")


def parse(arguments: Sequence[str]) -> Arguments:
    """Reads a command line.

    Raises:
        ConfigurationError: an argument that is not known or not allowed.
    """
    parser = Parser(
        "python -m stablelit.doctor",
        "Says what is the matter with training runs, from the logs that they left.",
        _EPILOG,
    )
    parser.add_argument("logdir", nargs="+", help="a run, a directory of runs, or one file of logs")
    parser.add_argument("--tags", default="", metavar="ROLE=TAG,..", help=f"roles: {', '.join(ROLES)}")
    parser.add_argument("--json", metavar="FILE", help="writes the verdicts there as well; - prints them instead")
    parser.add_argument("--mute", default="", metavar="NAME,..", help="leaves these rules out")
    parser.add_argument("--fail-on", default="warning", choices=("warning", "critical"))
    held = parser.parse_args(list(arguments))
    return Arguments(
        places=tuple(Path(place).expanduser() for place in held.logdir),
        tags=_tags(_split(held.tags)),
        json=held.json,
        mute=tuple(_split(held.mute)),
        fail_on=held.fail_on,
    )


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _tags(parts: Iterable[str]) -> dict[str, str]:
    tags = {}
    for part in parts:
        role, equals, tag = part.partition("=")
        if not equals or not tag:
            raise ConfigurationError(f"--tags {part}: ROLE=TAG is wanted, as in loss=train/loss.")
        if role not in ROLES:
            near = did_you_mean(role, ROLES)
            raise ConfigurationError(f"--tags {part}: {role!r} is no role. {near} Roles: {', '.join(ROLES)}.")
        tags[role] = tag
    return tags
