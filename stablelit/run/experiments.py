"""What can be run: the experiments that ship with stablelit and those of the user's own configuration directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import stablelit


@dataclass(frozen=True)
class Experiment:
    """A file of the group `experiment`: its name, and the first comment after the package line."""

    name: str
    about: str


def shipped_conf() -> Path:
    """The directory of the shipped configuration: in a checkout beside the package, in the wheel inside it."""
    candidates = [Path(root) / "conf" for root in stablelit.__path__]
    return next(path for path in candidates if (path / "train.yaml").is_file())


def find_experiments(*more_directories: str | Path | None) -> list[Experiment]:
    """All experiments by name; one in the user's directory hides a shipped one of the same name."""
    found: dict[str, Experiment] = {}
    for root in [shipped_conf(), *(Path(d) for d in more_directories if d)]:
        for path in sorted((root / "experiment").rglob("*.yaml")):
            name = path.relative_to(root / "experiment").with_suffix("").as_posix()
            found[name] = Experiment(name, _first_comment(path))
    return sorted(found.values(), key=lambda e: e.name)


def listing(experiments: Sequence[Experiment], program: str = "python -m stablelit.train") -> str:
    """One line and one command for each."""
    lines = ["What shall be trained? Give one of these, then any key=value:", ""]
    for experiment in experiments:
        lines += [f"  {experiment.about or experiment.name}", f"    {program} +experiment={experiment.name}", ""]
    lines.append(f"Your own: {program} --config-dir my_conf +experiment=mine   (my_conf/experiment/mine.yaml)")
    return "\n".join(lines)


def _first_comment(path: Path) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text and not text.startswith("#"):
            return ""
        text = text.lstrip("# ").strip()
        if text and not text.startswith("@package"):
            return text
    return ""
