"""Projects without labels: an autoencoder, a VAE, contrastive learning, a GAN; and two in manual optimisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor_projects import (
    Project,
    Stranger,
    batches_of,
    initialise,
    layers,
    loaders_of,
    project,
)
from benchmarks.doctor_settings import Config, optimizer_of, steps_of


def curved_rows(c: Config, n: int, inner: int = 4) -> Tensor:
    """Rows (n, features) that lie near a curved surface of `inner` dimensions, standardised."""
    x = torch.tanh(torch.randn(n, inner) @ torch.randn(inner, c["features"])) + 0.1 * torch.randn(n, c["features"])
    return (x - x.mean(0)) / x.std(0)


class AutoEncoder(Stranger):
    def loss(self, batch: Any) -> Tensor | dict[str, Tensor]:
        (x,) = batch
        return F.mse_loss(self.head(self.encode(x)), x)

    def score(self, batch: Any) -> Tensor:
        (x,) = batch
        return (1 - F.mse_loss(self.head(self.encode(x)), x) / x.var()).clamp(min=-1.0)


def rows_with_faults(c: Config) -> tuple[Any, Any, list[Any]]:
    n = c["n_train"]
    x = c["input_scale"] * curved_rows(c, n + c["n_val"])
    if c["bad_rows"]:
        x[:n][torch.rand(n) < c["bad_rows"]] = float("nan")
    val = x[n:].clone()
    clean = batches_of((val.clone(),))
    if taken := int(c["validation_overlap"] * len(val)):
        val[:taken] = x[:taken]
    return (*loaders_of((x[:n],), (val * c["validation_scale"],), c), clean)


OF_ROWS: Config = {
    "features": 24,
    "latent": 6,
    "input_scale": 1.0,
    "bad_rows": 0.0,
    "validation_overlap": 0.0,
    "validation_scale": 1.0,
}


@project("autoencoder", **OF_ROWS)
def autoencoder(c: Config) -> Project:
    module = AutoEncoder(c)
    sizes = [c["features"]] + [c["width"]] * (c["depth"] - 1)
    module.encoder = nn.Sequential(layers(sizes, c), nn.Linear(c["width"], c["latent"]))
    module.head = nn.Sequential(layers([c["latent"], c["width"]], c), nn.Linear(c["width"], c["features"]))
    initialise(module, c)
    return Project(module, *rows_with_faults(c))


class VAE(Stranger):
    """Reconstruction summed over features, KL summed over the latent, both averaged over the batch."""

    def __init__(self, c: Config) -> None:
        super().__init__(c)
        self.latent_dim, self.kl_weight = c["latent"], c["kl_weight"]

    def loss(self, batch: Any) -> dict[str, Tensor]:
        (x,) = batch
        mu, log_var = self.encode(x).chunk(2, -1)
        log_var = log_var.clamp(-8, 8)
        z = mu + (0.5 * log_var).exp() * torch.randn_like(mu)
        recon = 0.5 * ((self.head(z) - x) ** 2).sum(-1).mean() / self.c["observed_variance"]
        kl_per_dim = 0.5 * (mu**2 + log_var.exp() - 1 - log_var)
        kl = kl_per_dim.sum(-1).mean()
        warm = self.c["kl_warmup"] * steps_of(self.c)
        weight = self.kl_weight * (min(1.0, self.global_step / warm) if warm else 1.0)
        if self.training:
            self.log_dict({"train_kl": kl, "train_recon": recon, "kl_weight": weight})
        return {"loss": recon + weight * kl, "kl": kl.detach(), "recon": recon.detach()}

    def score(self, batch: Any) -> Tensor:
        (x,) = batch
        mu, _ = self.encode(x).chunk(2, -1)
        return (1 - F.mse_loss(self.head(mu), x) / x.var()).clamp(min=-1.0)


@project("vae", kl_weight=1.0, kl_warmup=0.0, observed_variance=0.1, **OF_ROWS)
def vae(c: Config) -> Project:
    module = VAE(c)
    sizes = [c["features"]] + [c["width"]] * (c["depth"] - 1)
    module.encoder = nn.Sequential(layers(sizes, c), nn.Linear(c["width"], 2 * c["latent"]))
    module.head = nn.Sequential(layers([c["latent"], c["width"]], c), nn.Linear(c["width"], c["features"]))
    initialise(module, c)
    return Project(module, *rows_with_faults(c))


class Contrast(Stranger):
    """NT-Xent of two views: what is nuisance is drawn anew in each."""

    def __init__(self, c: Config, basis: Tensor) -> None:
        super().__init__(c)
        self.temperature = c["temperature"]
        self.register_buffer("basis", basis)

    def view(self, parts: Tensor) -> Tensor:
        """The part that a class shares is kept, the nuisance is drawn anew, and all is turned."""
        if self.c["views"] == "blank":
            return torch.zeros_like(parts)
        kept = parts[:, :8] + 0.3 * torch.randn_like(parts[:, :8])
        return torch.cat([kept, 2.0 * torch.randn_like(parts[:, 8:])], 1) @ self.basis

    def loss(self, batch: Any) -> dict[str, Tensor]:
        parts, _ = batch
        z0, z1 = (self.head(self.encode(self.view(parts))) for _ in range(2))
        if self.c["views"] == "mispaired":
            z1 = z1[torch.randperm(len(z1))]
        z = F.normalize(torch.cat([z0, z1]), dim=-1)
        logits = (z @ z.T / self.temperature).fill_diagonal_(float("-inf"))
        n = len(parts)
        target = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
        return {"loss": F.cross_entropy(logits, target), "z0": z0, "z1": z1}

    def score(self, batch: Any) -> Tensor:
        """How often the nearest neighbour among all has the same class, above chance."""
        parts, y = batch
        generator = torch.Generator().manual_seed(0)
        nuisance = 2.0 * torch.randn(parts[:, 8:].shape, generator=generator)
        h = F.normalize(self.encode(torch.cat([parts[:, :8], nuisance], 1) @ self.basis), dim=-1)
        nearest = (h @ h.T).fill_diagonal_(-2.0).argmax(-1)
        return ((y[nearest] == y).float().mean() - 0.125) / 0.875


@project("contrast", temperature=0.2, views="right")
def contrast(c: Config) -> Project:
    n, features = c["n_train"] + c["n_val"], 32
    y = torch.randint(8, (n,))
    shared = torch.randn(8, 8)[y] + 0.5 * torch.randn(n, 8)
    parts = torch.cat([shared, torch.randn(n, features - 8)], 1)
    module = Contrast(c, torch.linalg.qr(torch.randn(features, features))[0])
    module.encoder = layers([features] + [c["width"]] * c["depth"], c)
    module.head = nn.Sequential(nn.Linear(c["width"], c["width"]), nn.ReLU(), nn.Linear(c["width"], 24))
    initialise(module, c)
    val = (parts[c["n_train"] :], y[c["n_train"] :])
    return Project(module, *loaders_of((parts[: c["n_train"]], y[: c["n_train"]]), val, c), batches_of(val))


class Gan(Stranger):
    """A generator (the encoder, of noise) and a critic (the head) that take turns, in manual optimisation."""

    def __init__(self, c: Config) -> None:
        super().__init__(c)
        self.automatic_optimization = False

    def made(self, n: int) -> Tensor:
        return self.encode(torch.randn(n, 8))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        (x,) = batch
        for_generator, for_critic = self.optimizers()
        real, fake = self.head(x), self.head(self.made(len(x)).detach())
        critic_loss = F.softplus(-real).mean() + F.softplus(fake).mean()
        for_critic.zero_grad()
        self.manual_backward(critic_loss)
        for_critic.step()
        generator_loss = F.softplus(-self.head(self.made(len(x)))).mean()
        for_generator.zero_grad()
        self.manual_backward(generator_loss)
        if self.c["steps_generator"]:
            for_generator.step()
        self.log_dict({"g_loss": generator_loss, "d_loss": critic_loss})

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_score", self.score(batch))

    def score(self, batch: Any) -> Tensor:
        """1 - the mean distance of sorted projections, in standard deviations of the data."""
        (x,) = batch
        generator = torch.Generator().manual_seed(0)
        fake = self.encoder(torch.randn(len(x), 8, generator=generator))
        directions = F.normalize(torch.randn(x.shape[1], 32, generator=generator), dim=0)
        real, made = ((rows @ directions).sort(0).values for rows in (x, fake))
        return (1 - ((real - made).abs().mean() / real.std(0).mean())).clamp(min=-1.0)

    def configure_optimizers(self) -> Any:
        critics = self.parameters() if self.c["optimizers_overlap"] else self.head.parameters()
        return optimizer_of(self.c, self.encoder.parameters()), optimizer_of(self.c, critics)


@project("gan", steps_generator=True, optimizers_overlap=False)
def gan(c: Config) -> Project:
    """Points of two dimensions on a shifted ellipse."""
    n = c["n_train"] + c["n_val"]
    x = torch.randn(n, 2) @ torch.tensor([[1.2, 0.5], [0.0, 0.6]]) + torch.tensor([2.0, -1.0])
    module = Gan(c)
    module.encoder = nn.Sequential(layers([8] + [c["width"]] * c["depth"], c), nn.Linear(c["width"], 2))
    module.head = nn.Sequential(
        nn.Linear(2, 48), nn.LeakyReLU(0.2), nn.Linear(48, 48), nn.LeakyReLU(0.2), nn.Linear(48, 1)
    )
    initialise(module, c)
    val = (x[c["n_train"] :],)
    return Project(module, *loaders_of((x[: c["n_train"]],), val, c), batches_of(val))


class ByHand(Stranger):
    """A classifier whose encoder and head have optimizers of their own, in manual optimisation."""

    def __init__(self, c: Config) -> None:
        super().__init__(c)
        self.automatic_optimization = False

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.head(self.encode(x)), y)

    def score(self, batch: Any) -> Tensor:
        x, y = batch
        return ((self.head(self.encode(x)).argmax(-1) == y).float().mean() - 0.25) / 0.75

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        optimizers = self.optimizers()
        if self.c["zeroes"]:
            for optimizer in optimizers:
                optimizer.zero_grad()
        self.manual_backward(loss)
        if self.c["steps"]:
            for optimizer in optimizers:
                optimizer.step()
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        heads = self.parameters() if self.c["optimizers_overlap"] else self.head.parameters()
        return optimizer_of(self.c, self.encoder.parameters()), optimizer_of(self.c, heads)


@project("by_hand", zeroes=True, steps=True, optimizers_overlap=False)
def by_hand(c: Config) -> Project:
    n = c["n_train"] + c["n_val"]
    y = torch.randint(4, (n,))
    x = torch.randn(4, 2, 16)[y, torch.randint(2, (n,))] + torch.randn(n, 16)
    module = ByHand(c)
    module.encoder = layers([16] + [c["width"]] * c["depth"], c)
    module.head = nn.Linear(c["width"], 4)
    initialise(module, c)
    k = c["n_train"]
    val = (x[k:], y[k:])
    return Project(module, *loaders_of((x[:k], y[:k]), val, c), batches_of(val))
