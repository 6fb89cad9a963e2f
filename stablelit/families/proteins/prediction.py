"""What a model says of given sequences: the bound of each, and a file with a line a record."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stablelit.data.files import replacing
from stablelit.errors import DataError
from stablelit.families.proteins.alphabet import AMINO_ACIDS, PAD
from stablelit.families.proteins.diffusion import AbsorbingGraph, SampleKeys, UniformGraph
from stablelit.families.proteins.generation import GeneratesProteins
from stablelit.families.proteins.scoring import SequenceBound, absorbing_bound, uniform_bound

Batch = dict[str, Tensor]
EVALUATION_SEED = 20_240_310


class ScoresProteins(GeneratesProteins):
    """The part of `ScoreEntropyDiffusion` that bounds the likelihood of sequences: subclasses are callable."""

    prediction_suffixes = (".csv",)

    eps: float
    predict_draws: int

    def bound(self, batch: Batch, draw: int = 0, seed: int = EVALUATION_SEED) -> SequenceBound:
        """One draw of the bound of each sequence, the same for a sample and a draw whatever else there is.

        Args:
            batch: as the datamodule makes it.
            draw: which; their mean over draws has less noise.
            seed: chooses the noise.
        """
        x0, objective, head = self._codes(batch), self.objective, self._head(batch)
        graph, noise, loss_mask, ids = objective.graph, objective.noise, batch["loss_mask"], batch["id"]
        if isinstance(graph, AbsorbingGraph):
            scores = objective.parameterization == "score"
            return absorbing_bound(head, graph, noise, x0, loss_mask, ids, seed, draw, scores)
        assert isinstance(graph, UniformGraph)
        return uniform_bound(head, graph, noise, x0, loss_mask, SampleKeys(ids, seed + draw), self.eps)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The bound of each sequence: ``nats`` ``(B, draws)``, ``residues`` that count and the ``id``, ``(B,)``."""
        del batch_idx
        drawn = [self.bound(batch, number).nats for number in range(self.predict_draws)]
        return {"id": batch["id"], "nats": torch.stack(drawn, dim=1), "residues": batch["loss_mask"].sum(1)}

    def write_predictions(self, predictions: Sequence[Mapping[str, Tensor]], path: str | Path) -> dict[str, Any]:
        """Writes what `predict_step` has returned as CSV, a line a record, longer ones' windows added up.

        Columns: ``record``, ``residues`` that count (not X), ``bound`` (nats per residue), its ``standard_error`` from
        the draws of masks, ``perplexity``, and ``n_draws``.

        Args:
            predictions: of all batches.
            path: .csv.

        Returns:
            How many records were scored, and their bound together.

        Raises:
            DataError: another suffix.
        """
        path = Path(path)
        if path.suffix != ".csv":
            raise DataError(f"{path}: has the suffix {path.suffix!r}. Allowed: .csv.")
        ids, nats, residues = (torch.cat([p[name] for p in predictions]).cpu() for name in ("id", "nats", "residues"))
        data = getattr(self.trainer, "datamodule", None)
        # a window's id is its record's row plus a multiple of the number of records
        rows, place = torch.unique(ids % getattr(data, "n_records", int(ids.max()) + 1), return_inverse=True)
        total = torch.zeros(len(rows), nats.shape[1], dtype=torch.float64).index_add_(0, place, nats.double())
        counted = torch.zeros(len(rows), dtype=torch.float64).index_add_(0, place, residues.double())
        bound = total / counted[:, None].clamp(min=1)
        error = bound.std(dim=1) / nats.shape[1] ** 0.5
        name_of: Callable[[int], str] = getattr(data, "record_name", str)
        with replacing(path) as temporary, Path(temporary).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["record", "residues", "bound", "standard_error", "perplexity", "n_draws"])
            for i, row in enumerate(rows.tolist()):
                # of a record that is all X nothing is known
                mean = float(bound[i].mean()) if counted[i] else float("nan")
                numbers = (mean, float(error[i]), float(torch.tensor(mean).exp()))
                writer.writerow([name_of(row), int(counted[i]), *(f"{x:.6g}" for x in numbers), nats.shape[1]])
        return {
            "records": len(rows),
            "residues": int(counted.sum()),
            "bound": float(total.mean(1).sum() / counted.sum()),
        }

    def _codes(self, batch: Batch) -> Tensor:
        tokens = batch["tokens"]
        # on a GPU looking would mean waiting for it: there an index out of range fails by itself, without a name
        if tokens.device.type == "cpu" and len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) <= PAD:
            wrong = (tokens < 0) | (tokens > PAD)
            row, place = (int(i) for i in wrong.nonzero()[0])
            raise DataError(
                f"{type(self).__name__}: sequence {int(batch['id'][row])} has the number {int(tokens[row, place])} at "
                f"residue {place + 1}. Allowed: 0 to 19 for {AMINO_ACIDS}, 20 unknown, 21 padding. Masks are put by "
                f"the model."
            )
        return self.network.input_codes(tokens)

    def _head(self, batch: Batch) -> Callable[[Tensor, Tensor], Tensor]:
        # a batch without padding needs no mask, and attention is faster without
        pad_mask = batch["pad_mask"] if batch.get("has_padding", True) else None
        graph = self.objective.graph
        # masks alone have a cost; a GPU would have to wait to be told how many they are
        masks_alone = isinstance(graph, AbsorbingGraph) and batch["tokens"].device.type == "cpu"

        def head(codes: Tensor, sigma: Tensor) -> Tensor:
            h: Tensor = self(codes, sigma, pad_mask, codes == graph.n_states if masks_alone else None)
            return h

        return head
