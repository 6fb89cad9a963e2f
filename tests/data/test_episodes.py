from __future__ import annotations

import json
import pickle
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from stablelit.callbacks import ShuffleCallback
from stablelit.data import EpisodicSampler, LengthBucketBatchSampler, ShuffleDataLoader, ShuffleSampler, batch_indices
from stablelit.errors import ConfigurationError, DataError
from tests.contract.modules import make_trainer
from tests.data.test_resume_in_lightning import EPOCHS, Recorder, SaveEveryStep

pytestmark = pytest.mark.filterwarnings("ignore")
WAY, SHOT, QUERY = 3, 2, 3
PER_EPISODE = WAY * (SHOT + QUERY)
# six classes of 5 to 10 samples, in no order, and some of which nobody knows the class
LABELS = np.random.default_rng(0).permutation(np.repeat([-1, 2, 3, 5, 7, 8, 9], [6, 5, 6, 7, 8, 9, 10]))
DATA = TensorDataset(torch.arange(len(LABELS)))


def episodes(ranks=1, rank=0, **kwargs):
    settings = {"n_way": WAY, "n_shot": SHOT, "n_query": QUERY, "n_episodes": 7, "seed": 1, **kwargs}
    return EpisodicSampler(LABELS, num_replicas=ranks, rank=rank, **settings)


def test_an_episode_has_distinct_classes_in_order_and_no_sample_twice():
    for episode in episodes(n_episodes=50):
        classes = LABELS[episode].reshape(WAY, SHOT + QUERY)
        assert (classes == classes[:, :1]).all()
        assert len(set(classes[:, 0])) == WAY
        assert len(set(episode)) == PER_EPISODE
        assert (classes >= 0).all()


def test_epochs_seeds_and_episodes_differ_and_fixed_ones_do_not():
    seen = []
    for seed in (0, 1):
        sampler = episodes(seed=seed)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            seen += map(tuple, sampler)
    assert len(set(seen)) == len(seen)
    fixed = episodes(fixed=True)
    first = list(fixed)
    fixed.set_epoch(5)
    assert list(fixed) == first


@pytest.mark.slow
def test_every_order_of_every_choice_is_as_likely():
    # two classes of three, and of each two of three samples in order: 6 * 6 * 6 outcomes
    sampler = EpisodicSampler([0, 0, 0, 1, 1, 1, 2, 2, 2], 2, 1, 1, n_episodes=20 * 216)
    counted = Counter(map(tuple, sampler))
    assert len(counted) == 216
    # chi-square of 215 degrees of freedom: mean 215, standard deviation 20.7
    assert sum((n - 20) ** 2 / 20 for n in counted.values()) < 215 + 4 * 20.7


def test_a_class_that_is_used_up_comes_whole_in_every_order():
    sampler = EpisodicSampler([4, 4, 4, 6, 6, 6], n_way=2, n_shot=1, n_query=2, n_episodes=300)
    assert {tuple(sorted(episode[:3]) + sorted(episode[3:])) for episode in sampler} == {
        (0, 1, 2, 3, 4, 5),
        (3, 4, 5, 0, 1, 2),
    }
    assert {tuple(episode[:3]) for episode in sampler} == {*permutations(range(3)), *permutations(range(3, 6))}


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_ranks_take_turns_with_whole_episodes_and_make_as_many_steps(ranks):
    parts = [list(episodes(ranks, rank)) for rank in range(ranks)]
    assert {len(part) for part in parts} == {len(episodes(ranks))} == {-(-7 // ranks)}
    in_turn = [episode for step in zip(*parts, strict=True) for episode in step]
    assert in_turn[:7] == list(episodes())
    assert len(set(map(tuple, in_turn))) == len(in_turn), "what fills the last step up is drawn anew"


def test_it_goes_on_where_it_stopped():
    whole = list(episodes(epoch=3))
    for step in range(8):
        state = json.loads(json.dumps(episodes(epoch=3).state_dict(step)))
        resumed = episodes(seed=9)
        resumed.load_state_dict(state)
        assert list(resumed) == (whole[step:] if step < 7 else whole)
        assert list(resumed) == whole, "once"


def test_a_state_of_other_episodes_is_refused():
    for other, message in (
        ({"n_way": 2}, "had n_way=3, now it has 2"),
        ({"fixed": True}, "had fixed=False, now it has True"),
        ({"ranks": 2}, "had ranks=1, now it has 2"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            episodes(**other).load_state_dict(episodes().state_dict(3))
    with pytest.raises(ConfigurationError, match="had other labels"):
        EpisodicSampler(LABELS[::-1], WAY, SHOT, QUERY, 7).load_state_dict(episodes().state_dict(3))
    episodes(ranks=2).load_state_dict(episodes().state_dict(7))  # at an epoch's end nothing was shared yet
    with pytest.raises(ConfigurationError, match="the state has no n_way"):
        episodes().load_state_dict({"seed": 1})


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_of_either_kind_gives_the_episodes(workers):
    sampler = pickle.loads(pickle.dumps(episodes()))
    for kind in (ShuffleDataLoader, DataLoader):
        loader = kind(DATA, batch_sampler=sampler, num_workers=workers)
        assert [batch[0].tolist() for batch in loader] == list(episodes())
        assert len(loader) == 7
    assert [batch_indices(loader, k) for k in (0, 6)] == [episodes().batch(0), episodes().batch(6)]
    assert batch_indices(loader, 7) == []


@pytest.mark.parametrize("before", ["buckets", "torch", "episodes"])
def test_a_loader_refuses_the_place_of_another_kind(before):
    order = ShuffleSampler(DATA, seed=1)
    batches = LengthBucketBatchSampler(order, [1] * len(DATA), batch_size=4)
    mine = ShuffleDataLoader(DATA, batch_sampler=episodes())
    other = {
        "buckets": lambda: ShuffleDataLoader(DATA, batch_sampler=batches),
        "torch": lambda: ShuffleDataLoader(DATA, sampler=order, batch_size=4),
        "episodes": lambda: ShuffleDataLoader(DATA, batch_sampler=episodes(n_query=1)),
    }[before]()
    message = {
        "buckets": ("with length buckets, now there are episodes", "with episodes, now there are length buckets"),
        "torch": ("with no episodes, now there are some", "with episodes, now there are none"),
        "episodes": ("had n_query=1, now it has 3", "had n_query=3, now it has 1"),
    }[before]
    for saved, loaded, told in ((other, mine, message[0]), (mine, other, message[1])):
        next(iterator := iter(saved))
        with pytest.raises(ConfigurationError, match=told):
            loaded.load_state_dict(saved.state_dict())
        del iterator


def run(directory, callbacks=(), ckpt=None, ranks=1, plain=False, **kwargs):
    """The (epoch, batch, episodes of all ranks) of every step of a fit."""
    directory.mkdir()
    many = {"devices": ranks, "strategy": "ddp_fork"} if ranks > 1 else {}
    saves = any(isinstance(c, SaveEveryStep) for c in callbacks)
    trainer = make_trainer(
        directory, list(callbacks), max_epochs=EPOCHS, logger=False, enable_checkpointing=saves, **many
    )
    sampler = EpisodicSampler(LABELS, WAY, SHOT, QUERY, n_episodes=4, seed=5)
    loader = (DataLoader if plain else ShuffleDataLoader)(DATA, batch_sampler=sampler, **kwargs)
    trainer.fit(Recorder(directory), loader, ckpt_path=ckpt and str(ckpt))
    files = [(directory / f"rank{r}").read_text().splitlines() for r in range(ranks)]
    steps = zip(*([json.loads(line) for line in file] for file in files), strict=True)
    return [(s[0][0], s[0][1], [part[2] for part in s]) for s in steps]


@pytest.mark.parametrize("plain", [False, True])
def test_a_resumed_run_continues_with_the_next_episode(plain, tmp_path):
    extra = [ShuffleCallback()] if plain else []
    whole = run(tmp_path / "a", [*extra, SaveEveryStep(tmp_path)], plain=plain)
    assert [(epoch, batch) for epoch, batch, _ in whole] == [(e, b) for e in range(EPOCHS) for b in range(4)]
    assert len({tuple(step[2][0]) for step in whole}) == 4 * EPOCHS
    for step in (1, 6):
        again = [ShuffleCallback()] if plain else []
        assert run(tmp_path / f"b{step}", again, tmp_path / f"{step}.ckpt", plain=plain) == whole[step:]


@pytest.mark.slow
def test_two_ranks_share_an_epoch_and_lightning_leaves_the_sampler_alone(tmp_path):
    one, two = run(tmp_path / "one"), run(tmp_path / "two", ranks=2)
    assert [episode for step in two for episode in step[2]] == [episode for step in one for episode in step[2]]


@pytest.mark.parametrize(
    ("labels", "kwargs", "error", "message"),
    [
        (
            np.repeat(range(9), [3, 9, 9, 9, 2, 9, 9, 9, 9]),
            {"n_way": 5, "n_query": 4},
            DataError,
            r"2 of 9 classes have fewer samples than n_shot \+ n_query = 1 \+ 4 = 5: class 0 has 3, 4 has 2. "
            r"n_query=1 uses all classes; or leave these out.",
        ),
        (range(20), {}, DataError, "class 0 has 1, .*, 4 has 1 and 15 more. Leave these out."),
        ([0] * 9 + [1] * 9, {"n_way": 3}, ConfigurationError, "n_way=3 is not allowed. Allowed: 2 to 2, the classes"),
        ([0.5, 1.0], {}, DataError, r"labels has shape \(2,\) and type float64"),
        ([[0], [1, 2]], {}, DataError, "one int"),
        ([], {}, DataError, r"labels has shape \(0,\)"),
        ([0, 1], {"n_query": 0}, ConfigurationError, "n_query=0 is not allowed"),
        ([0, 1], {"fixed": 1}, ConfigurationError, "fixed=1 is not allowed"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_what_could_be(labels, kwargs, error, message):
    with pytest.raises(error, match=message):
        EpisodicSampler(list(labels) if not isinstance(labels, np.ndarray) else labels, **kwargs)
    assert issubclass(error, ValueError)
