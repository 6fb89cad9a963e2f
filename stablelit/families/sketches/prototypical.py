"""PrototypicalNetwork: few-shot recognition by the nearest class mean.

The algorithm, for an episode of W classes with S support and Q query sketches each::

    h = Encoder(image)                             (W * (S + Q), d)
    p_c = mean of the S support rows of class c
    logit_c(q) = -|h_q - p_c|^2 / T                or cos(h_q, p_c) / T, with T learned
    loss = mean over queries of  -log softmax(logit)_class(q)

An encoder that knows nothing has a loss of ln W and an accuracy of 1/W. One that comes from a pre-training is first
held against an untrained one on the validation episodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from stablelit.errors import ConfigurationError, ContractError, bad_argument, did_you_mean
from stablelit.families.sketches.embeds import EmbedsSketches
from stablelit.families.sketches.encoder import feature_width
from stablelit.families.sketches.few_shot_metric import FewShotAccuracy
from stablelit.families.sketches.pretrained import load_encoder
from stablelit.families.sketches.pretrained_gate import Gate, PretrainedGate
from stablelit.families.sketches.pretraining import built_encoder, saved_encoder
from stablelit.functional.prototypes import (
    Distance,
    few_shot_accuracy,
    prototypes,
    prototypical_logits,
    queries,
    query_targets,
    simple_shot,
    support_mean,
)
from stablelit.functional.schedules import check_count, check_flag, check_number
from stablelit.optim import build_optimizers, check_factories

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Centring = Literal["none", "simple_shot"]
Batch = Mapping[str, Tensor]
# of a learned one, where it begins: cosines alone are too flat to learn from
_TEMPERATURES = {"squared_euclidean": 1.0, "cosine": 0.1}


class PrototypicalNetwork(EmbedsSketches):
    """Prototypical network as a LightningModule; batches are episodes, as `EpisodicSampler` makes them.

    How many queries an episode has its size says. `training_step` returns ``loss``, ``scores`` (logits of the queries,
    ``(W * Q, W)``) and ``targets`` ``(W * Q,)``, with ``h`` and ``label`` of all rows; validation and test the same.

    Args:
        encoder: a module ``(B, C, S, S) -> (B, d)``, settings of `SketchCNN`, or None for its defaults.
        image_size: S, with which the encoder is tried.
        in_channels: C.
        n_way: classes of a training episode.
        n_shot: support sketches of a class.
        eval_way: classes of an episode of validation and test.
        eval_shot: their support sketches; None is `n_shot`.
        distance: "squared_euclidean" or "cosine".
        temperature: T; None is 1, and 0.1 for the cosine, where it is learned from there on.
        centring: of evaluation: "none", or "simple_shot", which subtracts the mean of the support and normalises.
        encoder_from: a run directory, a checkpoint or an ``encoder.pt`` whose encoder to begin with.
        freeze_encoder: leaves the encoder as it is, batch statistics included.
        gate: what it does when `encoder_from` is no better than an untrained encoder on the validation episodes, before
            the first step: "warn", "stop", "raise"; "off" does not look. Finding: `pretraining-did-nothing`.
        learning_rate: the peak rate.
        augment: a module that changes training pictures at random, such as `SketchAugment`.
        optimizer: takes parameters and ``lr=``; None is AdamW with weight decay 1e-4.
        lr_schedule: takes the optimizer and ``total_steps=``; None is a constant rate.

    Raises:
        ConfigurationError: an argument outside its range, an encoder whose output is not ``(B, d)``, nothing to begin
            with at `encoder_from`.

    Source: J. Snell, K. Swersky, R. Zemel, NeurIPS 2017.
    """

    temperature: Tensor

    def __init__(
        self,
        encoder: nn.Module | Mapping[str, Any] | None = None,
        image_size: int = 32,
        in_channels: int = 1,
        n_way: int = 20,
        n_shot: int = 1,
        eval_way: int = 5,
        eval_shot: int | None = None,
        distance: Distance = "squared_euclidean",
        temperature: float | None = None,
        centring: Centring = "none",
        encoder_from: str | None = None,
        freeze_encoder: bool = False,
        gate: Gate = "warn",
        learning_rate: float = 1e-3,
        augment: nn.Module | None = None,
        optimizer: Callable[..., Any] | None = None,
        lr_schedule: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        choices = {"distance": (distance, Distance), "centring": (centring, Centring), "gate": (gate, Gate)}
        for name, (value, kinds) in choices.items():
            if value not in get_args(kinds):
                hint = did_you_mean(str(value), get_args(kinds))
                raise bad_argument(owner, name, value, ", ".join(get_args(kinds)), hint)
        if augment is not None and not isinstance(augment, nn.Module):
            raise bad_argument(owner, "augment", augment, "a module such as SketchAugment, or None")
        if encoder_from is not None and not isinstance(encoder_from, str | Path):
            raise bad_argument(owner, "encoder_from", encoder_from, "a path or None")
        check_factories(owner, optimizer=optimizer, lr_schedule=lr_schedule)
        shots = check_count(owner, "n_shot", n_shot, 1)
        self.episode = check_count(owner, "n_way", n_way, 2), shots
        eval_shots = shots if eval_shot is None else check_count(owner, "eval_shot", eval_shot, 1)
        self.eval_episode = check_count(owner, "eval_way", eval_way, 2), eval_shots
        start = _TEMPERATURES[distance] if temperature is None else temperature
        start = check_number(owner, "temperature", start, above=0.0)
        self.learning_rate = check_number(owner, "learning_rate", learning_rate, above=0.0)
        # plain data: a checkpoint with anything else does not load with weights_only=True
        encoder = dict(encoder) if isinstance(encoder, Mapping) else encoder
        encoder_from = None if encoder_from is None else str(encoder_from)
        self.save_hyperparameters(ignore=[*saved_encoder(encoder), "augment", "optimizer", "lr_schedule"])
        self.encoder = built_encoder(encoder, in_channels)
        self.image_size = image_size
        self.feature_dim = feature_width(self.encoder, image_size, in_channels)
        self.projector = nn.Identity()
        self.augment = augment
        self.distance, self.centring, self.gate = distance, centring, gate
        self.register_buffer("temperature", torch.tensor(start), persistent=False)
        # a factor of 1 / T
        self.log_scale = nn.Parameter(torch.zeros(())) if distance == "cosine" else None
        self.freeze_encoder = check_flag(owner, "freeze_encoder", freeze_encoder)
        self.source = None if encoder_from is None else str(load_encoder(self.encoder, encoder_from))
        if self.freeze_encoder:
            self.encoder.requires_grad_(False)
            self.encoder.eval()
        self.accuracy = FewShotAccuracy(eval_way)
        self._optimizer, self._lr_schedule = optimizer, lr_schedule
        self._gate = PretrainedGate(owner, gate, self.source, eval_way)
        self._looked_at: set[str] = set()
        self._shown: tuple[Tensor, Tensor, Tensor] | None = None

    def train(self, mode: bool = True) -> PrototypicalNetwork:
        """As in torch; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """The encoder's output h of pictures ``(B, C, S, S)``, ``(B, d)``."""
        return self.encoder(image).flatten(1)

    def on_train_start(self) -> None:
        """Holds an encoder that has been pre-trained against one that has not, before it is built upon."""
        self._gate.look(self, self._accuracy_of)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step of the algorithm in the module docstring."""
        del batch_idx
        image = batch["views"][0] if "views" in batch else batch["image"]
        h = self(image if self.augment is None else self.augment(image))
        n_way, n_shot = self.episode
        outputs = self._outcome(h, n_way, n_shot, self._n_query(batch, n_way, n_shot, "training"))
        logged = {
            "train/loss": outputs["loss"].detach(),
            "train/accuracy": (outputs["scores"].argmax(1) == outputs["targets"]).float().mean(),
            "train/chance": 1 / n_way,
            "train/chance_loss": math.log(n_way),
        }
        self.log_dict(logged, on_step=False, on_epoch=True, prog_bar=True, batch_size=1, sync_dist=True)
        if self.log_scale is not None:
            self.log("train/temperature", self._temperature().detach(), on_step=False, on_epoch=True, sync_dist=True)
        return {**outputs, "h": h, "label": batch["label"]}

    def configure_optimizers(self) -> Any:
        """AdamW at a constant rate, unless the constructor was given others.

        Raises:
            ConfigurationError: a frozen encoder, and no temperature: nothing is left to train.
        """
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise ConfigurationError(
                f"{type(self).__name__}: freeze_encoder=True leaves nothing to train. Test it as it is "
                f"(trainer.test), or set model.freeze_encoder=false; distance=cosine would learn its temperature."
            )
        return build_optimizers(self, self._optimizer, self._lr_schedule, self.learning_rate)

    def on_validation_epoch_start(self) -> None:
        """Begins a validation."""
        self.accuracy.reset()
        self._shown = None

    def on_test_epoch_start(self) -> None:
        """Begins a test."""
        self.on_validation_epoch_start()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The loss of an episode, and its accuracy for the mean over all."""
        del batch_idx
        return self._evaluate(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """As in validation."""
        del batch_idx
        return self._evaluate(batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Logs the accuracy with its interval, beside chance."""
        self._end_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """As in validation."""
        self._end_evaluation("test")

    def figures(self) -> dict[str, Figure]:
        """The first episode of the last validation or test with what was predicted; none before the first."""
        from stablelit.families.sketches import figures

        if self._shown is None:
            return {}
        image, label, predicted = (values.cpu() for values in self._shown)
        n_shot = self.eval_episode[1]
        target = torch.arange(len(label)).unsqueeze(1).expand_as(predicted)
        classes = getattr(getattr(self.trainer, "datamodule", None), "classes", None)
        names = [classes[k] if classes is not None and k >= 0 else str(k) for k in label.tolist()]
        return {"episode": figures.episode(image[:, :n_shot], image[:, n_shot:], predicted, target, names)}

    def _evaluate(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        n_way, n_shot = self.eval_episode
        n_query = self._n_query(batch, n_way, n_shot, stage)
        h = self(batch["image"])
        outputs = self._outcome(self._centred(h, n_way, n_shot, n_query), n_way, n_shot, n_query)
        if self._shown is None:
            shape = (n_way, n_shot + n_query)
            predicted = outputs["scores"].detach().argmax(1).view(n_way, n_query)
            self._shown = batch["image"].detach().unflatten(0, shape), batch["label"].view(shape)[:, 0], predicted
        self.accuracy.update((outputs["scores"].argmax(1) == outputs["targets"]).double().mean())
        self.log(f"{stage}/loss", outputs["loss"], batch_size=1, sync_dist=True)
        return {**outputs, "h": h, "label": batch["label"]}

    def _end_evaluation(self, stage: str) -> None:
        if self.trainer.sanity_checking:
            return
        found = self.accuracy.compute()
        name = f"{stage}/few_shot_accuracy"
        self.log(name, found["accuracy"].float(), prog_bar=True, sync_dist=True)
        values = {f"{name}_interval": found["interval"].float(), f"{name}_chance": found["chance"].float()}
        self.log_dict(values, sync_dist=True)

    def _outcome(self, h: Tensor, n_way: int, n_shot: int, n_query: int) -> dict[str, Tensor]:
        episode = (n_way, n_shot, n_query)
        scores = prototypical_logits(queries(h, *episode), prototypes(h, *episode), self.distance, self._temperature())
        targets = query_targets(n_way, n_query, h.device)
        return {"loss": cross_entropy(scores, targets), "scores": scores, "targets": targets}

    def _temperature(self) -> Tensor:
        return self.temperature if self.log_scale is None else self.temperature * torch.exp(-self.log_scale)

    def _centred(self, h: Tensor, n_way: int, n_shot: int, n_query: int) -> Tensor:
        return h if self.centring == "none" else simple_shot(h, support_mean(h, n_way, n_shot, n_query))

    def _accuracy_of(self, encoder: nn.Module, batch: Batch) -> Tensor:
        n_way, n_shot = self.eval_episode
        n_query = self._n_query(batch, n_way, n_shot, "val")
        h = encoder(batch["image"]).flatten(1)
        return few_shot_accuracy(self._centred(h, n_way, n_shot, n_query), n_way, n_shot, n_query, self.distance)

    def _n_query(self, batch: Batch, n_way: int, n_shot: int, stage: str) -> int:
        rows = len(batch["image"])
        n_query = rows // n_way - n_shot
        way_out = "Take an EpisodicSampler (data.draw=episodes), with the n_way and n_shot of the module."
        if rows % n_way or n_query < 1:
            raise ContractError(
                f"{type(self).__name__}: a batch of {stage} has {rows} sketches; an episode of {n_way} classes has "
                f"{n_way} * ({n_shot} + n_query). {way_out}"
            )
        if stage not in self._looked_at:  # once: it waits for the device
            self._looked_at.add(stage)
            label = batch["label"].view(n_way, -1)
            if not bool((label == label[:, :1]).all()) or len(label[:, 0].unique()) < n_way:
                raise ContractError(
                    f"{type(self).__name__}: a batch of {stage} is no episode: its {rows} sketches are not those of "
                    f"{n_way} classes, one after another. {way_out}"
                )
        return n_query
