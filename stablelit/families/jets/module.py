"""JetVAE: the evidence lower bound of a set of particles, in nats.

The algorithm, for a jet X of n particles, and c what it is conditioned on (nothing, its class, its pT)::

    (mu, log sigma^2) = Encoder(X, c)              hypergraph of particles, pairs and neighbourhoods
    z = mu + sigma * epsilon,  epsilon ~ N(0, 1)
    recon = -log p(X | z, c)                       the decoder's: see `decoders`
    kl = sum_j (mu_j^2 + sigma_j^2 - 1 - log sigma_j^2) / 2
    loss = mean over jets of  recon + kl_weight * kl  + jet_level

The last term fits the heads for mass and sum of ptrel (`jet_level`), on codes without a gradient: it has parameters of
its own and no part in the bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stablelit.data.evaluation_batches import number_among_ranks, weight_among_ranks
from stablelit.errors import ContractError, bad_argument, did_you_mean
from stablelit.families.jets.augmentation import AUGMENTATIONS, SYMMETRIES, augmented
from stablelit.families.jets.decoders import check_count
from stablelit.families.jets.evaluation import JetEvaluation
from stablelit.families.jets.fitting import check_fit, take_from
from stablelit.families.jets.generation import GeneratesJets
from stablelit.families.jets.hyperedges import MAX_HYPEREDGES
from stablelit.families.jets.losses import one_gaussian_nll
from stablelit.families.jets.metrics import checked_groups
from stablelit.families.jets.network import HypergraphVAE
from stablelit.findings import FindingReporter
from stablelit.functional.kl import gaussian_kl_per_dim
from stablelit.functional.schedules import check_number
from stablelit.optim import build_optimizers, check_factories

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# evaluation draws from these seeds: its epochs are comparable, and it moves no global random state
EVALUATION_SEED, SAMPLING_SEED, RECONSTRUCTION_SEED = 20_240_117, 20_240_118, 20_240_120


class JetVAE(GeneratesJets):
    """The hypergraph variational autoencoder as a LightningModule.

    `training_step` returns ``loss``, and live: ``recon`` (with the terms it is made of) and ``kl``, nats per jet
    ``(B,)``, and ``kl_per_dim`` ``(B, d)``. `kl_weight` is a 0-dim buffer that a callback may fill in place; validation
    is always the negative evidence lower bound (weight 1), with the same latent noise at every epoch. Nats are those of
    (ln ptrel, etarel, phirel) in units of the standard deviations of the training jets, which are buffers and so in
    every checkpoint.

    Args:
        n_particles: particles a jet is padded to; the datamodule's.
        latent_dim: d.
        particle_hidden: width of the particle branch.
        edge_hidden: width of the branch of pairs.
        hyperedge_hidden: width of the branch of hyperedges.
        n_edge_particles: pairs are those among this many hardest particles.
        n_neighbours: particles of a hyperedge beside its own.
        encoder_dropout: in the encoder.
        decoder: its name, or a mapping of its ``name`` and settings: see `stablelit.families.jets.decoders`.
        conditional: what encoder and decoder are told: of "label" and "pt".
        classes: names of the classes in the data's order, needed for a condition on the label.
        jet_level: whether mass and sum of ptrel get heads of their own, by which samples are calibrated.
        hyperedges: their kind, "knn" (each particle with its neighbours), "topk_weight" or "all".
        max_hyperedges: the most that "all" may make of a jet of `n_particles`.
        backend: of the encoder, "dense" or "pyg" (the same numbers by `torch_geometric`, slower on padded jets).
        learning_rate: the peak rate.
        augment: of "rotate" (about the jet axis), "reflect", "permute" (nothing to this model) and "smear" (within a
            detector's resolution), in training only.
        test_metrics: what prior samples are held against test jets by: of "w1", which validation has too and a test
            always, "fpd", "kpd" and "coverage" (about 20 s on a CPU core).
        optimizer: takes parameters and ``lr=``; None is AdamW with weight decay 1e-4.
        lr_schedule: takes the optimizer and ``total_steps=``; None is a constant rate.

    Raises:
        ConfigurationError: an argument outside its range.
    """

    kl_weight: Tensor

    def __init__(
        self,
        n_particles: int = 30,
        latent_dim: int = 24,
        particle_hidden: int = 64,
        edge_hidden: int = 48,
        hyperedge_hidden: int = 32,
        n_edge_particles: int = 8,
        n_neighbours: int = 3,
        encoder_dropout: float = 0.0,
        decoder: str | dict[str, Any] = "hardest_first",
        conditional: Sequence[str] = (),
        classes: Sequence[str] | None = None,
        jet_level: bool = True,
        hyperedges: str = "knn",
        max_hyperedges: int = MAX_HYPEREDGES,
        backend: str = "dense",
        learning_rate: float = 2e-3,
        augment: Sequence[str] = SYMMETRIES,
        test_metrics: Sequence[str] = ("w1", "fpd", "kpd"),
        optimizer: Callable[..., Any] | None = None,
        lr_schedule: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        sizes = {
            "n_particles": n_particles,
            "latent_dim": latent_dim,
            "particle_hidden": particle_hidden,
            "edge_hidden": edge_hidden,
            "hyperedge_hidden": hyperedge_hidden,
            "n_edge_particles": n_edge_particles,
            "n_neighbours": n_neighbours,
            "max_hyperedges": max_hyperedges,
        }
        for name, value in sizes.items():
            check_count(owner, name, value, 2 if name == "n_edge_particles" else 1)
        check_number(owner, "encoder_dropout", encoder_dropout, at_least=0.0, at_most=0.95)
        check_number(owner, "learning_rate", learning_rate, above=0.0)
        # plain lists, whatever sequence came: a checkpoint with anything else does not load with weights_only=True
        augment, conditional, classes = _names(augment), _names(conditional), _names(classes)
        for name in augment:
            if name not in AUGMENTATIONS:
                raise bad_argument(owner, "augment", name, ", ".join(AUGMENTATIONS), did_you_mean(name, AUGMENTATIONS))
        check_factories(owner, optimizer=optimizer, lr_schedule=lr_schedule)
        test_metrics = list(checked_groups(owner, "test_metrics", test_metrics))
        decoder = decoder if isinstance(decoder, str) else dict(decoder)
        self.save_hyperparameters(ignore=["optimizer", "lr_schedule"])
        self.learning_rate = learning_rate
        self.augment = tuple(augment)
        self.network = HypergraphVAE(
            **sizes,
            encoder_dropout=encoder_dropout,
            decoder=decoder,
            conditional=conditional,
            classes=classes,
            jet_level=jet_level,
            hyperedges=hyperedges,
            backend=backend,
        )
        self.evaluation = JetEvaluation(latent_dim, test_metrics)
        self.register_buffer("kl_weight", torch.tensor(1.0), persistent=False)
        self._optimizer, self._lr_schedule = optimizer, lr_schedule
        self._reporter = FindingReporter(owner)

    def setup(self, stage: str) -> None:
        """Takes the coordinates from the datamodule, unless a checkpoint brought them."""
        datamodule = getattr(self.trainer, "datamodule", None)
        check_fit(self, datamodule)
        if stage == "fit" and not self.network.scaler_is_fitted:
            take_from(self, datamodule)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """One step of the algorithm in the module docstring."""
        del batch_idx
        particles = augmented(batch["particles"], batch["mask"], self.augment)
        terms, kl_per_dim = self.terms({**batch, "particles": particles})
        recon, kl = terms["recon"], kl_per_dim.sum(dim=-1)
        bound = (recon + self.kl_penalty(kl_per_dim)).mean()
        self.log_dict(
            {"train/loss": bound.detach(), "train/recon": recon.detach().mean(), "train/kl": kl.detach().mean()},
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            batch_size=len(recon),
            sync_dist=True,
        )
        loss = bound + terms["jet_level"].mean() if "jet_level" in terms else bound
        return {**terms, "loss": loss, "kl": kl, "kl_per_dim": kl_per_dim}

    def kl_penalty(self, kl_per_dim: Tensor) -> Tensor:
        """``kl_weight * sum_j KL_j``, ``(B,)``; the weight enters here and nowhere else."""
        return self.kl_weight * kl_per_dim.sum(dim=-1)

    def terms(
        self, batch: dict[str, Tensor], generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Both terms of the bound with one draw of z.

        Args:
            batch: ``particles`` ``(B, N, 3)`` etarel, phirel (rad), ptrel; ``mask`` ``(B, N)`` bool; ``jet``
                ``(B, 4)``, pT (GeV) first; for a condition on the class ``label`` ``(B,)``.
            generator: of the latent noise; None is the global one.

        Returns:
            The decoder's terms ``(B,)``, of which ``recon`` is ``-log p(X | z)``, with ``jet_level`` of the heads where
            there are any; and the KL of each dimension ``(B, d)``. All in nats.
        """
        terms, mean, logvar = self._bound(batch, generator)
        return terms, gaussian_kl_per_dim(mean, logvar)

    def _bound(
        self, batch: dict[str, Tensor], generator: torch.Generator | None
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The decoder's terms, and mean and log variance of q(z | X)."""
        graph, condition = self._seen(batch)
        mean, logvar = self.network.encode(graph, condition)
        code = self.network.draw_code(mean, logvar, condition, generator)
        terms = self.network.decoder.recon_terms(code, graph.x, graph.mask, graph)
        if self.network.jet_level is not None:
            terms["jet_level"] = self.network.jet_level.nll(code, graph.particles, graph.mask, self.network)
        return terms, mean, logvar

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps which findings were raised."""
        self._reporter.keep_in(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes them up."""
        self._reporter.take_from(checkpoint, self._trainer)

    def configure_optimizers(self) -> Any:
        """AdamW at a constant rate, unless the constructor was given others."""
        return build_optimizers(self, self._optimizer, self._lr_schedule, self.learning_rate)

    def on_validation_epoch_start(self) -> None:
        """Begins a validation."""
        self._begin_evaluation("val")

    def on_test_epoch_start(self) -> None:
        """Begins a test."""
        self._begin_evaluation("test")

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Logs the negative evidence lower bound, weight 1 whatever `kl_weight` says; returns its terms and q(z|X)."""
        return self._evaluate(batch, batch_idx, "val")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """As in validation."""
        self._evaluate(batch, batch_idx, "test")

    def on_validation_epoch_end(self) -> None:
        """Compares prior samples with the validation jets."""
        self._end_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Compares prior samples with the test jets."""
        self._end_evaluation("test")

    def _begin_evaluation(self, stage: str) -> None:
        if not self.network.scaler_is_fitted:
            raise ContractError(
                f"{type(self).__name__} has no coordinates: it was neither trained nor loaded from a checkpoint. "
                f"Evaluate with ckpt_path=..., or `JetVAE.load_from_checkpoint(path)`."
            )
        self.evaluation.begin(stage)

    def _evaluate(self, batch: dict[str, Tensor], batch_idx: int, stage: str) -> dict[str, Tensor]:
        number = number_among_ranks(self._trainer, batch_idx)
        terms, mean, logvar = self._bound(batch, self._private_generator(EVALUATION_SEED + number, of_all_ranks=True))
        kl_per_dim = gaussian_kl_per_dim(mean, logvar)
        kl = kl_per_dim.sum(dim=-1)
        loss = (terms["recon"] + kl).mean()
        values = {"loss": loss, "recon": terms["recon"].mean(), "kl": kl.mean()}
        if self.network.decoder.is_likelihood:
            x = self.network.standardise(batch["particles"], batch["mask"])
            values["neg_elbo"] = loss
            values["neg_elbo_baseline"] = one_gaussian_nll(x, batch["mask"], self.network.log_count_prob).mean()
        else:
            # no bound in nats: what it is made of says more than the sum
            values.update({name: term.mean() for name, term in terms.items()})
        weight = weight_among_ranks(self._trainer, len(kl))
        self.log_dict({f"{stage}/{k}": v for k, v in values.items()}, batch_size=weight, sync_dist=True)
        n = self.evaluation.n_to_reconstruct(len(kl))
        reconstructed = self._drawn_from(mean[:n], batch, RECONSTRUCTION_SEED + number) if n else None
        self.evaluation.add(batch, mean, kl_per_dim, reconstructed)
        return {**terms, "kl": kl, "kl_per_dim": kl_per_dim, "mean": mean, "logvar": logvar}

    def _end_evaluation(self, stage: str) -> None:
        if self.trainer.sanity_checking:
            self.evaluation.begin(stage)
            return
        n = torch.tensor(self.evaluation.n_real, device=self.device)
        # every rank draws what one process would, and scores its part
        n, raw = int(self.trainer.strategy.reduce(n, reduce_op="sum")), None
        drawn = self.sample(n, generator=self._private_generator(SAMPLING_SEED, of_all_ranks=True))
        if self.network.jet_level is not None:
            raw = self.sample(n, generator=self._private_generator(SAMPLING_SEED, of_all_ranks=True), calibrate=False)
        jets = getattr(getattr(self.trainer, "datamodule", None), "jets", None)
        ranks = (self.trainer.global_rank, self.trainer.world_size)
        scores = self.evaluation.finish(drawn, raw, getattr(jets, "classes", ()), ranks)
        self.log_dict({f"{stage}/{name}": value for name, value in scores.items()}, sync_dist=True)
        for finding in self.evaluation.findings:
            self._reporter.report(self.trainer, finding)

    def figures(self) -> dict[str, Figure]:
        """Pictures of the last validation or test epoch; none before the first."""
        return self.evaluation.figures()


def _names(names: Sequence[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else [str(name) for name in names or ()]
