"""What any family's data need: a sampler that shuffles the same way after a resume, and a loader that carries it."""

from stablelit.data.loader import ShuffleDataLoader
from stablelit.data.shuffle import ShuffleSampler

__all__ = ["ShuffleDataLoader", "ShuffleSampler"]
