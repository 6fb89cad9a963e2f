"""Imports point down only; the reusable suite drags nothing heavy in."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "stablelit"
GROUND = {
    "functional",
    "contracts",
    "findings",
    "errors",
    "lazy_exports",
    "run_files",
    "lost_reports",
    "data",
    "nn",
    "optim",
}
MAY_IMPORT = {
    **{room: GROUND for room in GROUND},
    "callbacks": GROUND | {"callbacks"},
    "families": GROUND | {"families"},
    "doctor": GROUND | {"callbacks", "families", "doctor"},
    "report": GROUND | {"doctor", "report"},
    "run": GROUND | {"callbacks", "families", "doctor", "report", "run"},
}
DOORS = {"train", "evaluate", "generate", "predict", "probe", "prepare", "check", "__main__", "__init__"}
FILES = sorted(p for p in PACKAGE.rglob("*.py"))


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they point"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("room", sorted({_room(path) for path in FILES} - DOORS))
def test_imports_point_down_only(room):
    for path in FILES:
        if _room(path) == room:
            _check_imports(path, room)


def _check_imports(path: Path, room: str) -> None:
    imports = _imports(path)
    above = {name for name in imports if name.startswith("stablelit.") and name.split(".")[1] not in MAY_IMPORT[room]}
    assert not above, f"{path}: {room} may not import {sorted(above)}"
    if room != "run":
        hydra = {name for name in imports if name.split(".")[0] in ("hydra", "omegaconf")}
        assert not hydra, f"{path}: only run/ and the doors may import {sorted(hydra)}"


def test_families_do_not_import_each_other():
    for path in FILES:
        parts = path.relative_to(PACKAGE).parts
        if parts[0] == "families" and len(parts) > 2:
            others = {n for n in _imports(path) if n.startswith("stablelit.families.") and n.split(".")[2] != parts[1]}
            assert not others, f"{path} imports {others}"


def test_no_room_is_a_grab_bag():
    assert not [p for p in FILES if p.stem in ("utils", "helpers", "common", "misc")]


@pytest.mark.slow
def test_the_suite_imports_without_heavy_packages():
    # tensorboard and matplotlib may come with Lightning itself: what counts is what we add to it
    code = (
        "import sys, lightning.pytorch\n"
        "heavy = ('torch_geometric', 'hydra', 'omegaconf', 'tensorboard', 'matplotlib', 'h5py')\n"
        "before = {m for m in heavy if m in sys.modules}\n"
        "import stablelit.callbacks, stablelit.data\n"
        "from stablelit import KLCapCallback, ShuffleSampler\n"
        "print([m for m in heavy if m in sys.modules and m not in before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def test_every_public_name_resolves():
    import stablelit

    for name in stablelit.__all__:
        assert getattr(stablelit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'KLCap'"):
        stablelit.KLCap  # noqa: B018
