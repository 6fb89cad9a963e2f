"""What a validation or a test of a jet model collects: real and generated jets, codes, reconstructions, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stablelit.errors import DataError
from stablelit.families.jets.metrics import ActiveUnits, JetMetrics, JetResiduals, Jets, jet_mass, wasserstein_1d
from stablelit.findings import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESIDUALS = ("mass", "pt", "multiplicity")
# of each kind: what a picture of single jets shows, of codes, and of distributions
SHOWN_JETS, SHOWN_CODES, SHOWN_IN_SPECTRA = 5, 2000, 10_000


class JetEvaluation(nn.Module):
    """One evaluation after another; `figures` shows the last that was finished.

    Args:
        latent_dim: d.
        test_metrics: groups of `JetMetrics` that a test measures beside "w1", with standard errors, and beside the
            residuals of reconstructions; a validation measures "w1" alone, without.
    """

    def __init__(self, latent_dim: int, test_metrics: Sequence[str] = ()) -> None:
        super().__init__()
        self.jet_metrics = nn.ModuleDict(
            {"val": JetMetrics(["w1"], n_bootstrap=0), "test": JetMetrics(["w1", *test_metrics])}
        )
        self.active_units = ActiveUnits(latent_dim)
        self.residuals = JetResiduals(RESIDUALS)
        self.findings: list[Finding] = []
        self._stage = "val"
        self._kl_sums: list[tuple[Tensor, int]] = []
        self._codes: list[tuple[Tensor, Tensor]] = []
        self._shown: dict[str, Jets] = {}
        self._last: dict[str, Any] = {}

    def begin(self, stage: str) -> None:
        """Forgets what was collected, not the last result.

        Args:
            stage: "val" or "test".
        """
        self._stage = stage
        for metric in (self._metric, self.active_units, self.residuals):
            metric.reset()
        self._kl_sums, self._codes, self._shown = [], [], {}

    def n_to_reconstruct(self, n_jets: int) -> int:
        """Of how many of the next `n_jets`, its first, `add` wants the reconstruction: all in a test, else a few."""
        if self._stage == "test":
            return n_jets
        return 0 if self._shown else min(SHOWN_JETS, n_jets)

    def add(
        self,
        batch: dict[str, Tensor],
        mean: Tensor,
        kl_per_dim: Tensor,
        reconstructed: dict[str, Tensor] | None = None,
    ) -> None:
        """Adds real jets.

        Args:
            batch: ``particles`` ``(B, N, 3)``, ``mask`` ``(B, N)``, ``label`` ``(B,)`` where there are classes.
            mean: ``(B, d)`` posterior means.
            kl_per_dim: ``(B, d)`` nats.
            reconstructed: the first `n_to_reconstruct` of them as the model reconstructs them.
        """
        jets = Jets(batch["particles"], batch["mask"])
        self._metric.update(*jets, real=True)
        self.active_units.update(mean)
        room = SHOWN_CODES - self.n_real
        if room > 0:
            label = batch.get("label", torch.zeros_like(mean[:, 0], dtype=torch.long))
            self._codes.append((mean[:room], label[:room]))
        self._kl_sums.append((kl_per_dim.sum(dim=0), len(kl_per_dim)))
        if reconstructed is None:
            return
        found = Jets(reconstructed["particles"], reconstructed["mask"])
        if self._stage == "test":
            self.residuals.update(*jets, *found)
        if not self._shown:
            self._shown = {"real": _first(jets, SHOWN_JETS), "reconstructed": _first(found, SHOWN_JETS)}

    @property
    def n_real(self) -> int:
        """Real jets since `begin`, on this process."""
        return sum(count for _, count in self._kl_sums)

    def finish(
        self,
        drawn: dict[str, Tensor],
        raw: dict[str, Tensor] | None = None,
        classes: Sequence[str] = (),
        ranks: tuple[int, int] = (0, 1),
    ) -> dict[str, Tensor]:
        """Compares with generated jets, and returns the scores; `findings` has what is to be known about them.

        Args:
            drawn: samples.
            raw: samples as the decoder drew them, where `drawn` are calibrated to have the right masses.
            classes: the names of the labels, for pictures.
            ranks: this one, and how many there are: each has the same samples, and scores its part of them.
        """
        metric, (rank, world) = self._metric, ranks
        metric.update(drawn["particles"][rank::world], drawn["mask"][rank::world], real=False)
        with metric.sync_context(should_sync=world > 1, should_unsync=world > 1):
            # of all ranks, in their order: rank zero's codes belong to the first
            real = metric.jets(real=True)
        generated = Jets(drawn["particles"], drawn["mask"])
        masses = {"real": jet_mass(*real), "generated": jet_mass(*generated)}
        try:
            scores = metric.compute()
            if raw is not None:
                masses["raw"] = jet_mass(raw["particles"], raw["mask"])
                scores["mass_w1_raw"] = wasserstein_1d(masses["raw"], masses["real"])
            if self._stage == "test":
                scores.update(self.residuals.compute())
        except DataError as error:
            # a model that has lost its way draws NaN; whether that ends the run is not for a metric to say
            remedy = "model.learning_rate, smaller"
            self.findings = [Finding("jets-cannot-be-scored", "critical", str(error), remedy=remedy)]
            self._last = {}
            self.begin(self._stage)
            return {"mass_w1": drawn["particles"].new_tensor(float("nan"))}
        scores["active_units"] = self._count_active_units()
        self.findings = [f for f in (metric.scores.findings if metric.scores else ()) if f.severity != "info"]
        mean, label = (torch.cat(parts).cpu() for parts in zip(*self._codes, strict=True))
        self._last = {
            "masses": {name: mass.cpu() for name, mass in masses.items()},
            "kl_per_dim": torch.stack([total for total, _ in self._kl_sums]).sum(dim=0).cpu() / self.n_real,
            "shown": {**self._shown, "prior sample": _first(generated, SHOWN_JETS)},
            "spectra": (_first(real, SHOWN_IN_SPECTRA), _first(generated, SHOWN_IN_SPECTRA)),
            "codes": (mean, label),
            "classes": tuple(classes),
            "residuals": tuple(part.cpu() for part in self.residuals.per_jet()) if self._stage == "test" else None,
            "scores": {name: float(value) for name, value in scores.items()},
        }
        self.begin(self._stage)
        return {name: value.float() for name, value in scores.items()}

    def figures(self) -> dict[str, Figure]:
        """Pictures of the last evaluation; none before the first."""
        from stablelit.families.jets import spectra
        from stablelit.families.jets.figures import jets_in_eta_phi, kl_per_dimension, latent_code

        last = self._last
        if not last:
            return {}
        masses, scores, classes = last["masses"], last["scores"], last["classes"]
        mean, label = last["codes"]
        of_shown = [classes[i] for i in label[:SHOWN_JETS].tolist()] if len(classes) > 1 else []
        # one jet has no floor
        w1, floor = scores["mass_w1"], scores.get("mass_w1_floor", float("nan"))
        found = {
            "mass_spectrum": spectra.mass_spectrum(masses["real"], masses["generated"], w1, floor, masses.get("raw")),
            "spectra": spectra.spectra(*last["spectra"], scores),
            "kl_per_dimension": kl_per_dimension(last["kl_per_dim"]),
            "jets": jets_in_eta_phi(last["shown"], of_shown),
        }
        if len(mean) > 1 and bool(mean.isfinite().all()):
            found["latent"] = latent_code(mean, masses["real"][: len(mean)], label, classes)
        if last["residuals"] is not None:
            found["residuals"] = spectra.residual_spectra(*last["residuals"], RESIDUALS)
        return found

    def _count_active_units(self) -> Tensor:
        try:
            return self.active_units.compute()["active_units"]
        except DataError:
            # one jet has no variance; what an encoder that gives NaN does to the bound says enough
            return self.active_units.total.new_tensor(float("nan"))

    @property
    def _metric(self) -> JetMetrics:
        metric = self.jet_metrics[self._stage]
        assert isinstance(metric, JetMetrics)
        return metric


def _first(jets: Jets, n: int) -> Jets:
    # copies: a view would keep all jets in memory
    return Jets(jets.particles[:n].cpu().clone(), jets.mask[:n].cpu().clone())
