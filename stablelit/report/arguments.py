"""The arguments of ``python -m stablelit.report``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stablelit.doctor.arguments import Parser
from stablelit.errors import ConfigurationError

_EPILOG = """\
Reads what a training leaves: config.yaml, history.jsonl, summary.json, findings.jsonl, figures/; of anybody's run
TensorBoard's event files, metrics.csv and hparams.yaml. A directory that holds runs stands for all of them.
One run is written to report.html in it, several to report.html where you stand, or of one directory into that.
Exit codes: 0 written, 2 a mistake in what was asked for, or no run that can be read.
  python -m stablelit.report runs/jets/2026-01-31_10-00-00
  python -m stablelit.report runs/jets --out jets.html
  python -m stablelit.report lightning_logs/version_3 lightning_logs/version_4"""


@dataclass(frozen=True)
class Arguments:
    """What was asked for.

    Args:
        places: runs, directories of runs, or files of logs.
        out: the file to write; None for the place that the runs decide.
    """

    places: tuple[Path, ...]
    out: Path | None


def parse(arguments: Sequence[str]) -> Arguments:
    """Reads a command line.

    Raises:
        ConfigurationError: an argument that is not known or not allowed.
    """
    parser = Parser(
        "python -m stablelit.report",
        "Shows a run, or several side by side, as one HTML file that needs nothing else.",
        _EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("run_dir", nargs="+", help="a run, a directory of runs, or one file of logs")
    parser.add_argument("--out", metavar="FILE", help="the file to write")
    held = parser.parse_args(list(arguments))
    out = None if held.out is None else Path(held.out).expanduser()
    if out is not None and (not str(held.out) or out.is_dir()):
        raise ConfigurationError(f"--out {held.out!r} is not allowed. Allowed: the name of a file, as report.html.")
    return Arguments(tuple(Path(place).expanduser() for place in held.run_dir), out)
