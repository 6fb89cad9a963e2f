"""NeutrinoDirection: the direction that a neutrino came from, with how sure the model is of it.

The algorithm, for an event's pulses X and its true direction t, a unit vector::

    h = Network(X)                                 hierarchical, flat, or a graph
    f = Head(h),  n = f / |f|,  kappa = |f|        the direction n, and its concentration kappa
    vmf = -log C(kappa) - f . t                    von Mises-Fisher on the sphere, nats
    angle = 2 atan2(|n - t|, |n + t|)              rad
    loss = mean over events of  vmf_weight * vmf + angle_weight * angle + energy_weight * ... + track_weight * ...

The last two belong to heads for log10 energy (Huber) and for track or cascade (cross entropy), which exist where their
weight is above 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from stablelit.data.evaluation_batches import weight_among_ranks
from stablelit.errors import ContractError, DataError, bad_argument, did_you_mean
from stablelit.families.neutrinos.angles import azimuth_zenith_of
from stablelit.families.neutrinos.augmentation import AUGMENTATIONS, augmented
from stablelit.families.neutrinos.evaluation import DirectionEvaluation
from stablelit.families.neutrinos.event_batch import Batch
from stablelit.families.neutrinos.losses import (
    acos_loss,
    acos_loss_clamped_inside,
    angular_loss,
    energy_loss,
    mean_over_known,
    track_loss,
    von_mises_fisher_nll,
)
from stablelit.families.neutrinos.metrics import cap_radius
from stablelit.families.neutrinos.networks import DirectionHead, EnergyHead, TrackHead, build_network
from stablelit.families.neutrinos.submission import write_submission
from stablelit.findings import FindingReporter
from stablelit.functional.schedules import check_number
from stablelit.optim import build_optimizers, check_factories

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_LOGGED = {"vmf": "vmf_nll", "angle": "angular_error", "energy": "energy_loss", "track": "track_loss"}
_TRUTH = {"energy": "energy", "track": "is_track"}
_HEAD_LOSSES = {"energy": energy_loss, "track": track_loss}
ANGLE_FORMS = {"atan2": angular_loss, "acos": acos_loss, "acos_clamped_inside": acos_loss_clamped_inside}


class NeutrinoDirection(LightningModule):
    """Direction reconstruction as a LightningModule.

    `training_step` returns ``loss``, and live: ``vmf`` (nats) and ``angle`` (rad) of each event ``(B,)``, with
    ``energy`` and ``track`` where those heads are. The weights are 0-dim buffers that a callback may fill in place, for
    example to train on the angle alone in the end. Validation is always at the weights of the constructor.

    Args:
        network: its name, or a mapping of its ``name`` and settings: "hierarchical", "flat" or "dynedge"; see
            `stablelit.families.neutrinos.networks`.
        vmf_weight: of the negative log likelihood.
        angle_weight: of the angle.
        angle_form: "atan2"; or, for comparison, "acos" and "acos_clamped_inside", whose gradients are NaN and zero
            near a perfect prediction.
        energy_weight: of the loss of log10 of the energy over GeV; above 0 there is a head for it.
        track_weight: of the cross entropy of track against cascade; likewise.
        learning_rate: the peak rate.
        augment: of "rotate" (about the vertical axis, by any angle) and "reflect" (at a vertical plane), in training.
        optimizer: takes parameters and ``lr=``; None is AdamW with weight decay 1e-4.
        lr_schedule: takes the optimizer and ``total_steps=``; None is a constant rate.

    Raises:
        ConfigurationError: an argument outside its range, or no weight above 0.
    """

    prediction_suffixes = (".csv", ".parquet")

    vmf_weight: Tensor
    angle_weight: Tensor
    energy_weight: Tensor
    track_weight: Tensor

    def __init__(
        self,
        network: str | Mapping[str, Any] = "hierarchical",
        vmf_weight: float = 1.0,
        angle_weight: float = 0.0,
        angle_form: str = "atan2",
        energy_weight: float = 0.0,
        track_weight: float = 0.0,
        learning_rate: float = 1e-3,
        augment: Sequence[str] = ("rotate",),
        optimizer: Callable[..., Any] | None = None,
        lr_schedule: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        weights = {"vmf": vmf_weight, "angle": angle_weight, "energy": energy_weight, "track": track_weight}
        for name, weight in weights.items():
            check_number(owner, f"{name}_weight", weight, at_least=0.0)
        if not vmf_weight + angle_weight > 0:
            raise bad_argument(
                owner, "vmf_weight", vmf_weight, "above 0 where angle_weight is 0", "Nothing would train the direction."
            )
        check_number(owner, "learning_rate", learning_rate, above=0.0)
        if angle_form not in ANGLE_FORMS:
            raise bad_argument(
                owner, "angle_form", angle_form, ", ".join(ANGLE_FORMS), did_you_mean(str(angle_form), ANGLE_FORMS)
            )
        # plain lists and dicts, whatever came: a checkpoint with anything else does not load with weights_only=True
        augment = [augment] if isinstance(augment, str) else [str(name) for name in augment]
        for name in augment:
            if name not in AUGMENTATIONS:
                raise bad_argument(owner, "augment", name, ", ".join(AUGMENTATIONS), did_you_mean(name, AUGMENTATIONS))
        check_factories(owner, optimizer=optimizer, lr_schedule=lr_schedule)
        network = dict(network) if isinstance(network, Mapping) else network
        self.save_hyperparameters(ignore=["optimizer", "lr_schedule"])
        self.learning_rate = learning_rate
        self.augment, self.angle_form = tuple(augment), angle_form
        self.network = build_network(network, owner)
        width = self.network.width
        self.head = DirectionHead(width)
        self.other_heads = nn.ModuleDict()
        if energy_weight > 0:
            self.other_heads["energy"] = EnergyHead(width)
        if track_weight > 0:
            self.other_heads["track"] = TrackHead(width)
        self._weights = weights
        for name, weight in weights.items():
            self.register_buffer(f"{name}_weight", torch.tensor(float(weight)), persistent=False)
        self.evaluation = DirectionEvaluation()
        self.flops_per_batch = 0.0
        self._optimizer, self._lr_schedule = optimizer, lr_schedule
        self._reporter = FindingReporter(owner)

    def forward(self, batch: Batch) -> Tensor:
        """The vector f of each event, ``(B, 3)``: its direction is where the neutrino came from, its length kappa."""
        return self.head(self.network(batch))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step of the algorithm in the module docstring."""
        del batch_idx
        # a number of the host, from shapes: what monitors of utilisation divide by
        self.flops_per_batch = self.network.flops_per_batch(batch)
        terms, _ = self.terms(augmented(self._with_truth(batch), self.augment))
        means = self._means(terms, batch, among_ranks=True)
        loss = sum(getattr(self, f"{name}_weight") * mean for name, mean in means.items())
        logged = {"train/loss": loss, **{f"train/{_LOGGED[name]}": mean for name, mean in means.items()}}
        self.log_dict(
            {name: value.detach() for name, value in logged.items()},
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            batch_size=len(batch["id"]),
            sync_dist=True,
        )
        return {**terms, "loss": loss}

    def terms(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """The terms of the loss, each ``(B,)``, and the vectors f ``(B, 3)``."""
        code = self.network(batch)
        f, target = self.head(code), batch["direction"]
        terms = {"vmf": von_mises_fisher_nll(f, target), "angle": ANGLE_FORMS[self.angle_form](f, target)}
        for name, loss in _HEAD_LOSSES.items():
            if name in self.other_heads:
                terms[name] = loss(self.other_heads[name](code), batch[_TRUTH[name]])
        return terms, f

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
        self.evaluation.begin(getattr(getattr(self.trainer, "datamodule", None), "constant_direction", None))

    def on_test_epoch_start(self) -> None:
        """Begins a test."""
        self.on_validation_epoch_start()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Logs the loss at the constructor's weights; returns its terms and f."""
        del batch_idx
        return self._evaluate(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """As in validation."""
        del batch_idx
        self._evaluate(batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Logs angular errors beside those of the line fit and of a constant direction."""
        self._end_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """As in validation."""
        self._end_evaluation("test")

    def _evaluate(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        terms, f = self.terms(self._with_truth(batch))
        means = self._means(terms, batch)
        loss = sum(self._weights[name] * mean for name, mean in means.items())
        # the angle is among the scores of the whole epoch, with its median
        values = {"loss": loss, **{_LOGGED[name]: mean for name, mean in means.items() if name != "angle"}}
        weight = weight_among_ranks(self._trainer, len(f))
        self.log_dict({f"{stage}/{k}": v for k, v in values.items()}, batch_size=weight, sync_dist=True)
        self.evaluation.add(batch, f)
        return {**terms, "prediction": f}

    def _end_evaluation(self, stage: str) -> None:
        if self.trainer.sanity_checking:
            return
        scores = self.evaluation.finish()
        self.log_dict({f"{stage}/{name}": value for name, value in scores.items()}, prog_bar=False, sync_dist=True)
        for finding in self.evaluation.findings:
            self._reporter.report(self.trainer, finding)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Event ids, azimuth and zenith (rad) of where the neutrinos came from, and kappa; each ``(B,)``."""
        del batch_idx
        f = self(batch).float()
        azimuth, zenith = azimuth_zenith_of(f)
        return {"event_id": batch["event_id"], "azimuth": azimuth, "zenith": zenith, "kappa": f.norm(dim=1)}

    def write_predictions(self, predictions: Sequence[Mapping[str, Tensor]], path: str | Path) -> dict[str, Any]:
        """Writes what `predict_step` has returned as Kaggle's submission: event_id, azimuth, zenith.

        Args:
            predictions: of all batches.
            path: .csv or .parquet.

        Returns:
            How many events were written, and the error that half of the predictions of the median kappa should exceed.

        Raises:
            DataError: an event twice, or a prediction that is not finite.
        """
        columns = {name: torch.cat([p[name] for p in predictions]).cpu().numpy() for name in predictions[0]}
        write_submission(path, columns["event_id"], columns["azimuth"], columns["zenith"])
        typical = cap_radius(torch.as_tensor(columns["kappa"]).median(), 0.5)
        return {"events": len(columns["event_id"]), "typical_error_rad": float(typical)}

    def figures(self) -> dict[str, Figure]:
        """Pictures of the last validation or test epoch; none before the first."""
        return self.evaluation.figures()

    def _means(self, terms: Mapping[str, Tensor], batch: Batch, among_ranks: bool = False) -> dict[str, Tensor]:
        return {
            name: mean_over_known(term, batch[_TRUTH[name]], among_ranks) if name in _TRUTH else term.mean()
            for name, term in terms.items()
        }

    def _with_truth(self, batch: Batch) -> Batch:
        if "direction" not in batch:
            raise DataError(
                f"{type(self).__name__}: the events have no azimuth and zenith, so there is nothing to learn from. "
                f"Train on files with truth, or predict: python -m stablelit.predict run=RUN output=FILE."
            )
        for name in self.other_heads:
            if _TRUTH[name] not in batch:
                raise ContractError(
                    f"{type(self).__name__}: {name}_weight is {self._weights[name]:g}, but the data have no "
                    f"{_TRUTH[name]}. They have {', '.join(batch)}. Set model.{name}_weight=0, or add the column."
                )
        return batch
