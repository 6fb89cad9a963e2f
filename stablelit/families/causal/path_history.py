"""How the path went, a line an epoch, for its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from stablelit.families.causal.path import ConstraintPath

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = ("step", "h", "mu", "s", "alpha", "rho", "stage")


class PathHistory:
    """Plain numbers, so that a checkpoint may hold them."""

    def __init__(self) -> None:
        self.rows: list[list[float]] = []

    def add(self, path: ConstraintPath, h: Tensor) -> None:
        """Takes down where the path is."""
        values = (path.steps, h, path.mu, path.s, path.alpha, path.rho, path.stage)
        self.rows.append([float(value) for value in values])

    def state_dict(self) -> dict[str, Any]:
        """The lines."""
        return {"columns": list(_COLUMNS), "rows": [list(row) for row in self.rows]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with them."""
        self.rows = [list(row) for row in state["rows"]]

    def figure(self, kind: str) -> Figure:
        """h, and what presses it down.

        Args:
            kind: of the path.
        """
        from stablelit.families.causal.path_figure import path_panel

        column = {name: [row[i] for row in self.rows] for i, name in enumerate(_COLUMNS)}
        pressing = {"path": ("mu", "s"), "augmented_lagrangian": ("alpha", "rho")}.get(kind, ())
        return path_panel(column["step"], column["h"], {name: column[name] for name in pressing}, column["stage"])
