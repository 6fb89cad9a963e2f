"""What is done with a jet model once it is there: codes, reconstructions, samples, scores of single jets."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from stablelit.errors import bad_argument
from stablelit.families.jets.coordinates import JetGraph
from stablelit.families.jets.decoders import check_count
from stablelit.families.jets.losses import one_gaussian_nll
from stablelit.families.jets.network import HypergraphVAE
from stablelit.families.jets.readers import format_of
from stablelit.families.jets.sampling import draw_jets, evaluating, write_drawn_jets
from stablelit.functional.kl import gaussian_kl_per_dim
from stablelit.functional.schedules import check_number

SCORING_SEED = 20_240_119
SAMPLE_CHUNK = 10_000


class GeneratesJets(LightningModule):
    """The part of `JetVAE` that needs no training: subclasses have a `network`."""

    network: HypergraphVAE
    _n_predicted = 0

    @torch.no_grad()
    def encode(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | X), ``(B, d)`` each, without dropout."""
        with evaluating(self.network):
            return self.network.encode(*self._seen(batch))

    @torch.no_grad()
    def reconstruct(self, batch: dict[str, Tensor], seed: int = 0, calibrate: bool | None = None) -> dict[str, Tensor]:
        """Jets drawn from p(X | z = mu(X)), as a batch; a draw from a set's density, so particles have no partners."""
        mean, _ = self.encode(batch)
        return self._drawn_from(mean, batch, seed, calibrate)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        seed: int = 0,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        label: str | None = None,
        jet_pt: float | None = None,
        calibrate: bool | None = None,
    ) -> dict[str, Tensor]:
        """Draws jets from the prior, as a batch.

        Args:
            n: how many.
            seed: one seed, one sample (of one model on one kind of device).
            temperature: standard deviation of the latent draws; 1 is the model, less is nearer to typical jets.
            generator: used in place of `seed`.
            label: the class, for a model that is conditioned on it; None mixes them as in training.
            jet_pt: GeV, for a model that is conditioned on it; None is as in training.
            calibrate: whether mass and sum of ptrel are drawn by the heads for them and the particles moved to fit;
                False is what the decoder draws. None calibrates where there are heads.

        Returns:
            ``particles`` ``(n, N, 3)`` with ptrel > 0, hardest first, zeros where `mask` is False; ``mask``; ``jet``
            ``(n, 4)``: pT (GeV; without a condition on it the median of the training jets), eta = 0, mass (GeV), number
            of particles; ``label``, zeros without a condition on it.

        Raises:
            ConfigurationError: n below 1, a temperature that is not positive, a class or pT that the model does not
                know, calibration without heads.
        """
        check_count("sample", "n", n)
        check_number("sample", "temperature", temperature, above=0.0)
        calibrate = self._calibrates(calibrate)
        if generator is None:
            generator = self._private_generator(seed)
        parts = []
        for start in range(0, n, SAMPLE_CHUNK):
            size = min(SAMPLE_CHUNK, n - start)
            labels = self.network.conditions.labels_for(size, label, generator)
            pts = self.network.conditions.jet_pts_for(size, jet_pt, self.network, generator)
            z = temperature * torch.randn((size, self.network.latent_dim), generator=generator, device=self.device)
            parts.append(draw_jets(self.network, z, labels, pts, generator, calibrate))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def generate_to_file(
        self,
        path: str,
        n: int,
        seed: int = 0,
        temperature: float = 1.0,
        label: str | None = None,
        jet_pt: float | None = None,
        calibrate: bool | None = None,
    ) -> dict[str, Any]:
        """Draws jets from the prior and writes them in the format of the suffix, replacing a file that is there.

        Returns:
            What was written: path, counts, and means a reader can compare with the training jets.

        Raises:
            ConfigurationError: see `sample`.
            DataError: an unknown suffix.
        """
        format_of(path)  # a wrong suffix is refused before anything is drawn
        begin = time.perf_counter()
        drawn = self.sample(n, seed, temperature, None, label, jet_pt, calibrate)
        seconds = time.perf_counter() - begin
        conditions = self.network.conditions
        written = write_drawn_jets(path, drawn, conditions.classes if conditions.on_label else ())
        return {**written, "seed": seed, "temperature": temperature, "sampling_seconds": seconds}

    @torch.no_grad()
    def score(self, batch: dict[str, Tensor], n_draws: int = 4, seed: int = 0) -> dict[str, Tensor]:
        """How unlikely each jet is, ``(B,)`` nats, means over draws of z: ``neg_elbo`` and its parts ``recon``, ``kl``.

        Scores for anomalies that were not in training: larger is stranger. A jet's -ELBO grows with its number of
        particles and with how far each lies from the middle, strange or not. ``neg_log_ratio`` takes that off:
        -ELBO less the ``-log p`` of one Gaussian for all particles. Put their AUC beside those of the mass and the
        number of particles (`anomaly.anomaly_auc`).

        Source: Ren et al. 2019 (arXiv:1906.02845) for ratios of likelihoods.

        Args:
            batch: as in training.
            n_draws: of z; more make the score less noisy.
            seed: of the draws.
        """
        check_count("score", "n_draws", n_draws)
        draws = self._private_generator(SCORING_SEED + seed)
        graph, condition = self._seen(batch)
        with evaluating(self.network):
            mean, logvar = self.network.encode(graph, condition)
            recon = torch.zeros_like(mean[:, 0])
            for _ in range(n_draws):
                code = self.network.draw_code(mean, logvar, condition, draws)
                recon += self.network.decoder.recon_terms(code, graph.x, graph.mask, graph)["recon"] / n_draws
        kl = gaussian_kl_per_dim(mean, logvar).sum(dim=-1)
        simple = one_gaussian_nll(graph.x, graph.mask, self.network.log_count_prob)
        return {"neg_elbo": recon + kl, "recon": recon, "kl": kl, "neg_log_ratio": recon + kl - simple}

    def on_predict_epoch_start(self) -> None:
        """Begins to number jets."""
        self._n_predicted = 0

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """`score` of every jet with its ``id``: the batch's own, or its place in the order of prediction."""
        del batch_idx
        n = len(batch["particles"])
        first, self._n_predicted = self._n_predicted, self._n_predicted + n
        return {"id": batch.get("id", torch.arange(first, first + n, device=self.device)), **self.score(batch)}

    def _drawn_from(
        self, z: Tensor, batch: dict[str, Tensor], seed: int, calibrate: bool | None = None
    ) -> dict[str, Tensor]:
        """Jets drawn from p(X | z) under the conditions of the first jets of a batch, one for each z."""
        n = len(z)
        label = batch["label"][:n] if "label" in batch else torch.zeros(n, dtype=torch.long, device=z.device)
        draws = self._private_generator(seed, of_all_ranks=True)
        return draw_jets(self.network, z, label, batch["jet"][:n, 0], draws, self._calibrates(calibrate))

    def _seen(self, batch: dict[str, Tensor]) -> tuple[JetGraph, Tensor]:
        """The graph and the condition of a batch."""
        jet_pt = batch["jet"][:, 0]
        label = batch["label"] if self.network.conditions.on_label else torch.zeros_like(jet_pt, dtype=torch.long)
        graph = self.network.graph_of(batch["particles"], batch["mask"], jet_pt)
        return graph, self.network.condition(label, jet_pt)

    def _calibrates(self, asked: bool | None) -> bool:
        if asked and self.network.jet_level is None:
            raise bad_argument("sample", "calibrate", asked, "None or False", "This model has jet_level=False.")
        return self.network.jet_level is not None if asked is None else asked

    def _private_generator(self, seed: int, of_all_ranks: bool = False) -> torch.Generator:
        rank = 0 if of_all_ranks else self.global_rank
        return torch.Generator(device=self.device).manual_seed(seed + 7919 * rank)
