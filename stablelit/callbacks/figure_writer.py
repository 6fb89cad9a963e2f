"""Draws pictures of a run while it runs: the module's own figures, and curves of what it logged.

Runs    on_validation_end and on_train_epoch_end (points, pictures every `every_n_epochs` epochs), on_fit_end,
        on_test_end (pictures of the test)
Reads   `figures()` of the module (and of its metrics) and of other callbacks, trainer.callback_metrics
Writes  figures/<name>.png in `directory`, else in the logger's directory, figures/test/<name>.png after a test;
        TensorBoard images where there is such a logger
Logs    nothing
Resumes the curves go on where they stopped: their points are in the checkpoint
Limits  rank zero only; nothing under fast_dev_run; matplotlib is imported at the first picture; one that cannot be
        written is lost and told, and the training goes on
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from stablelit.callbacks._snapshots import is_sharded
from stablelit.contracts import HasFigures
from stablelit.data.files import replacing
from stablelit.errors import ContractError, bad_argument
from stablelit.findings import findings_directory
from stablelit.lost_reports import report_may_be_lost, tell_of_lost


class FigureWriter(pl.Callback):
    """Writes pictures as files.

    Args:
        curves: pictures of logged values: a name, and for each a list of panels, each a list of metric names that
            share an axis. A point is taken at the end of every epoch and after every validation.
        every_n_epochs: epochs between two writings; the last one is always written.
        module_figures: ask the module for `figures()`. A module without it is an error that says so.
        directory: where ``figures/`` goes.

    Raises:
        ConfigurationError: an interval below 1, curves of another form.
        ContractError: `module_figures` and the module has no `figures()`.

    Example:
        >>> from stablelit import FigureWriter
        >>> callback = FigureWriter(curves={"kl": [["train/kl", "val/kl", "kl/target"], ["kl/weight"]]})
    """

    keeps_books = True

    def __init__(
        self,
        curves: Mapping[str, Sequence[Sequence[str]]] | None = None,
        every_n_epochs: int = 5,
        module_figures: bool = True,
        directory: str | None = None,
    ) -> None:
        if isinstance(every_n_epochs, bool) or not isinstance(every_n_epochs, int) or every_n_epochs < 1:
            raise bad_argument("FigureWriter", "every_n_epochs", every_n_epochs, "an int of at least 1")
        form = "a mapping of names to lists of panels, each a list of metric names"
        self.curves: dict[str, list[list[str]]] = {}
        for name, panels in (curves or {}).items():
            if isinstance(panels, str) or any(isinstance(panel, str) or not list(panel) for panel in panels):
                raise bad_argument("FigureWriter", f"curves[{name!r}]", panels, form)
            self.curves[name] = [list(panel) for panel in panels]
        self.every_n_epochs = every_n_epochs
        self.module_figures = module_figures
        self.directory = directory
        self._points: list[list[float]] = []
        self._written_at: int | None = None

    def __repr__(self) -> str:
        return f"FigureWriter(curves={sorted(self.curves)}, every_n_epochs={self.every_n_epochs})"

    @property
    def _metrics(self) -> list[str]:
        return sorted({metric for panels in self.curves.values() for panel in panels for metric in panel})

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Asks for the contract before anything runs."""
        if self.module_figures and not isinstance(pl_module, HasFigures):
            raise ContractError(
                f"FigureWriter: {type(pl_module).__name__} has no figures(). Give it a method that returns a "
                f"dictionary of matplotlib figures, or pass module_figures=False."
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A new run begins new curves, also where the callback is used again."""
        if trainer.global_step == 0:
            self._points, self._written_at = [], None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes a point of every curve, for runs that validate inside an epoch."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._take_point(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes the epoch's point again, now with the means over the epoch's training, and draws when it is time."""
        self._take_point(trainer)
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._write(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws the end of the run."""
        if self._written_at != trainer.global_step:
            self._write(trainer, pl_module)
        tell_of_lost(trainer)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws what the module has to show of a test."""
        if self.module_figures and isinstance(pl_module, HasFigures) and _draws(trainer):
            self._save(trainer, pl_module.figures(), "test/")

    def state_dict(self) -> dict[str, Any]:
        """The points of the curves."""
        return {"metrics": self._metrics, "points": [list(point) for point in self._points]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on with the curves; that of a metric which was not drawn before begins here."""
        before = ["step", *state_dict["metrics"]]
        rows = [dict(zip(before, point, strict=True)) for point in state_dict["points"]]
        self._points = [[row.get(name, math.nan) for name in ("step", *self._metrics)] for row in rows]

    def _take_point(self, trainer: pl.Trainer) -> None:
        if not self.curves:
            return
        # every rank asks: the first to ask for a synchronised metric waits for the others
        step, values, nan = float(trainer.global_step), trainer.callback_metrics, float("nan")
        if self._points and self._points[-1][0] == step:
            self._points.pop()
        self._points.append([step, *(float(values.get(metric, nan)) for metric in self._metrics)])

    def _write(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not _draws(trainer):
            return
        self._written_at = trainer.global_step
        figures = {name: self._draw_curves(panels) for name, panels in self.curves.items() if self._points}
        if self.module_figures and isinstance(pl_module, HasFigures):
            figures.update(pl_module.figures())
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, HasFigures):
                figures.update(callback.figures())
        self._save(trainer, figures)

    def _save(self, trainer: pl.Trainer, figures: Mapping[str, Any], prefix: str = "") -> None:
        if not trainer.is_global_zero:
            return
        root = (Path(self.directory) if self.directory else findings_directory(trainer)) / "figures"
        for name, figure in figures.items():
            path = root / f"{prefix}{name}.png"
            with report_may_be_lost(trainer, "FigureWriter", root), replacing(path) as unfinished:
                figure.savefig(unfinished, dpi=120, bbox_inches="tight")
            for logger in trainer.loggers:
                with report_may_be_lost(trainer, "FigureWriter", f"the pictures of {type(logger).__name__}"):
                    add_figure = getattr(getattr(logger, "experiment", None), "add_figure", None)
                    if add_figure is not None:
                        add_figure(f"{prefix}{name}", figure, global_step=trainer.global_step, close=False)

    def _draw_curves(self, panels: list[list[str]]) -> Any:
        from matplotlib.figure import Figure

        columns = dict(zip(["step", *self._metrics], zip(*self._points, strict=True), strict=True))
        figure = Figure(figsize=(7.0, 2.4 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axis, panel in zip(axes, panels, strict=True):
            dashes = cycle(("--", ":", "-."))
            for metric in panel:
                # a target, a floor or a baseline is a line to compare with, not a measurement of the model
                compared = metric.endswith(("target", "floor", "baseline", "chance"))
                style = {"color": "0.4", "linestyle": next(dashes), "zorder": 1.9} if compared else {"marker": "."}
                axis.plot(columns["step"], columns[metric], label=metric, **style)
            axis.legend(frameon=False, fontsize="small")
            axis.grid(alpha=0.3)
            # a curve that stands still would be shown as 1e-6 about something
            axis.ticklabel_format(axis="y", useOffset=False)
        axes[-1].set_xlabel("optimizer step")
        return figure


def _draws(trainer: pl.Trainer) -> bool:
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return False
    # of a module in shards every rank has to ask, or the one that does waits for the others
    return bool(trainer.is_global_zero or is_sharded(trainer.strategy))
