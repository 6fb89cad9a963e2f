"""Every notebook runs from an empty kernel, its own assertions included; and none is kept with what it printed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOM = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(ROOM.glob("*.ipynb"))
EXPECTED = ["00_add_to_your_project", "01_jets", "02_proteins", "03_causal", "04_sketches", "05_neutrinos"]

all_notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_of(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def test_there_is_one_for_any_project_and_one_a_family():
    assert [path.stem for path in NOTEBOOKS] == EXPECTED


@all_notebooks
def test_outputs_are_stripped(path):
    remedy = f"python notebooks/strip_outputs.py {path.name}"
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code_of(path)), remedy


@all_notebooks
def test_is_a_valid_notebook_whose_cells_have_names(path):
    import nbformat

    content = json.loads(path.read_text())
    nbformat.validate(content)
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    names = [cell["id"] for cell in content["cells"]]
    # a name that a person gave, not eight random digits: it stays when cells are moved, and errors can be found by it
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in names), names
    # a viewer shows the title of the first cell
    assert content["cells"][0]["cell_type"] == "markdown"
    assert "".join(content["cells"][0]["source"]).startswith("# ")


@all_notebooks
def test_names_no_place_of_one_machine(path):
    found = re.findall(r"(?:/(?:home|root|tmp|work|Users|mnt)/|[A-Z]:\\\\)[^\s\"']*", path.read_text())
    assert found == []


@all_notebooks
def test_asserts_what_its_prose_claims(path):
    tested = [cell["id"] for cell in code_of(path) if re.search(r"^ *assert ", "".join(cell["source"]), re.M)]
    assert len(tested) >= 2


@pytest.mark.slow
@all_notebooks
def test_runs_from_an_empty_kernel(path, tmp_path, monkeypatch):
    # the extra `dev` has both; imported here, since the tests above need neither
    import nbclient
    import nbformat

    # nothing of what somebody's own settings would add
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    before = sorted(entry.name for entry in ROOM.iterdir())
    notebook = nbformat.read(path, as_version=4)
    in_its_room = {"metadata": {"path": str(ROOM)}}
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources=in_its_room).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs), "no figure was drawn"
    assert sorted(entry.name for entry in ROOM.iterdir()) == before, "a run left files beside the notebooks"
