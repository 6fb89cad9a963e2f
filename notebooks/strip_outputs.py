"""Takes the outputs out of notebooks, so that a change can be read in a diff.

``python notebooks/strip_outputs.py [NAME.ipynb ...]``: without names, all of this folder. Cells
keep their ids; what a front end writes into the metadata goes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat

ROOM = Path(__file__).resolve().parent


def strip(path: Path) -> bool:
    """Rewrites a notebook without outputs; returns whether there was something to take out."""
    before = path.read_text()
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)
    return path.read_text() != before


if __name__ == "__main__":
    for notebook_path in [ROOM / name for name in sys.argv[1:]] or sorted(ROOM.glob("*.ipynb")):
        print(f"{notebook_path.name}: {'stripped' if strip(notebook_path) else 'was stripped'}")
