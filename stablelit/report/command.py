"""The commands that do a run again."""

from __future__ import annotations

import shlex
from pathlib import Path

from stablelit.report.run_record import RunRecord
from stablelit.run_files import CONFIG_FILE


def reproducing_commands(record: RunRecord) -> list[tuple[str, str]]:
    """What each does, and the command; none for a run that is not ours."""
    directory = record.directory
    found = []
    if record.overrides is not None:
        found.append(("As it was typed", join_command(record.overrides)))
    if (directory / CONFIG_FILE).is_file() and record.settings.get("model._target_") is not None:
        place = str(shown_place(directory))
        found.append(
            ("From its complete configuration", join_command(["--config-dir", place, "--config-name", "config"]))
        )
        if record.status in ("interrupted", "broken off", "failed"):
            found.append(("Go on where it stopped", join_command([f"resume={place}"])))
    return found


def join_command(arguments: list[str]) -> str:
    """One line for a shell."""
    return shlex.join(["python", "-m", "stablelit.train", *arguments])


def shown_place(path: Path) -> Path:
    """Relative to where one stands, if it lies below."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except (ValueError, OSError):
        return path
