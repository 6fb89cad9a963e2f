"""One evaluation of ThresholdSweepValidation, of samples or of edges: collect, then choose or measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from stablelit.callbacks._threshold_choice import ONLY_EDGES, Outcome, ThresholdChoice
from stablelit.callbacks._threshold_edges import EdgeEvaluation, EdgeReader
from stablelit.callbacks._threshold_measure import measure, measure_at
from stablelit.callbacks._threshold_samples import SampleCollector, Samples
from stablelit.contracts import HasEdgeScores
from stablelit.errors import ContractError

Kind = Literal["auto", "samples", "edges"]


class ThresholdEvaluation:
    """Hides from the callback whether it looks at samples or at edges.

    Args:
        choice: how a threshold is chosen.
        collector: takes per-sample scores.
        edges: asks the module for its graph.
        kind: which of the two.
        dataloader_idx: the loader that counts.
    """

    def __init__(
        self, choice: ThresholdChoice, collector: SampleCollector, edges: EdgeReader, kind: Kind, dataloader_idx: int
    ) -> None:
        self.choice, self.kind, self.dataloader_idx = choice, kind, dataloader_idx
        self._collector, self._edge_reader = collector, edges
        self._seen: EdgeEvaluation | None = None
        self.of_edges = kind == "edges"
        self.truth = ""

    def check(self, pl_module: Any) -> None:
        """Asks for the contract before anything runs."""
        self.of_edges = self.kind == "edges" or (self.kind == "auto" and isinstance(pl_module, HasEdgeScores))
        if self.of_edges:
            self._edge_reader.check(pl_module)
        elif self.choice.select in ONLY_EDGES:
            raise ContractError(
                f"{self.choice.owner}: select={self.choice.select!r} chooses among edges, and "
                f"{type(pl_module).__name__} has no edge_scores()."
            )

    def begin(self, trainer: Any) -> None:
        """Forgets what was collected."""
        self._collector.begin(trainer.world_size, trainer.global_rank)
        self._seen = None

    def add(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, loader: int, last: bool, step: str) -> None:
        """Takes a batch."""
        if loader != self.dataloader_idx:
            return
        if not self.of_edges:
            self._collector.add(pl_module, outputs, batch, step)
        elif last:
            # here and not at the epoch's end: a weight-averaging callback listed first has put its weights away by then
            self._seen = self._edge_reader.read(trainer, pl_module)

    def choose(self, trainer: Any, pl_module: Any) -> Outcome:
        """Chooses a threshold on what was collected. Every rank must call it."""
        if not self.of_edges:
            return measure(self.choice, self._collected(trainer, trainer.val_dataloaders))
        edges = self._edges(trainer, pl_module)
        self.truth = edges.truth_digest
        return edges.measure()

    def measure(self, trainer: Any, pl_module: Any, thresholds: Sequence[float] | None) -> Outcome:
        """Measures thresholds on what was collected; None are those of `fixed`. Every rank must call it."""
        if not self.of_edges:
            samples = self._collected(trainer, trainer.test_dataloaders)
            given = self.choice.fit(samples.labels) if thresholds is None else thresholds
            if len(given) != len(samples.labels):
                raise ContractError(
                    f"{self.choice.owner}: {len(given)} thresholds were chosen, and test_step returns scores of "
                    f"{len(samples.labels)} labels."
                )
            return measure_at(self.choice, samples, given)
        edges = self._edges(trainer, pl_module)
        return edges.measure_at(
            (thresholds or [self.choice.fixed])[0], self.choice.needs_truth and edges.truth_digest == self.truth
        )

    def _edges(self, trainer: Any, pl_module: Any) -> EdgeEvaluation:
        return self._seen if self._seen is not None else self._edge_reader.read(trainer, pl_module)

    def _collected(self, trainer: Any, loaders: Any) -> Samples:
        several = list(loaders) if isinstance(loaders, list | tuple) else [loaders]
        mine = several[self.dataloader_idx] if self.dataloader_idx < len(several) else None
        samples = self._collector.finish(trainer, mine)
        if samples is None:
            raise ContractError(
                f"{self.choice.owner}: no sample came from loader {self.dataloader_idx} of {len(several)} (the first "
                f"is 0). Give dataloader_idx= of one that is there, or report_test=False where only testing has fewer."
            )
        return samples
