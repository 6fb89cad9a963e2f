from __future__ import annotations

import subprocess
import sys

import pytest

import stablelit
from stablelit.families import jets
from stablelit.lazy_exports import lazy_exports


def test_a_name_is_that_of_its_module_and_another_is_none():
    names, get, listed = lazy_exports("stablelit", {"mix": "functional.permutation", "linear": "functional.schedules"})
    assert names == listed() == ["linear", "mix"]
    assert get("mix") is sys.modules["stablelit.functional.permutation"].mix
    with pytest.raises(AttributeError, match="module 'stablelit' has no attribute 'mixed'"):
        get("mixed")


@pytest.mark.parametrize("package", [stablelit, jets])
def test_every_exported_name_is_there(package):
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError):
        package.no_such_name  # noqa: B018


def test_a_package_is_imported_without_its_modules():
    code = (
        "import sys, stablelit.families.jets, stablelit.families.proteins; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'lightning', 'stablelit.families.jets.module')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
