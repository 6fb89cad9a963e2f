"""What any family's data need: orders that are the same after a resume, and a loader that carries them."""

from stablelit.data.buckets import LengthBucketBatchSampler
from stablelit.data.loader import ShuffleDataLoader
from stablelit.data.shuffle import ShuffleSampler
from stablelit.data.shuffle_description import ShuffleDescription
from stablelit.functional.shuffle_quality import shuffle_quality

__all__ = [
    "LengthBucketBatchSampler",
    "ShuffleDataLoader",
    "ShuffleDescription",
    "ShuffleSampler",
    "shuffle_quality",
]
