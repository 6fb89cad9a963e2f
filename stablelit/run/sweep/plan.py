"""Which jobs a sweep will have, known before the first of them.

The basic sweeper's grid is expanded as the sweeper itself expands it. A sweeper that chooses as it goes (Optuna) is
looked at where its choices are most likely to be wrong: every choice, both ends and the middle of every range, each
with the others in the middle; and the corners, where there are few.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig, OmegaConf

from stablelit.errors import ConfigurationError

MOST_JOBS = 10_000
_MOST_CORNERS = 64


@dataclass(frozen=True)
class SweepJob:
    """One job: its number and the overrides that Hydra will compose it with."""

    number: int
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class SweepPlan:
    """The jobs of a sweep.

    Args:
        jobs: all of them, or, of a sweeper that chooses as it goes, those that stand for the others.
        swept: the keys that differ between jobs.
        complete: whether these are the jobs.
    """

    jobs: tuple[SweepJob, ...]
    swept: tuple[str, ...]
    complete: bool


def plan_of(config: DictConfig, loader: Any = None) -> SweepPlan:
    """Reads what is swept from a sweep's composed configuration.

    Args:
        config: with its `hydra` section.
        loader: Hydra's, which `glob(*)` needs.

    Raises:
        ConfigurationError: more jobs than anybody means, or ranges that the basic sweeper cannot expand.
        HydraException: an override that cannot be parsed.
    """
    sweeper = config.hydra.sweeper
    params: Any = OmegaConf.to_container(sweeper.get("params") or OmegaConf.create({}), resolve=True)
    texts = [f"{key}={value}" for key, value in params.items()]
    parser = OverridesParser.create(config_loader=loader)
    overrides = parser.parse_overrides([*texts, *config.hydra.overrides.task])
    # of a key that is given twice the last counts, in the place of the first
    last: dict[str, Override] = {}
    for override in overrides:
        last[override.get_key_element()] = override
    swept = tuple(key for key, override in last.items() if override.is_sweep_override())
    if sweeper.get("_target_", "").endswith(".BasicSweeper"):
        _refuse_too_many(last, swept)
        grid = BasicSweeper.split_arguments(overrides, None)[0]
        if not grid:
            empty = [
                o.input_line for o in last.values() if o.is_sweep_override() and not list(o.sweep_string_iterator())
            ]
            raise ConfigurationError(f"{' '.join(map(str, empty))}: this names no value, so that there is no job.")
        return SweepPlan(tuple(SweepJob(i, tuple(job)) for i, job in enumerate(grid)), swept, complete=True)
    probes = {key: _probes(override) for key, override in last.items()}
    probes.update(_search_space(sweeper.get("search_space")))
    jobs = tuple(SweepJob(i, job) for i, job in enumerate(_around_the_middle(probes)))
    return SweepPlan(jobs, tuple(key for key, values in probes.items() if len(values) > 1), complete=False)


def _refuse_too_many(overrides: Mapping[str, Override], swept: Sequence[str]) -> None:
    total, sizes = 1, []
    for key in swept:
        override = overrides[key]
        if not override.is_discrete_sweep():
            raise ConfigurationError(
                f"{override.input_line}: a range without steps cannot be expanded into jobs. Name the values "
                f"({key}=1,2,3), or let Optuna choose them: hydra/sweeper=optuna (pip install 'stablelit[sweep]')."
            )
        size = sum(1 for _ in itertools.islice(override.sweep_string_iterator(), MOST_JOBS + 1))
        total *= size
        sizes.append(f"{key} has {size if size <= MOST_JOBS else f'more than {MOST_JOBS:,}'}")
    if total > MOST_JOBS:
        raise ConfigurationError(
            f"This sweep has {'at least ' if total > MOST_JOBS else ''}{total:,} jobs ({', '.join(sizes)}); at most "
            f"{MOST_JOBS:,} are taken. Sweep fewer values, or let Optuna choose: hydra/sweeper=optuna."
        )


def _probes(override: Override) -> list[str]:
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    value = override.value()
    if isinstance(value, IntervalSweep):
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        ends = _interval(float(value.start), float(value.end), "log" in value.tags, whole)  # type: ignore[arg-type]
        return [f"{key}={end}" for end in ends]
    texts = list(itertools.islice(override.sweep_string_iterator(), MOST_JOBS))
    if override.is_range_sweep() and len(texts) > 2:
        texts = [texts[0], texts[len(texts) // 2], texts[-1]]
    return [f"{key}={text}" for text in texts]


def _interval(low: float, high: float, logarithmic: bool, whole: bool) -> list[str]:
    if logarithmic and not 0 < low <= high:
        raise ConfigurationError(
            f"interval({low:g}, {high:g}) with the tag 'log' must lie above 0, its start below its end."
        )
    middle = math.sqrt(low * high) if logarithmic else (low + high) / 2
    numbers = [low, middle, high]
    return [str(round(number)) if whole else repr(number) for number in numbers]


def _search_space(space: Any) -> dict[str, list[str]]:
    """Optuna's older way to say what may be chosen."""
    found = {}
    for key, node in (space or {}).items():
        if node.get("choices") is not None:
            found[str(key)] = [f"{key}={choice}" for choice in node.choices]
        elif node.get("low") is not None and node.get("high") is not None:
            ends = _interval(float(node.low), float(node.high), bool(node.get("log")), str(node.type).endswith("int"))
            found[str(key)] = [f"{key}={end}" for end in ends]
    return found


def _around_the_middle(probes: Mapping[str, list[str]]) -> list[tuple[str, ...]]:
    middle = {key: values[len(values) // 2] for key, values in probes.items()}
    jobs = [middle, *({**middle, key: value} for key, values in probes.items() for value in values)]
    several = [key for key, values in probes.items() if len(values) > 1]
    if 2 ** len(several) <= _MOST_CORNERS:
        corners = itertools.product(*((probes[key][0], probes[key][-1]) for key in several))
        jobs += [{**middle, **dict(zip(several, corner, strict=True))} for corner in corners]
    return list(dict.fromkeys(tuple(job.values()) for job in jobs))
