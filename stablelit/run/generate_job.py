"""Has a trained module write samples into a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stablelit.contracts import GeneratesToFile
from stablelit.errors import ContractError, bad_argument
from stablelit.run.arguments import check_arguments, own_values
from stablelit.run.command_line import CommandLine
from stablelit.run.environment import quiet_libraries
from stablelit.run.output_file import output_path
from stablelit.run.saved_run import open_run, trained_module
from stablelit.run.table import print_results, shown_path, told

_OF_THE_DOOR = ("run", "n", "output")


def generate(argv: Sequence[str]) -> dict[str, Any]:
    """Reads `run=`, `n=`, `output=` and what the module's `generate_to_file` takes besides; writes, and says what.

    A key with a dot in it (`model.x=1`) is an override of the run's configuration.

    Raises:
        ConfigurationError: a missing or unknown argument, no such run, a checkpoint of another model.
        ContractError: the module cannot generate.
    """
    quiet_libraries()
    line = CommandLine.parse(argv)
    values, of_config = own_values(line.overrides)
    run = open_run(line, of_config, "generate")
    n, output = values.pop("n", 1000), values.pop("output", None)
    values.pop("run", None)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise bad_argument("generate", "n", n, "a whole number of samples, at least 1")
    path = output_path(output)
    module, _ = trained_module(run)
    if not isinstance(module, GeneratesToFile) or not callable(module.generate_to_file):
        raise ContractError(
            f"{type(module).__name__} cannot generate: it has no generate_to_file(path, n, seed). "
            f"The experiment {run.config.name!r} is no generative model."
        )
    # self, the path and the number of samples, whatever the family calls them
    check_arguments("generate", type(module).generate_to_file, values, type(module).__name__, 3, _OF_THE_DOOR)
    done: Mapping[str, Any] = module.generate_to_file(path, n, **values)
    print_results([], {"checkpoint": shown_path(run.checkpoint), "samples": shown_path(path), **told(done)})
    return dict(done)
