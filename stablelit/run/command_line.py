"""The command line of the doors: what was typed, put into the order that Hydra needs.

`+experiment=jets debug=quick` must become `+experiment=jets +debug=quick`: none of the groups below is in the root's
defaults list (so that `+experiment=` can be appended), and of two appended groups the later one wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

APPENDED_GROUPS = ("experiment", "sweep", "debug")
"""Groups appended to the defaults list, in the order in which they win: the last one wins."""

_OPTIONS_WITH_VALUE = {
    "--config-name", "-cn", "--config-dir", "-cd", "--config-path", "-cp", "--cfg", "-c", "--package", "-p",
    "--experimental-rerun",
}  # fmt: skip
_ONLY_IN_QUOTES = re.compile(r"[^\x20-\x7e\t]|[#!&;<>^`~=]")
# these are no value of Hydra's: the door reads them as they were typed
_READ_BY_US = ("run", "resume")
_STRUCTURE = re.compile(r"['\"\[\](){}\\]|\$")
_OPTIONS_THAT_SHOW = {"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i"}
_OPTIONS_THAT_SHOW |= {"--shell-completion", "-sc", "--experimental-rerun"}


@dataclass(frozen=True)
class CommandLine:
    """Hydra's options and its overrides, apart.

    Args:
        options: `-m`, `--config-dir DIR` and so on, each with its value.
        overrides: `key=value` in all of Hydra's spellings.
    """

    options: tuple[tuple[str, ...], ...] = ()
    overrides: tuple[str, ...] = ()

    @staticmethod
    def parse(argv: Sequence[str]) -> CommandLine:
        """Splits what was typed."""
        options: list[tuple[str, ...]] = []
        overrides: list[str] = []
        rest = list(argv)
        while rest:
            word = rest.pop(0)
            if not word.startswith("-"):
                overrides.append(_readable(word))
                continue
            name, equals, value = word.partition("=")
            if equals:
                options.append((name, value))
            elif rest and (name in _OPTIONS_WITH_VALUE or (name in ("--info", "-i") and rest[0].isidentifier())):
                options.append((name, rest.pop(0)))
            else:
                options.append((name,))
        return CommandLine(tuple(options), tuple(overrides))

    def words(self) -> list[str]:
        """What Hydra is given."""
        return [word for option in self.options for word in option] + list(self.overrides)

    def option(self, *names: str) -> str | None:
        """The value of the last option with one of these names."""
        values = [option[1] for option in self.options if option[0] in names and len(option) > 1]
        return values[-1] if values else None

    def has_option(self, *names: str) -> bool:
        """Whether one of these options was given."""
        return any(option[0] in names for option in self.options)

    def value(self, key: str) -> str | None:
        """The text of the last override of this key, unquoted."""
        values = [o.partition("=")[2] for o in self.overrides if key_of(o) == key and "=" in o]
        return _unquoted(values[-1]) if values else None

    @property
    def only_shows(self) -> bool:
        """Whether Hydra is asked to show something and not to run."""
        return self.has_option(*_OPTIONS_THAT_SHOW)

    @property
    def is_multirun(self) -> bool:
        """Whether `-m` was typed (a configuration can ask for it too)."""
        return self.has_option("-m", "--multirun")

    @property
    def names_what_to_run(self) -> bool:
        """Whether there is an experiment, another root, or data and a model: something to run."""
        chosen = {key_of(o) for o in self.overrides}
        return "experiment" in chosen or {"data", "model"} <= chosen or self.has_option("--config-name", "-cn")

    def ordered(self) -> CommandLine:
        """Appended groups get their `+` and come first, in the order of `APPENDED_GROUPS`; twice is as once."""
        groups = {group: [o for o in self.overrides if _group_of(o) == group] for group in APPENDED_GROUPS}
        first = [_appended(o) for group in APPENDED_GROUPS for o in groups[group]]
        return CommandLine(self.options, (*first, *(o for o in self.overrides if _group_of(o) is None)))


def quoted(text: str) -> str:
    r"""The text as a value that Hydra and OmegaConf read as it stands, whatever is in it.

    >>> print(quoted("it's in ${HOME}"))
    'it\'s in \${HOME}'
    """
    literal = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", text)
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), literal) + "'"


def key_of(override: str) -> str:
    """The key that an override is about: `model.lr` of `++model.lr=3`, `data` of `~data`."""
    return re.sub(r"^(\+\+|\+|~)", "", override).partition("=")[0].strip()


def merge_overrides(saved: Iterable[str], new: Iterable[str]) -> list[str]:
    """The saved overrides without those whose key is given anew, then the new ones.

    A new override of a key that was added with `+` keeps the plus: the key is in no configuration file.

    >>> merge_overrides(["+experiment=jets", "+model.x=1", "seed=1"], ["seed=2", "model.x=3"])
    ['+experiment=jets', 'seed=2', '++model.x=3']
    """
    saved, new = list(saved), list(new)
    replaced = {key_of(o) for o in new}
    was_added = {key_of(o) for o in saved if o.startswith("+")} - set(APPENDED_GROUPS)
    kept = [o for o in saved if key_of(o) not in replaced]
    forced = [f"++{o}" if key_of(o) in was_added and o[0] not in "+~" else o for o in new]
    return kept + forced


def _unquoted(text: str) -> str:
    for quote in "'\"":
        if len(text) > 1 and text[0] == text[-1] == quote:
            return re.sub(rf"(\\*)\\({quote})", lambda found: found[1][: len(found[1]) // 2] + found[2], text[1:-1])
    return text


def _readable(override: str) -> str:
    """The override with quotes about values that have letters which Hydra's grammar takes only there, as in /home/jörg.

    Values that have a structure of their own (quotes, brackets, references) are left as they are.
    """
    key, equals, value = override.partition("=")
    if not equals or key in _READ_BY_US or not re.search(_ONLY_IN_QUOTES, value) or re.search(_STRUCTURE, value):
        return override
    return f"{key}={','.join(quoted(part) if re.search(_ONLY_IN_QUOTES, part) else part for part in value.split(','))}"


def _group_of(override: str) -> str | None:
    key = key_of(override)
    return key if key in APPENDED_GROUPS and "=" in override and not override.startswith("~") else None


def _appended(override: str) -> str:
    return override if override.startswith("+") else f"+{override}"
