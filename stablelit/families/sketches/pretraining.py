"""What SimCLR and BYOL share: two views of a sketch, an encoder, and how what it has learned is tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stablelit.data.evaluation_batches import number_among_ranks
from stablelit.errors import ContractError, bad_argument, did_you_mean
from stablelit.families.sketches.dataset import Batch
from stablelit.families.sketches.embeds import EmbedsSketches
from stablelit.families.sketches.encoder import SketchCNN, feature_width
from stablelit.families.sketches.evaluation import EmbeddingEvaluation
from stablelit.functional.schedules import check_count, check_number
from stablelit.nn import chunked_forward
from stablelit.optim import build_optimizers, check_factories, scaled_learning_rate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# validation augments by this seed: its epochs are comparable, and it moves no global random state
EVALUATION_SEED = 20_241_001
_SHOWN_PAIRS = 8
_LR_SCALINGS = ("none", "linear", "sqrt")


class SketchPretraining(EmbedsSketches):
    """An encoder that learns from pairs of views without labels; `SimCLR` and `BYOL` add their losses.

    Labels only judge: a test compares few-shot accuracy, nearest neighbours and a linear probe on the encoder's output
    h with the same on an untrained encoder's, on pixels, and with chance.

    Args:
        encoder: a module ``(B, C, S, S) -> (B, d)``, settings of `SketchCNN`, or None for its defaults.
        image_size: S, with which the encoder's width is found.
        in_channels: C.
        augment: a module that changes pictures at random, such as `SketchAugment`; None leaves views alike, which
            makes the task trivial.
        grad_cache_chunk: pictures that the encoder takes at a time, with its activations computed again for the
            backward pass: the gradient of a large batch in the memory of a small one. None takes all at once.
        learning_rate: of a batch of 256 (`lr_scaling` "linear"), per root of the batch ("sqrt"), or as it is ("none").
        lr_scaling: how it grows with the global batch.
        few_shot: of a test, ``[way, shot]`` of each row; those that the classes do not allow are left out.
        optimizer: takes parameters and ``lr=``; None is AdamW with weight decay 1e-4.
        lr_schedule: takes the optimizer and ``total_steps=``; None is a constant rate.

    Raises:
        ConfigurationError: an argument outside its range, or an encoder whose output is not ``(B, d)``.
    """

    def __init__(
        self,
        encoder: nn.Module | Mapping[str, Any] | None,
        image_size: int,
        in_channels: int,
        augment: nn.Module | None,
        grad_cache_chunk: int | None,
        learning_rate: float,
        lr_scaling: str,
        few_shot: Sequence[Sequence[int]],
        optimizer: Callable[..., Any] | None,
        lr_schedule: Callable[..., Any] | None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.image_size = check_count(owner, "image_size", image_size, 4)
        self.in_channels = check_count(owner, "in_channels", in_channels, 1)
        self.learning_rate = check_number(owner, "learning_rate", learning_rate, above=0.0)
        if lr_scaling not in _LR_SCALINGS:
            near = did_you_mean(str(lr_scaling), _LR_SCALINGS)
            raise bad_argument(owner, "lr_scaling", lr_scaling, ", ".join(_LR_SCALINGS), near)
        self.lr_scaling = lr_scaling
        self.grad_cache_chunk = (
            None if grad_cache_chunk is None else check_count(owner, "grad_cache_chunk", grad_cache_chunk, 1)
        )
        if augment is not None and not isinstance(augment, nn.Module):
            raise bad_argument(owner, "augment", augment, "a module such as SketchAugment, or None")
        rows = [tuple(row) for row in few_shot]
        for row in rows:
            if len(row) != 2 or not all(isinstance(n, int) and n >= 1 for n in row) or row[0] < 2:
                raise bad_argument(owner, "few_shot", few_shot, "pairs of way (at least 2) and shot (at least 1)")
        check_factories(owner, optimizer=optimizer, lr_schedule=lr_schedule)
        self.encoder = built_encoder(encoder, in_channels)
        self.feature_dim = feature_width(self.encoder, image_size, in_channels)
        self.augment = augment
        self.evaluation = EmbeddingEvaluation(rows)
        self._optimizer, self._lr_schedule = optimizer, lr_schedule
        self._shown_views: Tensor | None = None

    def forward(self, image: Tensor) -> Tensor:
        """The encoder's output h of pictures ``(B, C, S, S)``, ``(B, d)``.

        Raises:
            ContractError: pictures with another number of channels.
        """
        if image.shape[1] != self.in_channels:
            raise ContractError(
                f"{type(self).__name__}: pictures have shape {tuple(image.shape)}, and in_channels={self.in_channels}. "
                f"Sketches have one channel (model.in_channels=1); an encoder of colours needs them repeated within it."
            )
        return self.encoder(image).flatten(1)

    @contextmanager
    def same_draws(self, batch_idx: int) -> Iterator[None]:
        """Inside, what is drawn at random depends on the number of the batch alone, and moves no global state."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(EVALUATION_SEED + number_among_ranks(self._trainer, batch_idx))
            yield

    def two_views(self, batch: Batch) -> Tensor:
        """Two views of each sketch, ``(2B, C, S, S)``: all first views, then all second ones."""
        image = batch["views"].flatten(0, 1) if "views" in batch else batch["image"].repeat(2, 1, 1, 1)
        return image if self.augment is None else self.augment(image)

    def encoded(self, views: Tensor) -> Tensor:
        """The outputs h for views, ``(2B, d)``, in chunks where `grad_cache_chunk` says so."""
        if self.grad_cache_chunk is None or not self.training:
            return self(views)
        return chunked_forward(self.encoder, views, self.grad_cache_chunk).flatten(1)

    def configure_optimizers(self) -> Any:
        """AdamW at a constant rate, unless the constructor was given others; the rate scaled to the global batch."""
        rate = self.learning_rate
        if self.lr_scaling != "none":
            rate = scaled_learning_rate(rate, self._global_batch(), self.lr_scaling)
        return build_optimizers(self, self._optimizer, self._lr_schedule, rate)

    def _global_batch(self) -> int:
        batch_size = getattr(getattr(self.trainer, "datamodule", None), "batch_size", None)
        if batch_size is None:
            raise bad_argument(
                type(self).__name__, "lr_scaling", self.lr_scaling, "none where no datamodule has a batch_size"
            )
        return int(batch_size) * self.trainer.world_size

    def keep_views(self, views: Tensor, batch_idx: int) -> None:
        """Keeps some pairs of an epoch's first batch for a picture."""
        if batch_idx == 0:
            self._shown_views = views.detach().unflatten(0, (2, -1))[:, :_SHOWN_PAIRS]

    def on_validation_epoch_start(self) -> None:
        """Begins a validation."""
        self.evaluation.reset()

    def on_test_epoch_start(self) -> None:
        """Begins a test; it also has an untrained encoder and the mean features of training sketches."""
        self.evaluation.reset()
        self.evaluation.compare_with_untrained(self.encoder, self._training_images())

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Collects embeddings."""
        del batch_idx
        self.evaluation.add(self(batch["image"]), batch)
        self.evaluation.add_baselines(batch)

    def on_validation_epoch_end(self) -> None:
        """Keeps the embeddings for a picture."""
        self.evaluation.keep()

    def on_test_epoch_end(self) -> None:
        """Logs what h is worth, beside an untrained encoder, pixels and chance."""
        scores = self.evaluation.finish(getattr(getattr(self.trainer, "datamodule", None), "seed", 0))
        self.log_dict({f"test/{name}": value for name, value in scores.items()}, sync_dist=True)

    def figures(self) -> dict[str, Figure]:
        """View pairs of the running epoch and pictures of the last evaluation; none before the first."""
        from stablelit.families.sketches import figures

        made = self.evaluation.figures(getattr(getattr(self.trainer, "datamodule", None), "classes", None))
        if self._shown_views is not None:
            made["view_pairs"] = figures.view_pairs(self._shown_views.cpu())
        return made

    def _training_images(self) -> Tensor | None:
        sketches = getattr(getattr(self.trainer, "datamodule", None), "training_sketches", None)
        if sketches is None:
            return None
        places = torch.linspace(0, len(sketches) - 1, min(len(sketches), 1024)).long().tolist()
        image: Tensor = sketches.__getitems__(places)["image"]
        return image.to(self.device)


def built_encoder(encoder: nn.Module | Mapping[str, Any] | None, in_channels: int) -> nn.Module:
    """A module as it is; of settings, or None, a `SketchCNN`."""
    if isinstance(encoder, nn.Module):
        return encoder
    return SketchCNN(**{"in_channels": in_channels, **dict(encoder or {})})


def saved_encoder(encoder: nn.Module | Mapping[str, Any] | None) -> list[str]:
    """What `save_hyperparameters` must leave out: a module is no plain data, its settings are."""
    return ["encoder"] if isinstance(encoder, nn.Module) else []
