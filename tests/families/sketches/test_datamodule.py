from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image

from stablelit.errors import ConfigurationError
from stablelit.families.sketches import SketchDataModule, StrokeAugment

from .small import data


def labels_of(loader):
    return torch.cat([batch["label"] for batch in loader])


def test_no_class_is_in_two_splits():
    module = data()
    seen = [
        set(labels_of(loader()).tolist())
        for loader in (module.train_dataloader, module.val_dataloader, module.test_dataloader)
    ]
    assert [len(classes) for classes in seen] == [9, 3, 3]
    assert set.union(*seen) == set(range(15))


def test_with_a_split_of_samples_every_class_is_in_each():
    module = data(split="samples", train=0.5, val=0.25, test=0.25)
    for split, where in module.split_indices.items():
        assert len(set(module._sketches.sketches.labels[where])) == 15, split
    everywhere = [i for where in module.split_indices.values() for i in where]
    assert len(everywhere) == len(set(everywhere))


def test_a_last_short_batch_is_not_trained_on_and_is_validated():
    module = data(batch_size=20)
    assert [len(batch["label"]) for batch in module.train_dataloader()] == [20, 20]
    assert [len(batch["label"]) for batch in module.val_dataloader()] == [18]


def test_the_order_of_training_is_that_of_seed_and_epoch():
    def order(epoch, **more):
        loader = data(**more).train_dataloader()
        loader.sampler.set_epoch(epoch)
        return torch.cat([batch["id"] for batch in loader]).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1) != order(1, seed=1)


def test_an_episode_has_its_classes_one_after_the_other_and_no_sketch_twice():
    module = data(draw="episodes", n_way=4, n_shot=2, n_query=3, n_episodes=5, eval_way=3, n_val_episodes=2)
    batches = list(module.train_dataloader())
    assert len(batches) == 5
    for batch in batches:
        rows = batch["label"].view(4, 5)
        assert (rows == rows[:, :1]).all()
        assert len(set(rows[:, 0].tolist())) == 4
        assert len(set(batch["id"].tolist())) == 20
    once, again = (torch.cat([b["id"] for b in module.val_dataloader()]) for _ in range(2))
    assert torch.equal(once, again)
    assert len(once) == 2 * 3 * 5


def test_more_classes_in_an_episode_than_there_are_is_told_with_the_split():
    module = data(draw="episodes", n_way=4, n_shot=1, n_query=1, eval_way=5)
    with pytest.raises(ConfigurationError, match=r"the val split of the generated sketches \(data.eval_way.*5"):
        module.val_dataloader()


def test_views_of_changed_strokes_differ_and_show_the_sketch():
    module = data(stroke_augment=StrokeAugment())
    batch = next(iter(module.train_dataloader()))
    assert "points" in batch
    moved = module.on_after_batch_transfer(batch, 0)
    views, image = moved["views"], moved["image"]
    assert views.shape == (2, 18, 1, 16, 16)
    assert "points" not in moved
    assert (views[0] - views[1]).abs().mean() > 0.01
    # of its own sketch a view has more than of another
    own = (views[0] * image).sum()
    assert own > (views[0] * image.roll(5, 0)).sum()


def test_validation_has_no_strokes_to_change():
    assert "points" not in next(iter(data(stroke_augment=StrokeAugment()).val_dataloader()))


def test_strokes_of_pictures_cannot_be_changed(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        for i in range(3):
            pixels = np.full((20, 20), 255, dtype=np.uint8)
            pixels[5 : 8 + i, 4:16] = 0
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    module = SketchDataModule(str(tmp_path), size=16, stroke_augment=StrokeAugment())
    with pytest.raises(ConfigurationError, match="stroke_augment changes strokes.*data.stroke_augment=null"):
        module.setup()
    read = SketchDataModule(str(tmp_path), size=16, batch_size=2)
    read.setup()
    assert read.identity()["sketches"] == 9
    # ink 1 on paper 0, whatever the file has
    assert 0 < next(iter(read.val_dataloader()))["image"].mean() < 0.5


def test_the_same_settings_are_the_same_sketches_and_the_identity_says_which():
    one, other = data(), data()
    one.setup()
    other.setup()
    assert np.array_equal(one._sketches.images, other._sketches.images)
    identity = one.identity()
    assert identity["source"].startswith("TOY")
    assert identity["splits"] == {"train": 54, "val": 18, "test": 18}
    assert identity["classes"] == {"train": 9, "val": 3, "test": 3}


def test_left_out_sketches_are_not_trained_on(capsys):
    module = data(leave_out=[0, 5])
    kept = {i for batch in module.train_dataloader() for i in batch["id"].tolist()}
    gone = {module.split_indices["train"][i] for i in (0, 5)}
    assert not kept & gone
    assert "left out 2 training sketches; 52 are left" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"split": "klass"}, "split='klass'"),
        ({"format": "imags"}, "images"),
        ({"draw": "episode"}, "episodes"),
        ({"fault": "blank"}, "alpha_lost"),
        ({"fault": "raw", "stroke_augment": StrokeAugment()}, "exclude each other"),
        ({"batch_size": 1}, "batch_size=1"),
        ({"n_way": 1}, "n_way=1"),
        ({"n_query": 0}, "n_query=0"),
        ({"per_class": 1}, "per_class=1"),
        ({"line_width": 0.0}, "line_width=0.0"),
        ({"invert": "no"}, "invert='no'"),
        ({"path": 3}, "path=3"),
        ({"format": "tuberlin"}, "format='tuberlin' is not allowed. Allowed: auto. There is no path: data.path=FOLDER"),
        ({"split": "group"}, "Generated sketches have no groups; data.path=FOLDER"),
        ({"predict_on": "train"}, "predict_on='train'"),
        ({"stroke_augment": torch.nn.Identity()}, "stroke_augment"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        data(**arguments)


def test_an_empty_split_is_told_with_what_there_is():
    with pytest.raises(ConfigurationError, match="val"):
        data(val=0.0).setup()


def unlabelled(folder, n=12):
    """Pictures beside each other in one folder, as somebody has them who has no classes."""
    folder.mkdir()
    for i in range(n):
        page = np.full((16, 16), 255, dtype=np.uint8)
        page[i : i + 3, 2:12] = 0
        Image.fromarray(page).save(folder / f"{i:02d}.png")
    return str(folder)


def test_the_digits_need_no_path():
    assert data(format="digits").path == "digits"
    assert data().path is None


def test_a_folder_without_classes_is_predicted_as_a_whole_and_in_order(tmp_path):
    module = SketchDataModule(unlabelled(tmp_path / "flat"), size=16, batch_size=5, predict_on="all")
    module.setup("predict")
    batches = list(module.predict_dataloader())
    assert torch.cat([batch["id"] for batch in batches]).tolist() == list(range(12))
    # ink is one bar a picture, three lines below each other, the first at the line of its number
    assert [int(batch["image"][0, 0].sum(1).argmax()) for batch in batches] == [0, 5, 10]


def test_what_was_opened_to_be_predicted_is_split_to_be_trained_on():
    module = data(predict_on="all")
    module.setup("predict")
    assert len(module.predict_dataloader().dataset) == 90
    module.setup("fit")
    assert {name: len(where) for name, where in module.split_indices.items()} == {"train": 54, "val": 18, "test": 18}
    assert len(module.predict_dataloader().dataset) == 90


def test_a_folder_without_classes_says_what_cannot_be_measured(tmp_path, capsys):
    folder = unlabelled(tmp_path / "flat")
    SketchDataModule(folder, size=16, split="samples").setup()
    assert "objective.metric=val/loss" in capsys.readouterr().out
    with pytest.raises(ConfigurationError, match="data.split=samples"):
        SketchDataModule(folder, size=16).setup()


def test_validation_batches_mix_classes_in_the_same_order_every_time():
    module = data(batch_size=9)
    once, again = (torch.cat([batch["id"] for batch in module.val_dataloader()]).tolist() for _ in range(2))
    assert once == again
    assert once != sorted(once)
    assert sorted(once) == sorted(module.split_indices["val"])


def test_left_out_sketches_are_in_no_training_episode():
    module = data(draw="episodes", n_way=3, n_shot=1, n_query=2, n_episodes=60, leave_out=[0, 7, 20])
    drawn = [batch for batch in module.train_dataloader()]
    gone = {module.split_indices["train"][i] for i in (0, 7, 20)}
    assert not gone & {i for batch in drawn for i in batch["id"].tolist()}
    assert all((batch["label"].view(3, 3) == batch["label"].view(3, 3)[:, :1]).all() for batch in drawn)
