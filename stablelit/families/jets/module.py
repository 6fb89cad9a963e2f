"""JetVAE: the evidence lower bound of a set of particles, in nats.

The algorithm, for a jet X of n particles::

    (mu, log sigma^2) = Encoder(X)                 hypergraph of particles, pairs and neighbourhoods
    z = mu + sigma * epsilon,  epsilon ~ N(0, 1)
    recon = -log p(n | z) - sum_i log sum_k pi_k(z) N(x_i; mu_k(z), sigma_k(z)^2)
    kl = sum_j (mu_j^2 + sigma_j^2 - 1 - log sigma_j^2) / 2
    loss = mean over jets of  recon + kl_weight * kl
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from stablelit.errors import ConfigurationError, ContractError, bad_argument, did_you_mean
from stablelit.families.jets.decoders import check_count
from stablelit.families.jets.features import TWO_PI, rotate_about_axis
from stablelit.families.jets.losses import one_gaussian_nll
from stablelit.families.jets.metrics import JetMassW1
from stablelit.families.jets.network import HypergraphVAE
from stablelit.families.jets.readers import format_of
from stablelit.families.jets.sampling import draw_jets, evaluating, write_drawn_jets
from stablelit.functional.kl import LOGVAR_RANGE, gaussian_kl_per_dim
from stablelit.functional.schedules import check_number
from stablelit.optim import build_optimizers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AUGMENTATIONS = ("rotate", "reflect")
# evaluation draws from these seeds: its epochs are comparable, and it moves no global random state
EVALUATION_SEED, SAMPLING_SEED = 20_240_117, 20_240_118
SAMPLE_CHUNK = 10_000


class JetVAE(LightningModule):
    """The hypergraph variational autoencoder as a LightningModule.

    `training_step` returns ``loss``, and live: ``recon`` and ``kl``, nats per jet ``(B,)``, and ``kl_per_dim``
    ``(B, d)``. `kl_weight` is a 0-dim buffer that a callback may fill in place; validation is always the negative
    evidence lower bound (weight 1), with the same latent noise at every epoch. Nats are those of (ln ptrel, etarel,
    phirel) in units of the standard deviations of the training jets, which are buffers and so in every checkpoint.

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
        learning_rate: the peak rate.
        augment: of "rotate" (about the jet axis) and "reflect", in training only.
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
        decoder: str | dict[str, Any] = "mixture",
        learning_rate: float = 2e-3,
        augment: Sequence[str] = AUGMENTATIONS,
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
        }
        for name, value in sizes.items():
            check_count(owner, name, value, 2 if name == "n_edge_particles" else 1)
        check_number(owner, "encoder_dropout", encoder_dropout, at_least=0.0, at_most=0.95)
        check_number(owner, "learning_rate", learning_rate, above=0.0)
        # plain strings, whatever sequence came: a checkpoint with anything else does not load with weights_only=True
        augment = [augment] if isinstance(augment, str) else [str(name) for name in augment or ()]
        for name in augment:
            if name not in AUGMENTATIONS:
                raise bad_argument(owner, "augment", name, ", ".join(AUGMENTATIONS), did_you_mean(name, AUGMENTATIONS))
        for name, factory in (("optimizer", optimizer), ("lr_schedule", lr_schedule)):
            if factory is not None and not callable(factory):
                raise bad_argument(owner, name, factory, "a function (functools.partial of a class) or None")
        decoder = decoder if isinstance(decoder, str) else dict(decoder)
        self.save_hyperparameters(ignore=["optimizer", "lr_schedule"])
        self.learning_rate = learning_rate
        self.augment = tuple(augment)
        self.network = HypergraphVAE(**sizes, encoder_dropout=encoder_dropout, decoder=decoder)
        self.mass_w1 = JetMassW1()
        self.register_buffer("kl_weight", torch.tensor(1.0), persistent=False)
        self._optimizer, self._lr_schedule = optimizer, lr_schedule
        self._kl_sums: list[tuple[Tensor, int]] = []
        self._last_evaluation: dict[str, Any] = {}

    def setup(self, stage: str) -> None:
        """Takes the coordinates from the datamodule, unless a checkpoint brought them."""
        datamodule = getattr(self.trainer, "datamodule", None)
        size = getattr(datamodule, "n_particles", self.network.n_particles)
        if size != self.network.n_particles:
            raise ConfigurationError(
                f"{type(self).__name__} was built for n_particles={self.network.n_particles}, but "
                f"{type(datamodule).__name__} gives jets of n_particles={size}. Set both to the same number."
            )
        if stage != "fit" or self.network.scaler_is_fitted:
            return
        if datamodule is None or not hasattr(datamodule, "scaler"):
            raise ContractError(
                f"{type(self).__name__} needs `trainer.datamodule.scaler` (a JetScaler fitted to training jets), but "
                f"the datamodule is {type(datamodule).__name__} without one. Use JetDataModule, or call "
                f"`module.network.set_scaler(JetScaler.fit(particles, mask, jet))` before fit."
            )
        self.network.set_scaler(datamodule.scaler)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """One step of the algorithm in the module docstring."""
        del batch_idx
        particles = self.augmented(batch["particles"])
        terms, kl_per_dim = self.terms(particles, batch["mask"], batch["jet"])
        recon = terms["recon"]
        kl = kl_per_dim.sum(dim=-1)
        loss = (recon + self.kl_penalty(kl_per_dim)).mean()
        self.log_dict(
            {"train/loss": loss.detach(), "train/recon": recon.detach().mean(), "train/kl": kl.detach().mean()},
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            batch_size=len(recon),
            sync_dist=True,
        )
        return {**terms, "loss": loss, "kl": kl, "kl_per_dim": kl_per_dim}

    def kl_penalty(self, kl_per_dim: Tensor) -> Tensor:
        """``kl_weight * sum_j KL_j``, ``(B,)``; the weight enters here and nowhere else."""
        return self.kl_weight * kl_per_dim.sum(dim=-1)

    def terms(
        self, particles: Tensor, mask: Tensor, jet: Tensor, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Both terms of the bound with one draw of z.

        Args:
            particles: ``(B, N, 3)`` etarel, phirel (rad), ptrel.
            mask: ``(B, N)`` bool.
            jet: ``(B, 4)``, pT (GeV) first.
            generator: of the latent noise; None is the global one.

        Returns:
            The decoder's terms ``(B,)``, of which ``recon`` is ``-log p(X | z)``, and the KL of each dimension
            ``(B, d)``; nats.
        """
        graph = self.network.graph_of(particles, mask, jet[:, 0])
        mean, logvar = self.network.encode(graph)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        z = mean + noise * torch.exp(0.5 * logvar.clamp(*LOGVAR_RANGE))
        return self.network.decoder.recon_terms(z, graph.x, mask, graph), gaussian_kl_per_dim(mean, logvar)

    def augmented(self, particles: Tensor) -> Tensor:
        """Rotates each jet about its axis and reflects it, at random, as `augment` says."""
        if "rotate" in self.augment:
            particles = rotate_about_axis(particles, TWO_PI * torch.rand(len(particles), device=particles.device))
        if "reflect" in self.augment:
            sign = torch.randint(0, 2, (len(particles), 1, 1), device=particles.device).to(particles.dtype) * 2 - 1
            particles = torch.cat([particles[..., :1], sign * particles[..., 1:2], particles[..., 2:]], dim=-1)
        return particles

    def configure_optimizers(self) -> Any:
        """AdamW at a constant rate, unless the constructor was given others."""
        return build_optimizers(self, self._optimizer, self._lr_schedule, self.learning_rate)

    def on_validation_epoch_start(self) -> None:
        """Begins a validation."""
        self._begin_evaluation()

    def on_test_epoch_start(self) -> None:
        """Begins a test."""
        self._begin_evaluation()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Logs the negative evidence lower bound, weight 1 whatever `kl_weight` says."""
        self._evaluate(batch, batch_idx, "val")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """As in validation."""
        self._evaluate(batch, batch_idx, "test")

    def on_validation_epoch_end(self) -> None:
        """Compares prior samples with the validation jets."""
        self._end_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Compares prior samples with the test jets."""
        self._end_evaluation("test")

    def _begin_evaluation(self) -> None:
        if not self.network.scaler_is_fitted:
            raise ContractError(
                f"{type(self).__name__} has no coordinates: it was neither trained nor loaded from a checkpoint. "
                f"Evaluate with ckpt_path=..., or `JetVAE.load_from_checkpoint(path)`."
            )
        self.mass_w1.reset()
        self._kl_sums = []

    def _evaluate(self, batch: dict[str, Tensor], batch_idx: int, stage: str) -> None:
        draws = self._private_generator(EVALUATION_SEED + batch_idx)
        terms, kl_per_dim = self.terms(batch["particles"], batch["mask"], batch["jet"], draws)
        recon = terms["recon"]
        kl = kl_per_dim.sum(dim=-1)
        loss = (recon + kl).mean()
        values = {"loss": loss, "kl": kl.mean(), **{name: term.mean() for name, term in terms.items()}}
        if self.network.decoder.is_likelihood:
            x = self.network.standardise(batch["particles"], batch["mask"])
            values["neg_elbo"] = loss
            values["neg_elbo_baseline"] = one_gaussian_nll(x, batch["mask"], self.network.log_count_prob).mean()
        self.log_dict({f"{stage}/{k}": v for k, v in values.items()}, batch_size=len(recon), sync_dist=True)
        self.mass_w1.update(batch["particles"], batch["mask"], real=True)
        self._kl_sums.append((kl_per_dim.sum(dim=0), len(kl_per_dim)))

    def _end_evaluation(self, stage: str) -> None:
        if self.trainer.sanity_checking:
            self.mass_w1.reset()
            return
        n_real = len(self.mass_w1.masses()[0])
        drawn = self.sample(n_real, generator=self._private_generator(SAMPLING_SEED))
        self.mass_w1.update(drawn["particles"], drawn["mask"], real=False)
        real, generated = (mass.cpu() for mass in self.mass_w1.masses())
        scores = self.mass_w1.compute()
        self.log_dict({f"{stage}/{k}": v.float() for k, v in scores.items()}, sync_dist=True)
        n_jets = sum(count for _, count in self._kl_sums)
        self._last_evaluation = {
            "real": real,
            "generated": generated,
            "kl_per_dim": torch.stack([total for total, _ in self._kl_sums]).sum(dim=0).cpu() / n_jets,
            **{k: float(v) for k, v in scores.items()},
        }
        self.mass_w1.reset()

    def _private_generator(self, seed: int) -> torch.Generator:
        return torch.Generator(device=self.device).manual_seed(seed + 7919 * self.global_rank)

    @torch.no_grad()
    def encode(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | X), ``(B, d)`` each, without dropout."""
        with evaluating(self.network):
            return self.network.encode(self.network.graph_of(batch["particles"], batch["mask"], batch["jet"][:, 0]))

    @torch.no_grad()
    def reconstruct(self, batch: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
        """Jets drawn from p(X | z = mu(X)), as a batch; a draw from a set's density, so particles have no partners."""
        mean, _ = self.encode(batch)
        return draw_jets(self.network, mean, self._private_generator(seed))

    @torch.no_grad()
    def sample(
        self, n: int, seed: int = 0, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Draws jets from the prior, as a batch.

        Args:
            n: how many.
            seed: one seed, one sample (of one model on one kind of device).
            temperature: standard deviation of the latent draws; 1 is the model, less is nearer to typical jets.
            generator: used in place of `seed`.

        Returns:
            ``particles`` ``(n, N, 3)`` with ptrel > 0, hardest first, zeros where `mask` is False; ``mask``; ``jet``
            ``(n, 4)``:
            the median pT of the training jets (GeV), eta = 0, mass (GeV), number of particles; ``label``, zeros.

        Raises:
            ConfigurationError: n below 1, a temperature that is not positive.
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise bad_argument("sample", "n", n, "an int of at least 1")
        check_number("sample", "temperature", temperature, above=0.0)
        if generator is None:
            generator = self._private_generator(seed)
        parts = []
        for start in range(0, n, SAMPLE_CHUNK):
            shape = (min(SAMPLE_CHUNK, n - start), self.network.latent_dim)
            z = temperature * torch.randn(shape, generator=generator, device=self.device)
            parts.append(draw_jets(self.network, z, generator))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def generate_to_file(self, path: str, n: int, seed: int = 0, temperature: float = 1.0) -> dict[str, Any]:
        """Draws jets from the prior and writes them in the format of the suffix, replacing a file that is there.

        Returns:
            What was written: path, counts, and means a reader can compare with the training jets.

        Raises:
            DataError: an unknown suffix.
        """
        format_of(path)  # a wrong suffix is refused before anything is drawn
        begin = time.perf_counter()
        drawn = self.sample(n, seed, temperature)
        seconds = time.perf_counter() - begin
        written = write_drawn_jets(path, drawn)
        return {**written, "seed": seed, "temperature": temperature, "sampling_seconds": seconds}

    def figures(self) -> dict[str, Figure]:
        """Pictures of the last validation or test epoch; none before the first."""
        from stablelit.families.jets.figures import kl_per_dimension, mass_spectrum

        last = self._last_evaluation
        if not last:
            return {}
        return {
            "mass_spectrum": mass_spectrum(last["real"], last["generated"], last["mass_w1"], last["mass_w1_floor"]),
            "kl_per_dimension": kl_per_dimension(last["kl_per_dim"]),
        }
