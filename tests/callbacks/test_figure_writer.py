from __future__ import annotations

import lightning.pytorch as pl
import pytest

from stablelit.callbacks import FigureWriter
from stablelit.errors import ConfigurationError, ContractError
from tests.contract.modules import make_module, make_trainer, train_loader, val_loader

CURVES = {"loss": [["val/loss", "train_kl"], ["val/weight"]]}


def fit(directory, callback, **kwargs):
    trainer = make_trainer(directory, [callback], **kwargs)
    trainer.fit(make_module(), train_loader(), val_loader())
    return trainer


def test_the_modules_pictures_and_the_curves_are_files(tmp_path):
    fit(tmp_path, FigureWriter(curves=CURVES))
    files = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert set(files) == {"line.png", "loss.png"}
    assert all(content.startswith(b"\x89PNG") for content in files.values())


@pytest.mark.slow
def test_a_test_has_pictures_of_its_own(tmp_path):
    trainer = fit(tmp_path, FigureWriter(curves=CURVES))
    drawn = (tmp_path / "figures" / "line.png").read_bytes()
    (tmp_path / "figures" / "loss.png").unlink()
    trainer.test(trainer.lightning_module, val_loader(), verbose=False)
    files = {str(path.relative_to(tmp_path / "figures")) for path in (tmp_path / "figures").rglob("*.png")}
    assert files == {"line.png", "test/line.png"}
    assert (tmp_path / "figures" / "line.png").read_bytes() == drawn


def test_a_quick_look_leaves_no_pictures(tmp_path):
    trainer = fit(tmp_path, FigureWriter(curves=CURVES), fast_dev_run=True)
    trainer.test(trainer.lightning_module, val_loader(), verbose=False)
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.slow
def test_a_point_is_taken_at_every_epochs_end_but_not_in_the_sanity_check(tmp_path):
    callback = FigureWriter(curves=CURVES)
    trainer = fit(tmp_path, callback)
    state = callback.state_dict()
    assert state["metrics"] == ["train_kl", "val/loss", "val/weight"]
    assert [point[0] for point in state["points"]] == [6, 12, 18]
    assert state["points"][-1][2] == pytest.approx(float(trainer.callback_metrics["val/loss"]))


@pytest.mark.slow
def test_a_point_has_the_training_mean_of_its_own_epoch(tmp_path):
    callback = FigureWriter(curves={"loss": [["train/loss_epoch"]]})
    seen = []

    class Watch(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            seen.append(float(trainer.callback_metrics["train/loss_epoch"]))

    make_trainer(tmp_path, [callback, Watch()]).fit(make_module(), train_loader(), val_loader())
    assert [point[1] for point in callback.state_dict()["points"]] == seen


@pytest.mark.slow
def test_a_validation_inside_an_epoch_has_a_point_of_its_own(tmp_path):
    callback = FigureWriter(curves=CURVES)
    fit(tmp_path, callback, val_check_interval=3)
    assert [point[0] for point in callback.state_dict()["points"]] == [3, 6, 9, 12, 15, 18]


@pytest.mark.slow
def test_the_panels_show_the_points(tmp_path):
    callback = FigureWriter(curves=CURVES, module_figures=False)
    fit(tmp_path, callback)
    figure = callback._draw_curves(CURVES["loss"])
    drawn = {line.get_label(): list(line.get_ydata()) for axis in figure.axes for line in axis.get_lines()}
    columns = list(zip(*callback.state_dict()["points"], strict=True))
    assert drawn == {"train_kl": list(columns[1]), "val/loss": list(columns[2]), "val/weight": list(columns[3])}


@pytest.mark.slow
def test_tensorboard_gets_them_too(tmp_path):
    from lightning.pytorch.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer = make_trainer(tmp_path, [FigureWriter(curves=CURVES)], logger=logger)
    trainer.fit(make_module(), train_loader(), val_loader())
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert set(events.Tags()["images"]) == {"line", "loss"}


def test_a_module_without_pictures_is_refused_or_left_alone(tmp_path):
    module = make_module(kind="logging")
    with pytest.raises(ContractError, match=r"LoggingVAE has no figures\(\).*module_figures=False"):
        make_trainer(tmp_path, [FigureWriter()]).fit(module, train_loader())
    make_trainer(tmp_path, [FigureWriter(module_figures=False)]).fit(module, train_loader())


@pytest.mark.parametrize("arguments", [{"every_n_epochs": 0}, {"curves": {"a": "val/loss"}}, {"curves": {"a": ["b"]}}])
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ConfigurationError, match="FigureWriter: "):
        FigureWriter(**arguments)
