"""What is done with a trained model of sequences: new ones, of given lengths or around given residues, into a file."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from stablelit.data.files import replacing
from stablelit.errors import ConfigurationError, DataError, bad_argument, did_you_mean
from stablelit.families.proteins.alphabet import AMINO_ACIDS, N_RESIDUES, PAD, decode
from stablelit.families.proteins.diffusion import (
    AbsorbingGraph,
    Reshaping,
    SampleKeys,
    Samples,
    check_reaches_prior,
    log_probabilities,
    log_score_from,
    log_score_of_probabilities,
    sample_ancestrally,
    sample_by_steps,
    sample_first_hitting,
)
from stablelit.families.proteins.drawn_lengths import draw_lengths
from stablelit.families.proteins.fasta_writer import FastaRecord, write_fasta
from stablelit.families.proteins.network import DiffusionTransformer
from stablelit.families.proteins.objective import Objective
from stablelit.families.proteins.sample_quality import sample_quality
from stablelit.families.proteins.templates import FREE_CODE, template_codes
from stablelit.functional.schedules import check_count, check_number

SAMPLERS = ("first_hitting", "ancestral", "tau_leaping", "euler")


class GeneratesProteins(LightningModule):
    """The part of `ScoreEntropyDiffusion` that draws sequences: subclasses have a `network` and an `objective`.

    Attributes:
        length_counts: how many training sequences had each length, by length; kept in checkpoints.
        unigram: share of each residue in training, ``(20,)``; likewise. None before training.
    """

    network: DiffusionTransformer
    objective: Objective

    def __init__(self) -> None:
        super().__init__()
        self.length_counts: dict[int, int] = {}
        self.unigram: Tensor | None = None

    def setup(self, stage: str) -> None:
        """Looks at the data of a training, so that sequences can be drawn while it lasts."""
        if stage == "fit":
            self._look_at_data()

    @torch.no_grad()
    def sample(
        self,
        n: int,
        seed: int = 0,
        length: int | str | Sequence[int] | None = None,
        sampler: str | None = None,
        steps: int = 128,
        temperature: float = 1.0,
        top_p: float = 1.0,
        template: str | None = None,
        batch_size: int = 64,
    ) -> tuple[Tensor, Tensor, Samples]:
        """Draws sequences. Sequence i depends on the seed and its length alone, not on `batch_size` or `n`.

        Args:
            n: how many.
            seed: one seed, one sample.
            length: residues: a number, a range ("50-80"), one for each sequence, or None: as in training.
            sampler: "first_hitting" (one residue at a time, exact for the model), "ancestral", "tau_leaping" or
                "euler"; None is ancestral, or tau_leaping with the uniform graph, which has the last two alone.
            steps: of the samplers that have them.
            temperature: of the law of a residue; 1 is the model, less is nearer to typical sequences.
            top_p: residues are drawn from the likeliest that have together so much probability.
            template: letters that stay as they are and ``?`` where a residue is drawn, such as "MK????W".
            batch_size: sequences drawn together.

        Returns:
            ``(n, L)`` residues with PAD behind them, ``(n,)`` lengths, and what the sampler did.

        Raises:
            ConfigurationError: an argument outside its range, noise that does not end where generation starts, a length
                that is not known.
        """
        owner = "sample"
        check_count(owner, "n", n, 1)
        check_count(owner, "steps", steps, 1)
        check_count(owner, "batch_size", batch_size, 1)
        check_number(owner, "temperature", temperature, above=0.0)
        check_number(owner, "top_p", top_p, above=0.0, at_most=1.0)
        method = self._sampler(sampler)
        check_reaches_prior(self.objective.noise, "generation", owner)
        given = None if template is None else template_codes(template)
        if given is None:
            lengths = draw_lengths(n, seed, length, self.length_counts)
        elif length is None:
            lengths = torch.full((n,), len(given))
        else:
            raise ConfigurationError(f"{owner}: the template has {len(given)} places. Leave length out.")
        order = lengths.argsort(stable=True)
        tokens = torch.full((n, int(lengths.max())), PAD)
        evaluations, clipped = 0, 0
        was_training = self.training
        self.eval()
        try:
            for rows in order.split(batch_size):
                drawn = self._drawn(rows, lengths[rows], given, seed, method, steps, Reshaping(temperature, top_p))
                tokens[rows, : drawn.tokens.shape[1]] = drawn.tokens.cpu()
                evaluations, clipped = evaluations + drawn.evaluations, clipped + int(drawn.clipped)
        finally:
            self.train(was_training)
        return tokens, lengths, Samples(tokens, evaluations, clipped)

    def generate_to_file(
        self,
        path: str | Path,
        n: int,
        seed: int = 0,
        length: int | str | Sequence[int] | None = None,
        sampler: str | None = None,
        steps: int = 128,
        temperature: float = 1.0,
        top_p: float = 1.0,
        template: str | None = None,
        batch_size: int = 64,
    ) -> dict[str, Any]:
        """Draws sequences and writes them as FASTA, with what is known of each in its header, replacing a file.

        Beside it, under the same name with .json, goes what they are like as a whole.

        Args: see `sample`.

        Returns:
            What was written, and how the sequences compare with those of training.

        Raises:
            ConfigurationError: see `sample`.
            DataError: no suffix of FASTA.
        """
        path = Path(path)
        if path.suffix not in (".fasta", ".fa", ".faa"):
            raise DataError(f"{path}: has the suffix {path.suffix!r}. Allowed: .fasta, .fa, .faa.")
        begin = time.perf_counter()
        drawing = {"sampler": self._sampler(sampler), "steps": steps, "temperature": temperature, "top_p": top_p}
        if drawing["sampler"] == "first_hitting":
            del drawing["steps"]
        tokens, lengths, done = self.sample(
            n, seed, length, sampler, steps, temperature, top_p, template, batch_size=batch_size
        )
        seconds = time.perf_counter() - begin
        bound = self._bounds(tokens, lengths, batch_size) / (tokens < N_RESIDUES).sum(1).clamp(min=1)
        records = (
            FastaRecord(
                f"sample_{i + 1}",
                decode(tokens[i, : int(lengths[i])].numpy()),
                {"seed": seed, **drawing, "bound_nats_per_residue": float(bound[i])},
            )
            for i in range(n)
        )
        written = write_fasta(path, records)
        done_with = {
            "sequences": written,
            "residues": int(lengths.sum()),
            "seed": seed,
            **drawing,
            **({} if template is None else {"template": template}),
            "network_evaluations": done.evaluations,
            "clipped_jumps": done.clipped,
            "sampling_seconds": seconds,
            "bound_nats_per_residue": float((bound * lengths).sum() / lengths.sum()),
            **sample_quality(tokens, lengths, self.unigram, self.length_counts),
        }
        with replacing(path.with_suffix(".json")) as beside:
            Path(beside).write_text(json.dumps(done_with, indent=2) + "\n", encoding="utf-8")
        return done_with

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps which number means which residue, and what generation needs of the training data."""
        checkpoint["alphabet"] = {"residues": AMINO_ACIDS, "n_states": self.network.n_states}
        self._look_at_data()
        checkpoint["training_data"] = {"length_counts": dict(self.length_counts), "unigram": self.unigram}

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Refuses weights whose numbers mean other residues.

        Raises:
            DataError: a checkpoint of another alphabet.
        """
        here = {"residues": AMINO_ACIDS, "n_states": self.network.n_states}
        saved = checkpoint.get("alphabet", here)
        if saved != here:
            raise DataError(
                f"{type(self).__name__}: the checkpoint is of the alphabet {saved['residues']} with "
                f"{saved['n_states']} states, this model of {here['residues']} with {here['n_states']}. Its weights "
                f"mean other residues: build the model with n_states={saved['n_states']}, or train it anew."
            )
        known = checkpoint.get("training_data", {})
        self.length_counts = {int(k): int(v) for k, v in known.get("length_counts", {}).items()}
        self.unigram = known.get("unigram")

    def _look_at_data(self) -> None:
        """Takes from the datamodule what generation needs, where there is one."""
        data = getattr(self._trainer, "datamodule", None) if self._trainer is not None else None
        if hasattr(data, "unigram") and hasattr(data, "length_histogram"):
            counts = data.length_histogram
            self.length_counts = {int(i): int(counts[i]) for i in counts.nonzero().flatten()}
            self.unigram = data.unigram().clone()

    def _sampler(self, sampler: str | None) -> str:
        absorbing = isinstance(self.objective.graph, AbsorbingGraph)
        allowed = SAMPLERS if absorbing else SAMPLERS[2:]
        if sampler is None:
            return "ancestral" if absorbing else "tau_leaping"
        if sampler not in allowed:
            raise bad_argument("sample", "sampler", sampler, ", ".join(allowed), did_you_mean(str(sampler), allowed))
        return sampler

    def _drawn(
        self,
        rows: Tensor,
        lengths: Tensor,
        given: Tensor | None,
        seed: int,
        method: str,
        steps: int,
        reshaping: Reshaping,
    ) -> Samples:
        n, longest = len(rows), int(lengths.max())
        inside = torch.arange(longest) < lengths[:, None]
        template = torch.full((n, longest), PAD)
        free = inside
        if given is not None:
            template, free = given.expand(n, -1).clone(), (given == FREE_CODE).expand(n, -1)
            template = template.masked_fill(free, 0)
        device = self.device
        pad_mask = None if bool(inside.all()) else inside.to(device)
        where = {
            "template": self.network.input_codes(template).to(device),
            "free": free.to(device),
            "reshaping": reshaping,
        }
        # all draws of a sequence come from its own keys
        keys = SampleKeys(rows.to(device), seed=seed)
        graph, noise = self.objective.graph, self.objective.noise

        def h(codes: Tensor, sigma: Tensor) -> Tensor:
            return self.network(codes, sigma.float(), pad_mask)  # type: ignore[no-any-return]

        if method in ("first_hitting", "ancestral"):
            assert isinstance(graph, AbsorbingGraph)
            if method == "first_hitting":
                drawn = sample_first_hitting(h, graph, noise, (n, longest), keys, **where)
            else:
                drawn = sample_ancestrally(h, graph, noise, (n, longest), steps, keys, **where)
        else:

            def score(codes: Tensor, sigma: Tensor) -> Tensor:
                out = h(codes, sigma)
                if not isinstance(graph, AbsorbingGraph):
                    return out
                if self.objective.parameterization == "subs":
                    return log_score_of_probabilities(log_probabilities(out), sigma)
                return log_score_from(out, sigma)

            drawn = sample_by_steps(score, graph, noise, (n, longest), steps, keys, method=method, **where)
        # back from the codes of the network, whose UNKNOWN and PAD lie behind the mask
        tokens = drawn.tokens.cpu()
        tokens = torch.where(inside, tokens, PAD)
        if given is not None:
            tokens = torch.where(free, tokens, given.expand(n, -1))
        return Samples(tokens, drawn.evaluations, drawn.clipped)

    @torch.no_grad()
    def _bounds(self, tokens: Tensor, lengths: Tensor, batch_size: int) -> Tensor:
        """``(n,)`` nats, one draw."""
        found = torch.zeros(len(tokens), dtype=torch.float64)
        was_training = self.training
        self.eval()
        for rows in lengths.argsort(stable=True).split(batch_size):
            part = tokens[rows, : int(lengths[rows].max())]
            batch = {"tokens": part, "loss_mask": part < N_RESIDUES, "pad_mask": part != PAD, "id": rows}
            one = self.bound({name: value.to(self.device) for name, value in batch.items()})  # type: ignore[operator]
            found[rows] = one.nats.double().cpu()
        self.train(was_training)
        return found
