"""What any family's data need: orders that are the same after a resume, and a loader that carries them."""

from stablelit.data.batch_indices import batch_indices
from stablelit.data.buckets import LengthBucketBatchSampler
from stablelit.data.episodes import EpisodicSampler
from stablelit.data.evaluation_batches import EvaluationBatches
from stablelit.data.leave_out import LeftOut, SkippedBatch, leave_out, read_skipped
from stablelit.data.loader import ShuffleDataLoader
from stablelit.data.shared_level import SharedLevel
from stablelit.data.shuffle import ShuffleSampler
from stablelit.data.shuffle_description import ShuffleDescription
from stablelit.functional.shuffle_quality import shuffle_quality

__all__ = [
    "EpisodicSampler",
    "EvaluationBatches",
    "LeftOut",
    "LengthBucketBatchSampler",
    "SharedLevel",
    "ShuffleDataLoader",
    "ShuffleDescription",
    "ShuffleSampler",
    "SkippedBatch",
    "batch_indices",
    "leave_out",
    "read_skipped",
    "shuffle_quality",
]
