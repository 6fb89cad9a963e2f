from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import BatchSampler, Dataset, Sampler

from stablelit.callbacks import CurriculumCallback, ScalarSchedule
from stablelit.data import SharedLevel
from stablelit.errors import ConfigurationError, ContractError
from tests.callbacks.difficulty_watch import BATCHES, Silent, Watched, fit, loader
from tests.contract.modules import make_trainer

pytestmark = pytest.mark.filterwarnings("ignore")
TOTAL = 3 * BATCHES
RAMP = [0.1 + 0.9 * min(1.0, step / 9) for step in range(TOTAL)]


class Data(pl.LightningDataModule):
    def __init__(self, of_training=False):
        super().__init__()
        self.told = []
        if of_training:
            self.difficulty_is_of_training = True

    def set_difficulty(self, difficulty):
        self.told.append(difficulty)

    def train_dataloader(self):
        return loader()

    def val_dataloader(self):
        return loader(1)


def test_a_datamodule_listens_beside_its_module(tmp_path):
    data = Data()
    module = fit(tmp_path, [CurriculumCallback(duration=9)], data=data)
    assert module.seen["train"] == pytest.approx(RAMP)
    trained = [d for d in data.told if d < 1.0]
    assert sorted(set(trained)) == pytest.approx(RAMP[:9])
    assert 1.0 in data.told


def test_data_have_their_first_difficulty_before_their_loader_is_made(tmp_path):
    # a plain DataLoader's workers begin before training does
    class Early(Data):
        def train_dataloader(self):
            self.told_by_then = list(self.told)
            return super().train_dataloader()

    data = Early()
    fit(tmp_path, [CurriculumCallback(start=0.3)], Silent(), data=data, max_epochs=1, num_sanity_val_steps=0)
    assert data.told_by_then == [0.3]


def test_a_datamodule_alone_is_enough_and_one_of_training_is_left_alone_by_evaluation(tmp_path):
    data = Data(of_training=True)
    fit(tmp_path, [CurriculumCallback(end=0.8, duration=9)], Silent(), data=data, val_check_interval=2)
    assert max(data.told) == 0.8


def test_a_run_that_only_evaluates_needs_no_datamodule_that_listens(tmp_path):
    trainer = make_trainer(tmp_path, [CurriculumCallback(targets="datamodule")])
    trainer.validate(Silent(), loader(1), verbose=False)
    with pytest.raises(
        ContractError, match=r"nobody listens.*set_difficulty.*in datamodule.*the module Silent \(there is"
    ):
        trainer.fit(Silent(), loader())


def test_a_scalar_is_set_to_the_difficulty_and_to_full_for_evaluation(tmp_path):
    module = fit(tmp_path, [CurriculumCallback(duration=9, targets="temperature")], Silent())
    assert module.seen["train"] == pytest.approx(RAMP)
    assert set(module.seen["val"]) == {1.0}


class Dial:
    def __init__(self):
        self.difficulty = 1.0

    def set_difficulty(self, difficulty):
        self.difficulty = difficulty


class Dialled(Silent):
    def __init__(self):
        super().__init__()
        self.dial = Dial()
        self.layer.register_buffer("rate", torch.tensor(0.0))

    @property
    def told(self):
        return self.dial.difficulty


def test_something_that_listens_is_found_at_its_path_or_given_itself(tmp_path):
    assert fit(tmp_path, [CurriculumCallback(duration=9, targets="dial")], Dialled()).seen["train"] == pytest.approx(
        RAMP
    )
    module = Dialled()
    fit(tmp_path, [CurriculumCallback(duration=9, targets=[module.dial, "layer.rate"])], module)
    assert module.seen["train"] == pytest.approx(RAMP)
    assert module.layer.rate == 1.0


def test_a_scalar_of_the_datamodule_is_found_where_the_module_has_none(tmp_path):
    data = Data()
    data.crop = 0.0
    fit(tmp_path, [CurriculumCallback(duration=9, targets="crop")], Silent(), data=data)
    assert data.crop == 1.0


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        ("temprature", "Silent has nothing at 'temprature'.*Did you mean 'temperature'"),
        ("layer.weight", "Silent.layer.weight is a Parameter"),
        ("module", "nobody listens.*in module.*temperature"),
        (["temperature", "module"], "nobody listens.*in module"),
        ("sampler", "no sampler of the train loader of Silent has set_difficulty.*SequentialSampler"),
    ],
)
def test_a_target_that_is_not_there_is_named(targets, says, tmp_path):
    with pytest.raises(ContractError, match=f"CurriculumCallback: {says}"):
        fit(tmp_path, [CurriculumCallback(targets=targets)], Silent())


@pytest.mark.parametrize("targets", [[], "a..b", 3, ["module", "module"], [Dial], ["module", 1]])
def test_targets_that_are_none_are_refused(targets):
    with pytest.raises(ConfigurationError, match="CurriculumCallback: targets="):
        CurriculumCallback(targets=targets)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (lambda: ScalarSchedule("temperature", duration=4), "ScalarSchedule in the same Trainer moves temperature too"),
        (lambda: CurriculumCallback(name="b"), "CurriculumCallback in the same Trainer moves module"),
        (lambda: CurriculumCallback(targets="dial"), "two of them log curriculum/difficulty"),
    ],
)
def test_a_second_writer_is_refused(other, says, tmp_path):
    with pytest.raises(ConfigurationError, match=says):
        fit(tmp_path, [CurriculumCallback(targets=["module", "temperature"]), other()])


@pytest.mark.parametrize("info", [3.0, {"difficulty": 1.0}, {"twice": 1.0}])
def test_information_that_cannot_be_logged_is_refused(info, tmp_path):
    class Informed(Watched):
        def difficulty_info(self):
            return info

    data = Data()
    data.difficulty_info = lambda: {"twice": 2.0}
    with pytest.raises(ContractError, match="difficulty_info"):
        fit(tmp_path, [CurriculumCallback()], Informed(), data=data)


# --- samplers --------------------------------------------------------------------------------------------------------


class Listening(Sampler):
    """Gives the samples in order and writes down at which difficulty it gave each."""

    def __init__(self, n=2 * BATCHES):
        self.n, self.difficulty, self.drawn = n, 0.5, []

    def set_difficulty(self, difficulty):
        self.difficulty = difficulty

    def __iter__(self):
        for index in range(self.n):
            self.drawn.append(self.difficulty)
            yield index

    def __len__(self):
        return self.n


class ListeningBatches(BatchSampler):
    def __init__(self, sampler, batch_size):
        super().__init__(sampler, batch_size, drop_last=False)
        self.told = []

    def set_difficulty(self, difficulty):
        self.told.append(difficulty)


def test_a_sampler_is_told_before_its_batch_is_drawn(tmp_path):
    sampler = Listening()
    fit(tmp_path, [CurriculumCallback(duration=9, targets="sampler")], Silent(), train=loader(sampler=sampler))
    # Lightning draws one batch ahead, to know the last one
    drawn = [sampler.drawn[2 * batch] for batch in range(TOTAL)]
    assert drawn[0] == 0.1
    assert all(d in (pytest.approx(RAMP[step]), pytest.approx(RAMP[max(step - 1, 0)])) for step, d in enumerate(drawn))
    assert drawn[-1] == 1.0


def test_a_batch_sampler_and_the_sampler_in_it_are_told_both(tmp_path):
    inner = Listening()
    batches = ListeningBatches(inner, 2)
    data = torch.utils.data.TensorDataset(torch.zeros(2 * BATCHES, 3))
    train = torch.utils.data.DataLoader(data, batch_sampler=batches)
    fit(tmp_path, [CurriculumCallback(duration=9, targets="sampler")], Silent(), train=train, val_check_interval=2)
    assert sorted(set(batches.told)) == pytest.approx(sorted(set(RAMP)))
    assert inner.difficulty == 1.0


def test_evaluation_does_not_touch_the_sampler_of_training(tmp_path):
    sampler = Listening()
    curriculum = CurriculumCallback(end=0.8, duration=9, targets=["module", "sampler"])
    module = fit(tmp_path, [curriculum], train=loader(sampler=sampler), val_check_interval=2)
    assert set(module.seen["val"]) == {1.0}
    assert max(sampler.drawn) == 0.8


def test_a_loader_that_is_built_anew_has_a_sampler_that_is_told(tmp_path):
    made = []

    class Rebuilt(Data):
        def train_dataloader(self):
            made.append(Listening())
            return loader(sampler=made[-1])

    curriculum = CurriculumCallback(duration=9, targets="sampler")
    fit(tmp_path, [curriculum], Silent(), data=Rebuilt(), reload_dataloaders_every_n_epochs=1)
    assert [sampler.difficulty for sampler in made[-3:]] == pytest.approx([RAMP[5], 1.0, 1.0])


@pytest.mark.slow
def test_a_sampler_that_lightning_has_wrapped_for_its_ranks_is_told(tmp_path):
    sampler = Listening(4 * BATCHES)

    class Write(pl.Callback):
        def on_train_end(self, trainer, pl_module):
            told.write_text(str(sampler.difficulty))

    told = tmp_path / "told"
    train = loader(2 * BATCHES, sampler=sampler)
    curriculum = CurriculumCallback(duration=9, targets="sampler")
    fit(tmp_path, [curriculum, Write()], Silent(), train=train, devices=2, strategy="ddp_fork")
    assert told.read_text() == "1.0"


# --- workers ---------------------------------------------------------------------------------------------------------


class Levels(Dataset):
    """Samples that are the level at which a worker made them."""

    def __init__(self):
        self.level = SharedLevel()

    def __len__(self):
        return 4 * BATCHES

    def __getitem__(self, index):
        return torch.full((3,), self.level.value)


@pytest.mark.slow
def test_workers_make_training_batches_at_the_level_of_training(tmp_path):
    class Shared(Data):
        difficulty_is_of_training = True

        def __init__(self):
            super().__init__()
            self.samples = Levels()

        def set_difficulty(self, difficulty):
            self.samples.level.set(difficulty)

        def train_dataloader(self):
            return torch.utils.data.DataLoader(
                self.samples, batch_size=2, num_workers=1, prefetch_factor=1, persistent_workers=True
            )

    class Reads(Silent):
        def training_step(self, batch, batch_idx):
            levels.append(batch[0, 0].item())
            return self.layer(batch).mean()

    levels = []
    curriculum = CurriculumCallback(start=0.2, end=0.9, duration="1.0dur")
    fit(tmp_path, [curriculum], Reads(), data=Shared(), max_epochs=2, val_check_interval=3, num_sanity_val_steps=0)
    total = 4 * BATCHES
    ramp = [0.2 + 0.7 * step / total for step in range(total)]
    # a worker runs ahead by what it prefetches and what Lightning fetches before a step, at an epoch's start by more
    for step, level in enumerate(levels):
        assert ramp[max(0, step - 4)] - 1e-6 <= level <= ramp[step] + 1e-6
    assert levels[0] == pytest.approx(0.2)
    assert len(set(levels)) > total / 2
