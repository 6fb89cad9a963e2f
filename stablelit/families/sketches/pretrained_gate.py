"""The gate before few-shot training: is the encoder that it begins with better than an untrained one?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from stablelit.families.sketches.pretrained import Comparison, compared
from stablelit.families.sketches.told import say
from stablelit.findings import Action, FindingReporter

Gate = Literal["warn", "stop", "raise", "off"]
_EPISODES = 100


class PretrainedGate:
    """Compares on validation episodes, before the first step of a run.

    Args:
        owner: in whose name findings are.
        gate: what it does where the encoder is no better; "off" does not look.
        source: where the encoder comes from; None is nowhere, and nothing is looked at.
        n_way: classes of an episode.
    """

    def __init__(self, owner: str, gate: Gate, source: str | None, n_way: int) -> None:
        self.source, self.n_way = source, n_way
        self._reporter = None if gate == "off" else FindingReporter(owner, cast(Action, gate))

    def look(self, module: LightningModule, accuracy: Callable[[nn.Module, Mapping[str, Any]], Tensor]) -> None:
        """Says what the encoder is worth, or reports `pretraining-did-nothing`.

        Args:
            module: with ``encoder``, in the Trainer that is about to train it.
            accuracy: of an encoder on an episode, 0-dim.
        """
        trainer = module.trainer
        if self._reporter is None or self.source is None or trainer.global_step or trainer.fast_dev_run:
            return
        episodes = _validation_episodes(module)
        if len(episodes) * trainer.world_size < 2:
            say(f"nobody knows whether {self.source} is better than an untrained encoder: no validation episodes.")
            return
        found = compared(accuracy, module.encoder, episodes)
        if trainer.world_size > 1:
            found = module.all_gather(found).transpose(0, 1).flatten(1)
        comparison = Comparison.of(found.cpu(), self.n_way, self.source)
        finding = comparison.finding()
        if finding is None:
            say(f"{comparison.in_words()}, on {len(comparison.pretrained)} validation episodes.")
        else:
            self._reporter.report(trainer, finding)


def _validation_episodes(module: LightningModule) -> list[Mapping[str, Any]]:
    trainer = module.trainer
    if not trainer.enable_validation:
        return []
    loop = trainer.fit_loop.epoch_loop.val_loop
    # without a sanity check nobody has asked for the loaders yet; a second call does nothing
    loop.setup_data()
    loader = loop._combined_loader.flattened[0]
    wanted = -(-_EPISODES // trainer.world_size)
    # a loader without a generator of its own draws its workers' seed from the global one
    with torch.random.fork_rng([]):
        return [trainer.strategy.batch_to_device(b, module.device) for b in islice(loader, wanted)]
