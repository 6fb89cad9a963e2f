"""A pre-trained encoder: read from a run or a file, and held against an untrained one before it is built upon."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stablelit.data.checkpoint_files import alternatives, damage_of
from stablelit.data.tensor_files import plain_tensors
from stablelit.errors import ConfigurationError, DataError
from stablelit.findings import Finding
from stablelit.functional.intervals import mean_and_interval

# what a run directory may have, the most telling first
_IN_A_RUN = ("encoder.pt", "checkpoints/best.ckpt", "checkpoints/last.ckpt")
_PREFIX = "encoder."
_SHOWN = 3
_UNTRAINED_SEED = 20_240_501
_CALIBRATION_BATCH = 256


def load_encoder(encoder: nn.Module, path: str | Path, key: str = "encoder_from") -> Path:
    """Fills an encoder with the weights of another run.

    Args:
        encoder: of the same shape as the one that was trained.
        path: a run directory (its ``encoder.pt``, best or last checkpoint), a Lightning checkpoint with ``encoder.``
            parameters, or a file of ``{"state_dict": ...}`` with an encoder's alone. Nothing in it is executed.
        key: the argument's name, for messages.

    Returns:
        The file that was read.

    Raises:
        ConfigurationError: no such file, a file that cannot be read as plain data, no encoder in it, or one of another
            shape; the message has the first parameters that differ.
    """
    file = _located(path, key)
    saved = _encoder_weights(file, key)
    built = encoder.state_dict()
    wrong = [f"{name} is only in the model" for name in built if name not in saved]
    wrong += [f"{name} is only in the file" for name in saved if name not in built]
    wrong += [
        f"{name} is {tuple(saved[name].shape)} in the file and {tuple(built[name].shape)} in the model"
        for name in built
        if name in saved and saved[name].shape != built[name].shape
    ]
    if wrong:
        more = f" (and {len(wrong) - _SHOWN} more)" if len(wrong) > _SHOWN else ""
        raise ConfigurationError(
            f"{key}={file}: its encoder is not the model's {type(encoder).__name__}: {'; '.join(wrong[:_SHOWN])}{more}."
            f" Give the model the encoder settings that it was pre-trained with."
        )
    encoder.load_state_dict(saved)
    return file


def untrained_twin(encoder: nn.Module, images: Tensor | None = None, seed: int = _UNTRAINED_SEED) -> nn.Module:
    """A copy of an encoder that has learned nothing: what pre-training must be better than.

    Layers are drawn anew by their own `reset_parameters`; a parameter whose layer has none is shuffled, which keeps
    its spread and nothing else. The global random state is left as it was.

    Args:
        encoder: any.
        images: ``(n, C, S, S)``; batch norms of the twin take their running statistics from up to 256 of them. Without
            them these are 0 and 1. Which of the two is worth more depends on the network and the pictures.
        seed: of the draw.

    Returns:
        In evaluation mode, without gradients.
    """
    twin = copy.deepcopy(encoder).requires_grad_(False)
    devices = sorted({t.device.index or 0 for t in twin.state_dict().values() if t.is_cuda})
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(seed)
        for module in twin.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            else:
                for parameter in module.parameters(recurse=False):
                    place = torch.randperm(parameter.numel()).to(parameter.device)
                    parameter.copy_(parameter.flatten()[place].view_as(parameter))
        if images is not None and len(images) > 1:
            _calibrate(twin, images[:_CALIBRATION_BATCH])
    return twin.eval()


@dataclass(frozen=True)
class Comparison:
    """Two encoders on the same episodes.

    Args:
        pretrained: accuracy of each episode with the one, ``(E,)``.
        untrained: with the other.
        n_way: classes of an episode.
        source: where the pre-trained one comes from.
    """

    pretrained: Tensor
    untrained: Tensor
    n_way: int
    source: str

    @classmethod
    def of(cls, accuracies: Tensor, n_way: int, source: str) -> Comparison:
        """From what `compared` has found; an untrained encoder is taken at its best."""
        twins = accuracies[1:]
        return cls(accuracies[0], twins[twins.mean(1).argmax()], n_way, source)

    def is_better(self) -> bool:
        """Whether the interval of the paired difference lies above 0."""
        mean, half = mean_and_interval(self.pretrained - self.untrained)
        return bool(mean - half > 0)

    def in_words(self) -> str:
        """Both accuracies with their intervals, and chance."""
        one, other = _in_words(self.pretrained), _in_words(self.untrained)
        return f"the pretrained encoder {one}, an untrained one {other}, chance {_decimals(1 / self.n_way)}"

    def finding(self) -> Finding | None:
        """`pretraining-did-nothing`, where it is not better."""
        if self.is_better():
            return None
        difference, half = (float(x) for x in mean_and_interval(self.pretrained - self.untrained))
        one, other = ([float(x) for x in mean_and_interval(a)] for a in (self.pretrained, self.untrained))
        return Finding(
            "pretraining-did-nothing",
            "critical",
            f"{self.in_words()}: on the same {len(self.pretrained)} episodes the difference is {difference:+.3f} ± "
            f"{half:.3f}. What is in {self.source} is worth no more than what an encoder is born with.",
            {
                "pretrained_accuracy": one[0],
                "pretrained_interval": one[1],
                "untrained_accuracy": other[0],
                "untrained_interval": other[1],
                "difference": difference,
                "difference_interval": half,
                "chance": 1.0 / self.n_way,
                "episodes": len(self.pretrained),
            },
            "look at the pre-training's excess over its floor (ContrastiveHealthMonitor names the cause); "
            "model.encoder_from=null trains from scratch; model.gate=off goes on all the same",
        )


def compared(
    accuracy: Callable[[nn.Module, Mapping[str, Any]], Tensor],
    encoder: nn.Module,
    episodes: list[Mapping[str, Any]],
) -> Tensor:
    """Accuracies of an encoder and of its untrained twins on the same episodes, ``(3, E)``, float64.

    The first twin has the running statistics that batch norms begin with, the second those of the pictures.

    Args:
        accuracy: of an encoder on an episode, 0-dim.
        encoder: is left as it was.
        episodes: batches with ``image``.
    """
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    pictures = torch.cat([e["image"] for e in episodes[:5]])
    every = (encoder, untrained_twin(encoder), untrained_twin(encoder, pictures))
    with torch.no_grad():
        found = torch.stack([torch.stack([accuracy(one, e).double() for e in episodes]) for one in every])
    for module, was_training in modes:
        module.training = was_training
    return found


def _located(path: str | Path, key: str) -> Path:
    given = Path(path).expanduser()
    if given.is_file():
        return given
    if not given.is_dir():
        raise ConfigurationError(
            f"{key}={path}: there is no such run directory and no such file. A run directory is "
            f"runs/<name>/<date-time>; a run that is only evaluated needs none: model.{key}=null."
        )
    for name in _IN_A_RUN:
        if (given / name).is_file():
            return given / name
    raise ConfigurationError(f"{key}={path}: there is none of {', '.join(_IN_A_RUN)} in this directory.")


def _encoder_weights(file: Path, key: str) -> dict[str, Tensor]:
    damage = damage_of(file)
    if damage is not None:
        raise ConfigurationError(f"{key}={file} is damaged: {damage}. {alternatives(file)}")
    try:
        content = plain_tensors(file)
    except DataError as error:
        why = str(error).removeprefix(f"{file}: ")
        raise ConfigurationError(
            f"{key}={file} cannot be read as tensors and plain data ({why}) Take another checkpoint."
        ) from error
    weights = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ConfigurationError(f"{key}={file} has no 'state_dict' of tensors.")
    # torch.compile puts a name of its own in between
    named = {name.replace("_orig_mod.", ""): value for name, value in weights.items()}
    within = {name.removeprefix(_PREFIX): value for name, value in named.items() if name.startswith(_PREFIX)}
    of_a_module = "pytorch-lightning_version" in content
    if of_a_module and not within:
        there = ", ".join(sorted({name.partition(".")[0] for name in named})) or "nothing"
        raise ConfigurationError(f"{key}={file} is a checkpoint without an `encoder`; it has {there}.")
    return within or named


def _calibrate(twin: nn.Module, images: Tensor) -> None:
    norms = [m for m in twin.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    twin.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    if norms:
        twin(images.to(next(twin.parameters(), images)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _in_words(accuracy: Tensor) -> str:
    mean, half = (float(x) for x in mean_and_interval(accuracy))
    return f"{_decimals(mean)} ± {_decimals(half)}"


def _decimals(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
