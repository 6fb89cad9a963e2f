"""Reads a composed configuration for mistakes before anything is built, and lists all of them at once.

Hydra finds a misspelt class, an unknown argument or a number written as text only when it builds the object that wants
it: after the data were read, one mistake a run. Here every `_target_` is resolved (`targets.py`), its keys are bound to
the signature (`signatures.py`), plain values are held against the annotations (`annotations.py`), and nothing is built.

What `${hydra:...}` stands for is known only while a Hydra app runs. Check there, too, before building there: elsewhere
such values are passed over.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from stablelit.errors import ConfigurationError, did_you_mean
from stablelit.run.annotations import UNKNOWN, complaint
from stablelit.run.located_target import UnusableTarget
from stablelit.run.problems import NO_VALUE, Problem, raise_on_problems
from stablelit.run.signatures import argument_problems
from stablelit.run.targets import resolve_target

__all__ = ["NO_VALUE", "Problem", "allow_targets_from_overrides", "check", "raise_on_problems", "unknown_keys"]

_HYDRA_KEYS: dict[str, Any] = {
    "_target_": str,
    "_partial_": bool,
    "_recursive_": bool,
    "_convert_": Literal["none", "partial", "object", "all"],
    "_args_": list,
}
_DEPTH_READ = 4
_LATER = ("Unsupported interpolation type hydra", "HydraConfig was not set")
_REFERENCE = re.compile(r"\$\{\s*([A-Za-z_]\w*)\s*[.}\[]")
_UNKNOWN_KEY = re.compile(r"Interpolation key '([^']+)' not found")

_Container = DictConfig | ListConfig


def check(
    config: DictConfig | Mapping[str, Any],
    allow_targets: Sequence[str] = (),
    *,
    provided: Mapping[str, Collection[str]] | None = None,
    schema: Mapping[str, Any] | None = None,
) -> list[Problem]:
    """Lists what is wrong with a composed configuration. Targets are imported, nothing is constructed.

    Args:
        config: the composed configuration; a `hydra` section at its top is Hydra's affair and is not read.
        allow_targets: targets allowed beside the allow-list of `targets.py`. They must come from the command line
            (`allow_targets_from_overrides`), for a configuration that allowed its own targets would allow anything.
        provided: names of the arguments that the program adds when it builds the object at a key, such as
            ``{"optimizer": {"params"}}``.
        schema: annotations of plain values by their full key, such as ``{"seed": int | None, "name": str}``.

    Returns:
        The problems in the order of the configuration; empty where there are none.
    """
    if not isinstance(config, DictConfig):
        try:
            config = OmegaConf.create(dict(config), flags={"allow_objects": True})
        except OmegaConfBaseException as error:
            return [Problem(str(error.full_key or "config"), NO_VALUE, _first_line(error))]
    checking = _Check(allow_targets, provided or {}, schema or {})
    checking.read(config)
    return checking.found()


def unknown_keys(config: DictConfig, known: Mapping[str, Collection[str] | None]) -> list[Problem]:
    """Keys of the root, and of its plain sections, that nothing reads: a misspelt `seeed: 5` would be lost in silence.

    Args:
        config: the composed configuration.
        known: the root's keys; for a plain section, what may be in it, for any other None.

    Returns:
        The problems. A key of the root that an interpolation refers to (``${width}``) is no problem: it is a variable.
    """
    strangers = [key for key in map(str, config) if key not in known]
    # writing it all out takes as long as all the rest
    used = set(_REFERENCE.findall(OmegaConf.to_yaml(config, resolve=False))) if strangers else set()
    problems = []
    for key in map(str, config):
        if key not in known and key not in used:
            remedy = f"{did_you_mean(key, known)} Nothing reads this key."
            problems.append(
                Problem(key, OmegaConf.select(config, key, default=NO_VALUE), "unknown key", remedy.strip())
            )
        section, inside = config._get_node(key), known.get(key)
        if inside is None or not isinstance(section, DictConfig) or section._is_none():
            continue
        for name in map(str, section):
            if name not in inside:
                full = f"{key}.{name}"
                remedy = f"{did_you_mean(name, inside)} It takes: {', '.join(sorted(inside))}."
                value = OmegaConf.select(config, full, default=NO_VALUE)
                problems.append(Problem(full, value, "unknown key", remedy.strip()))
    return problems


def allow_targets_from_overrides(overrides: Iterable[str]) -> list[str]:
    """The targets that a command line allows: `allow_targets=a.b` or `allow_targets=[a.b,c.d]`; the last one counts.

    Args:
        overrides: the arguments as typed. Not Hydra's own record of overrides: `hydra.sweeper.params` in a
            configuration file gets into that.

    Returns:
        The names, in their order, each once.

    Raises:
        ConfigurationError: it cannot be parsed, or is neither a name nor a list of names.
    """
    parser = OverridesParser.create()
    allowed: list[str] = []
    for text in overrides:
        if not re.match(r"\+{0,2}allow_targets=", text):
            continue
        try:
            override = parser.parse_override(text)
            value = None if override.is_sweep_override() else override.value()
        except HydraException as error:
            raise ConfigurationError(f"{text!r} cannot be read: {_first_line(error)}") from error
        names: list[Any] = value if isinstance(value, list) else [value] if value else []
        if override.is_sweep_override() or not all(isinstance(name, str) for name in names):
            raise ConfigurationError(f"{text!r} is not a list of targets. Write 'allow_targets=[name,other.name]'.")
        allowed = list(dict.fromkeys(names))
    return allowed


@dataclass(frozen=True)
class _Call:
    """A node with `_target_`: what will be called, with its other keys as arguments."""

    key: str
    node: DictConfig
    built_by_hydra: bool


class _Check:
    def __init__(
        self, allow_targets: Collection[str], provided: Mapping[str, Collection[str]], schema: Mapping[str, Any]
    ) -> None:
        self._allow_targets, self._provided, self._schema = allow_targets, provided, schema
        self._problems: list[Problem] = []
        self._calls: list[_Call] = []
        self._keys: dict[str, int] = {}
        self._nodes: dict[int, _Container] = {}  # the nodes themselves, so that no id is given twice
        self._references: list[tuple[_Container, str, bool]] = []

    def read(self, config: DictConfig) -> None:
        self._walk(config, "", built_by_hydra=True)
        # by index: a section that a resolver makes may hold references of its own
        i = 0
        while i < len(self._references):
            self._walk(*self._references[i])
            i += 1
        self._check_self_allowed(config)
        for call in self._calls:
            self._check_call(call)

    def found(self) -> list[Problem]:
        return sorted((self._with_near_key(p) for p in self._problems), key=lambda p: self._position(p.key))

    def _report(self, key: str, value: object, what: str, remedy: str = "") -> None:
        self._problems.append(Problem(key, value, what, remedy))

    def _position(self, key: str) -> int:
        while key and key not in self._keys:
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return self._keys.get(key, -1)

    def _walk(self, node: _Container, key: str, built_by_hydra: bool) -> None:
        if id(node) in self._nodes:
            return
        self._nodes[id(node)] = node
        if _is_call(node):
            self._calls.append(_Call(key, cast(DictConfig, node), built_by_hydra))
            built_by_hydra = built_by_hydra and _value(node, "_recursive_") is not False
        for child, full in _children(node, key):
            if full == "hydra":
                continue
            self._keys.setdefault(full, len(self._keys))
            value = self._read_child(node, child, key, full)
            if isinstance(value, DictConfig | ListConfig):
                # a reference is read after the section it points to: a problem then has the key where it can be mended
                if OmegaConf.is_interpolation(node, child):
                    self._references.append((value, full, built_by_hydra))
                else:
                    self._walk(value, full, built_by_hydra)
            elif isinstance(value, str) and not _is_call(node):
                self._check_misspelt_target(child, value, full)
            if full in self._schema and (wrong := complaint(_value(node, child), self._schema[full])):
                self._report(full, _value(node, child), *wrong)

    def _read_child(self, node: _Container, child: Any, key: str, full: str) -> object:
        try:
            return node[child]
        except MissingMandatoryValue:
            if child not in self._provided.get(key, ()):
                # Hydra's overrides do not reach into lists
                remedy = "Write its value there." if "[" in full else f"Give it as {full}=<value>."
                self._report(full, "???", "missing", remedy)
        except InterpolationToMissingValueError:
            pass  # reported where the value is missing
        except (OmegaConfBaseException, RecursionError) as error:
            later = any(text in str(error) for text in _LATER)
            raw = OmegaConf.to_container(node, resolve=False)[child]  # type: ignore[index]
            if later and child == "_target_":
                # passed over, it would be built unseen
                self._report(full, raw, "a target must be known before the run", "Write out its name.")
            elif not later:
                self._report(full, raw, _first_line(error))
        return UNKNOWN

    def _with_near_key(self, problem: Problem) -> Problem:
        unknown = _UNKNOWN_KEY.match(problem.what)
        keys = [key for key in self._keys if key.rpartition(".")[2] not in _HYDRA_KEYS]
        return replace(problem, remedy=did_you_mean(unknown[1], keys)) if unknown else problem

    def _check_misspelt_target(self, child: Any, value: str, full: str) -> None:
        near = isinstance(child, str) and difflib.SequenceMatcher(None, child, "_target_").ratio() >= 0.85
        if near and "." in value:
            self._report(full, value, f"{child!r} means nothing to Hydra", "Did you mean '_target_'?")

    def _check_self_allowed(self, config: DictConfig) -> None:
        named = _value(config, "allow_targets")
        names = named if isinstance(named, list) else [named] if isinstance(named, str) and named else []
        own = [name for name in names if name not in self._allow_targets]
        if own:
            remedy = f"If you trust them, write on the command line: 'allow_targets=[{','.join(map(str, own))}]'."
            self._report("allow_targets", own, "a configuration cannot allow its own targets", remedy)

    def _check_call(self, call: _Call) -> None:
        prefix = f"{call.key}." if call.key else ""
        values = {name: _value(call.node, name) for name, _ in _children(call.node, call.key)}
        for name, annotation in _HYDRA_KEYS.items():
            value = values.get(name, UNKNOWN)
            # Hydra takes its conversion modes in any case
            wrong = complaint(value.lower() if name == "_convert_" and isinstance(value, str) else value, annotation)
            if wrong and name != "_target_":
                self._report(f"{prefix}{name}", value, *wrong)
        if values["_target_"] is UNKNOWN:
            return
        try:
            target = resolve_target(values["_target_"], self._allow_targets)
        except UnusableTarget as refusal:
            self._report(f"{prefix}_target_", values["_target_"], refusal.what, refusal.remedy)
            return
        listed = values.get("_args_", [])
        places = [call.key, *(key for node, key, _ in self._references if node is call.node)]
        self._problems += argument_problems(
            cast(Callable[..., Any], target),
            {str(name): value for name, value in values.items() if name not in _HYDRA_KEYS},
            listed if isinstance(listed, list) else [],
            key=call.key,
            provided={name for place in places for name in self._provided.get(place, ())},
            # under `_recursive_: false` the program builds this itself, and adds what it likes
            partial=values.get("_partial_") is True or not call.built_by_hydra,
        )


def _is_call(node: _Container) -> bool:
    # `"_target_" in node` would overlook a target that is missing or does not resolve
    return isinstance(node, DictConfig) and "_target_" in list(node.keys())


def _children(node: _Container, key: str) -> Iterator[tuple[Any, str]]:
    if isinstance(node, ListConfig):
        yield from ((i, f"{key}[{i}]") for i in range(len(node)))
    else:
        yield from ((name, f"{key}.{name!s}" if key else str(name)) for name in list(node.keys()))


def _value(node: _Container, child: Any, depth: int = _DEPTH_READ) -> object:
    """The plain Python value; `UNKNOWN` for what is absent, or built, resolved or given later."""
    try:
        value = node[child] if isinstance(node, ListConfig) or child in node else UNKNOWN
    except (OmegaConfBaseException, RecursionError):
        return UNKNOWN
    if not isinstance(value, DictConfig | ListConfig):
        return value
    if depth == 0 or _is_call(value):
        return UNKNOWN
    if isinstance(value, ListConfig):
        return [_value(value, i, depth - 1) for i, _ in _children(value, "")]
    return {name: _value(value, name, depth - 1) for name, _ in _children(value, "")}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
