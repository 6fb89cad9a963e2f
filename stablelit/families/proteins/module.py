r"""ScoreEntropyDiffusion: sequences out of noise, and a bound of their likelihood.

The algorithm, for a sequence x0 of n residues, with the absorbing graph and scores::

    t ~ U[eps, 1]                                     stratified over the batch
    sigma, rate = sigma(t), sigma'(t)
    xt ~ q(xt | x0)                                   each residue masked with probability 1 - e^-sigma
    h = Network(xt, sigma)
    log s_y = h_y - log(e^sigma - 1) - log N          the modelled ratio p(y at i) / p(xt), for every masked residue i
    loss = rate * sum over masked i of  sum_y s_y - r log s_{x0} + r (log r - 1),   r = 1 / (e^sigma - 1)

The mean of the loss over t and xt is at least -log p(x0), in nats, and so at least the entropy of the data. Losses of
a batch are added up and divided by its residues.

Source: Lou et al. 2024 (arXiv:2310.16834), algorithm 1 and theorem 3.6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stablelit.errors import bad_argument
from stablelit.families.proteins.alphabet import N_RESIDUES
from stablelit.families.proteins.diffusion import build_graph, build_noise
from stablelit.families.proteins.diffusion.noise import FEW_UNMASKED
from stablelit.families.proteins.diffusion.noise_curriculum import build_noise_curriculum, check_difficulty
from stablelit.families.proteins.diffusion.time_sampling import sample_uniform
from stablelit.families.proteins.diffusion.trivial_losses import (
    InterpolatedLoss,
    describe_difficulty,
    trivial_score_entropy,
)
from stablelit.families.proteins.evaluation import BoundEvaluation
from stablelit.families.proteins.global_batch import uniform_of_step
from stablelit.families.proteins.network import build_network
from stablelit.families.proteins.objective import Objective
from stablelit.families.proteins.prediction import ScoresProteins
from stablelit.findings import Finding, FindingReporter
from stablelit.functional.rank_gather import mean_over_ranks
from stablelit.functional.schedules import check_count, check_flag, check_number
from stablelit.optim import build_optimizers, check_factories

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Batch = dict[str, Tensor]


class ScoreEntropyDiffusion(ScoresProteins):
    """Score-entropy discrete diffusion (SEDD), or masked diffusion (MDLM), as a LightningModule.

    `training_step` returns ``loss``, and ``nats`` and ``residues`` of each sequence ``(B,)``. Validation draws the k
    form of the bound by keys of the samples, at full difficulty: every epoch, and any number of ranks, sees the same
    masks. `set_difficulty` is there with a loss over time (`dwdse`, `dce`), which is what `noise_curriculum` changes.

    Args:
        network: a preset ("tiny", "small", "base"), or a mapping of ``preset`` and settings of `DiffusionTransformer`.
        graph: "absorb" or "uniform".
        noise: "loglinear", "geometric", "cosine" or "half_cosine", or a mapping of ``name`` and settings.
        parameterization: "score" (SEDD) or "subs" (a softmax over residues: MDLM, RADD).
        loss: "dwdse", "dce", "lambda_dce" or "k_dce", see `Objective`; None is dwdse with scores and dce with subs.
        time_conditioning: whether the network is told the noise.
        time_sampling: "stratified", "low_discrepancy", "decoupled" or "iid", see `time_sampling`.
        noise_curriculum: what a difficulty does to the noise, a mode or a mapping, see `NoiseCurriculum`; None is
            "truncate". It has no effect while nobody sets a difficulty.
        weight_clip: the largest weight of a masked residue; None is none. A clipped loss is no bound.
        n_states: clean states, 20 residues or more of which some never occur.
        eps: the smallest time of training.
        validation_draws: draws of the bound of each sequence; the error falls with their root.
        predict_draws: likewise, where single records are scored.
        learning_rate: the peak rate.
        optimizer: takes parameters and ``lr=``; None is AdamW with weight decay 1e-4.
        lr_schedule: takes the optimizer and ``total_steps=``; None is a constant rate.

    Raises:
        ConfigurationError: an argument outside its range, or arguments that do not go together.
    """

    def __init__(
        self,
        network: str | Mapping[str, Any] = "tiny",
        graph: str = "absorb",
        noise: str | Mapping[str, Any] = "loglinear",
        parameterization: str = "score",
        loss: str | None = None,
        time_conditioning: bool = True,
        time_sampling: str = "stratified",
        noise_curriculum: str | Mapping[str, Any] | None = None,
        weight_clip: float | None = None,
        n_states: int = N_RESIDUES,
        eps: float = 1e-3,
        validation_draws: int = 2,
        predict_draws: int = 8,
        learning_rate: float = 3e-4,
        optimizer: Callable[..., Any] | None = None,
        lr_schedule: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_count(owner, "n_states", n_states, N_RESIDUES)
        check_number(owner, "learning_rate", learning_rate, above=0.0)
        check_number(owner, "eps", eps, above=0.0, at_most=0.5)
        if weight_clip is not None:
            check_number(owner, "weight_clip", weight_clip, above=0.0)
        check_flag(owner, "time_conditioning", time_conditioning)
        check_factories(owner, optimizer=optimizer, lr_schedule=lr_schedule)
        # plain dicts, whatever came: a checkpoint with anything else does not load with weights_only=True
        network, noise, noise_curriculum = (
            dict(given) if isinstance(given, Mapping) else given for given in (network, noise, noise_curriculum)
        )
        self.save_hyperparameters(ignore=["optimizer", "lr_schedule"])
        self.learning_rate, self.eps, self.time_sampling = float(learning_rate), float(eps), time_sampling
        self.validation_draws = check_count(owner, "validation_draws", validation_draws, 1)
        self.predict_draws = check_count(owner, "predict_draws", predict_draws, 1)
        # a name that does not exist is refused now, not in the first step
        sample_uniform(time_sampling, 0, None)
        curriculum = noise_curriculum if noise_curriculum is not None else "truncate"
        settings = {"mode": curriculum} if isinstance(curriculum, str) else dict(curriculum)
        self.objective = Objective(
            build_graph(graph, n_states, owner),
            build_noise(noise, owner),
            parameterization,
            loss or ("dce" if parameterization == "subs" else "dwdse"),
            build_noise_curriculum({"eps": self.eps} | settings, owner),
            weight_clip,
        )
        self.network = build_network(network, owner, n_states=n_states, time_conditioning=time_conditioning)
        self.evaluation = BoundEvaluation()
        self.difficulty = 1.0
        self.flops_per_batch = 0.0
        if self.objective.over_time:
            # an attribute only where it does something: a curriculum that nobody hears is an error, not silence
            self.set_difficulty = self._set_difficulty
        elif noise_curriculum is not None:
            raise bad_argument(
                owner, "noise_curriculum", noise_curriculum, f"None with loss={self.objective.loss}, which has no times"
            )
        self._trivial: InterpolatedLoss | None = None
        self._optimizer, self._lr_schedule = optimizer, lr_schedule
        self._reporter = FindingReporter(owner)

    def forward(
        self, codes: Tensor, sigma: Tensor, pad_mask: Tensor | None = None, sites: Tensor | None = None
    ) -> Tensor:
        """The network's h ``(B, L, N)``, float32.

        Args:
            codes: ``(B, L)``, with masks of code N; UNKNOWN and PAD as `DiffusionTransformer.input_codes` has them.
            sigma: ``(B,)``.
            pad_mask: ``(B, L)`` bool, where there is no padding; None is everywhere.
            sites: ``(B, L)`` bool, where an answer is wanted; None is everywhere. See `DiffusionTransformer.forward`.
        """
        h: Tensor = self.network(codes, sigma, pad_mask, sites)
        return h

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step of the algorithm in the module docstring."""
        x0 = self._codes(batch)
        # a number of the host, from shapes: what monitors of utilisation divide by
        self.flops_per_batch = self.network.flops_per_batch(*x0.shape)
        u = uniform_of_step(self.trainer, self.time_sampling, len(x0), batch_idx, self.device)
        drawn = self.objective.draw(self._head(batch), x0, batch["loss_mask"], u, self.difficulty)
        residues = batch["loss_mask"].sum(1)
        loss = drawn.nats.sum() / mean_over_ranks(residues.sum()).clamp(min=1)
        self.log_dict(
            {"train/loss": loss.detach(), "train/mask_rate": drawn.mask_rate},
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            batch_size=len(x0),
            sync_dist=True,
        )
        return {"loss": loss, "nats": drawn.nats, "residues": residues}

    def _set_difficulty(self, difficulty: float) -> None:
        """How hard the noise of training is, in [0, 1]; 1 is the whole of it."""
        self.difficulty = check_difficulty(type(self).__name__, self.objective.curriculum.mode, float(difficulty))

    def difficulty_info(self) -> dict[str, float]:
        """Largest time, mean mask rate, and the share of the loss that is left, at the difficulty in force."""
        return describe_difficulty(self.objective.curriculum, self.difficulty, self.objective.noise)

    def trivial_loss(self, difficulty: float) -> float:
        """Training loss, nats per residue, of guessing by the training residues' frequencies at this difficulty.

        A curriculum asks at every step of its ramp: between 64 difficulties it is interpolated.
        """
        if self._trivial is None:
            objective, unigram = self.objective, self._unigram()
            self._trivial = InterpolatedLoss(
                lambda d: trivial_score_entropy(objective.graph, objective.curriculum, d, objective.noise, unigram)
            )
        return self._trivial(difficulty)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps which findings were raised."""
        super().on_save_checkpoint(checkpoint)
        self._reporter.keep_in(checkpoint)

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Takes them up."""
        super().on_load_checkpoint(checkpoint)
        self._reporter.take_from(checkpoint, self._trainer)

    def configure_optimizers(self) -> Any:
        """AdamW at a constant rate, unless the constructor was given others."""
        return build_optimizers(self, self._optimizer, self._lr_schedule, self.learning_rate)

    def on_fit_start(self) -> None:
        """Says before training what cannot come of it."""
        self._trivial = None
        left = self.objective.noise.unmasked_at_end
        if left > FEW_UNMASKED * (1 + 1e-9):
            message = (
                f"noise={self.objective.noise!r} leaves {100 * left:.3g} % of the residues as they are at t = 1. "
                f"Generation starts where none is left, and is refused above 1 %; the training loss is a part of the "
                f"bound, and lower for that alone."
            )
            evidence: dict[str, float | int | str] = {"unmasked_at_end": left}
            remedy = "model/noise=loglinear"
            finding = Finding("noise-leaves-residues", "warning", message, evidence, remedy)
            self._reporter.report(self.trainer, finding)

    def on_validation_epoch_start(self) -> None:
        """Begins a validation."""
        self._begin_evaluation("val")

    def on_test_epoch_start(self) -> None:
        """Begins a test."""
        self._begin_evaluation("test")

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Adds the bound of each sequence; returns it, ``nats`` ``(B,)``, and ``residues``."""
        del batch_idx
        return self._evaluate(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """As in validation."""
        del batch_idx
        return self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Logs the bound beside that of the residues' frequencies."""
        self._end_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """As in validation."""
        self._end_evaluation("test")

    def figures(self) -> dict[str, Figure]:
        """Pictures of the last validation or test epoch; none before the first."""
        return self.evaluation.figures()

    def _begin_evaluation(self, split: str) -> None:
        self.evaluation.begin(getattr(self.trainer, "datamodule", None), split)

    def _evaluate(self, batch: Batch) -> dict[str, Tensor]:
        total = torch.zeros(len(batch["tokens"]), dtype=torch.float64, device=batch["tokens"].device)
        excess = None
        for number in range(self.validation_draws):
            one = self.bound(batch, number)
            total += one.nats.double()
            if one.excess is not None:
                excess = one.excess.double() + (0 if excess is None else excess)
            self.evaluation.add_masked(batch["loss_mask"], one)
        nats = total / self.validation_draws
        self.evaluation.add(batch, nats, None if excess is None else excess / self.validation_draws)
        return {"nats": nats, "residues": batch["loss_mask"].sum(1)}

    def _end_evaluation(self, stage: str) -> None:
        if self.trainer.sanity_checking:
            return
        scores = self.evaluation.finish()
        self.log_dict({f"{stage}/{name}": value for name, value in scores.items()}, sync_dist=True)
        self.log(f"{stage}/loss", scores["nll"], prog_bar=True, sync_dist=True)
        for finding in self.evaluation.findings:
            if not (finding.name == "worse-than-unigram" and self._has_just_begun(stage)):
                self._reporter.report(self.trainer, finding)

    def _has_just_begun(self, stage: str) -> bool:
        """Whether nobody would expect anything of the model yet: in the first half of its training."""
        if getattr(self.trainer, "fast_dev_run", False):
            return True
        in_training = stage == "val" and self.trainer.state.fn == "fit"
        planned = self.trainer.estimated_stepping_batches if in_training else 0
        return self.trainer.global_step < planned / 2

    def _unigram(self) -> Tensor:
        datamodule = getattr(self.trainer, "datamodule", None) if self._trainer is not None else None
        share = torch.zeros(self.network.n_states, dtype=torch.float64)
        share[:N_RESIDUES] = datamodule.unigram() if hasattr(datamodule, "unigram") else 1.0 / N_RESIDUES
        return share
