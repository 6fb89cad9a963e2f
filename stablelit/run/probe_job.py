"""Judges a trained encoder on somebody's own data by a linear probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stablelit.contracts import ProbesFeatures
from stablelit.errors import ConfigurationError, ContractError
from stablelit.run.arguments import check_arguments, own_values
from stablelit.run.command_line import CommandLine
from stablelit.run.environment import quiet_libraries
from stablelit.run.saved_run import open_run, trained_module
from stablelit.run.table import metric_rows, print_results, shown_path, told

_OF_THE_DOOR = ("run", "path")


def probe(argv: Sequence[str]) -> dict[str, Any]:
    """Reads `run=`, `path=` and what the module's `probe` takes besides; prints the scores and returns them.

    A key with a dot in it (`model.x=1`) is an override of the run's configuration.

    Raises:
        ConfigurationError: a missing or unknown argument, no such run, a checkpoint of another model.
        ContractError: the module has no features to probe.
        DataError: data that cannot be used.
    """
    quiet_libraries()
    line = CommandLine.parse(argv)
    values, of_config = own_values(line.overrides)
    run = open_run(line, of_config, "probe")
    path = values.pop("path", None)
    values.pop("run", None)
    if not isinstance(path, str) or not path:
        raise ConfigurationError("probe: on what data? python -m stablelit.probe run=RUN path=FOLDER.")
    module, _ = trained_module(run)
    if not isinstance(module, ProbesFeatures) or not callable(module.probe):
        raise ContractError(
            f"{type(module).__name__} cannot be probed: it has no probe(path). "
            f"The experiment {run.config.name!r} trains no encoder."
        )
    # self and the path
    check_arguments("probe", type(module).probe, values, type(module).__name__, 2, _OF_THE_DOOR)
    done: Mapping[str, Any] = module.probe(path, **values)
    scores = {name: value for name, value in done.items() if isinstance(value, float)}
    others = {name: value for name, value in done.items() if name not in scores}
    print_results(metric_rows(scores), {"checkpoint": shown_path(run.checkpoint), "data": path, **told(others)})
    return dict(done)
