from __future__ import annotations

import pytest
import torch
from torch.utils.data import RandomSampler, SequentialSampler, TensorDataset

from stablelit.data import ShuffleDataLoader, ShuffleSampler
from stablelit.errors import ConfigurationError

DATA = TensorDataset(torch.arange(23))


def _loader(**kwargs):
    return ShuffleDataLoader(DATA, sampler=ShuffleSampler(DATA, seed=4), **{"batch_size": 4, **kwargs})


def _run(loader, epoch):
    loader.sampler.set_epoch(epoch)
    return [batch[0].tolist() for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", range(6))
def test_it_continues_at_the_batch_after_the_last_one_handed_out(stop, workers):
    whole = _run(_loader(), 3)
    first = _loader(num_workers=workers)
    first.sampler.set_epoch(3)
    batches = iter(first)
    seen = [next(batches)[0].tolist() for _ in range(stop)]
    second = _loader(num_workers=workers)
    second.load_state_dict(first.state_dict())
    # Lightning makes the iterator first and calls set_epoch afterwards (#21938)
    iterator = iter(second)
    second.sampler.set_epoch(3)
    rest = [batch[0].tolist() for batch in iterator]
    assert seen + rest == whole
    assert _run(second, 4) == _run(_loader(), 4)


def test_a_state_from_the_end_of_an_epoch_begins_the_next_one_at_its_beginning():
    first, second = _loader(), _loader()
    _run(first, 0)
    second.load_state_dict(first.state_dict())
    assert _run(second, 1) == _run(first, 1)


def test_an_epoch_that_was_cut_short_by_a_limit_is_not_skipped_into():
    first, second = _loader(), _loader()
    batches = iter(first)
    next(batches)
    next(batches)
    second.load_state_dict(first.state_dict())
    assert _run(second, 1) == _run(_loader(), 1)


def test_the_length_is_constant():
    loader = _loader()
    loader.load_state_dict({"sampler": {}, "epoch": 0, "batches": 3})
    assert len(loader) == 6
    assert len(list(loader)) == 3
    assert len(loader) == 6


def test_other_samplers_are_refused_but_for_the_one_that_overfit_batches_puts_in():
    with pytest.raises(ConfigurationError, match="RandomSampler"):
        ShuffleDataLoader(DATA, sampler=RandomSampler(DATA))
    assert len(list(ShuffleDataLoader(DATA, sampler=SequentialSampler(DATA), batch_size=4))) == 6


def test_iterating_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    list(_loader())
    assert torch.equal(torch.get_rng_state(), before)
