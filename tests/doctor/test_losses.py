"""The loss of each step, whoever makes the steps, against numbers that the module was told to return."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from stablelit.doctor import TrainingDoctor
from stablelit.doctor.losses import TrainingLosses
from tests.doctor.carrying import Little, Manual, alone, curve, fit, loss_of


@pytest.fixture(autouse=True)
def _bare(monkeypatch):
    alone(monkeypatch)


def losses_of(module, **kwargs):
    doctor = TrainingDoctor()
    fit(doctor, module, **kwargs)
    return {name: curve(doctor, name) for name in doctor.evidence.curves if name.startswith("loss")}


def test_each_step_has_its_loss():
    assert losses_of(Little()) == {"loss": [(i, loss_of(i)) for i in range(6)]}


def test_accumulated_losses_are_means_and_the_last_window_is_shorter():
    got = losses_of(Little(), batches=10, accumulate_grad_batches=4)["loss"]
    windows = [range(4), range(4, 8), range(8, 10)]
    assert got == [(step, sum(map(loss_of, window)) / len(window)) for step, window in enumerate(windows)]


def test_accumulation_that_changes_from_epoch_to_epoch_is_multiplied_back():
    from lightning.pytorch.callbacks import GradientAccumulationScheduler

    doctor = TrainingDoctor()
    fit([doctor, GradientAccumulationScheduler({0: 1, 1: 2})], batches=4, max_epochs=2)
    pairs = [(loss_of(0) + loss_of(1)) / 2, (loss_of(2) + loss_of(3)) / 2]
    assert [value for _, value in curve(doctor, "loss")] == [*map(loss_of, range(4)), *pairs]


class Returns(Little):
    def __init__(self, returned):
        super().__init__()
        self.returned = returned

    def training_step(self, batch, batch_idx):
        return self.returned(self.value(batch, batch_idx), batch_idx)


@pytest.mark.parametrize(
    "returned",
    [
        pytest.param(lambda loss, i: {"loss": loss, "more": [1, {"a": "b"}]}, id="dict"),
        pytest.param(lambda loss, i: loss.reshape(1), id="one-element"),
        pytest.param(lambda loss, i: loss.double(), id="double"),
    ],
)
def test_whatever_form_it_is_returned_in(returned):
    assert losses_of(Returns(returned))["loss"] == [(i, loss_of(i)) for i in range(6)]


def test_a_batch_without_a_loss_has_no_point():
    got = losses_of(Returns(lambda loss, i: None if i % 2 else loss))["loss"]
    assert got == [(i, loss_of(i)) for i in (0, 2, 4)]


def test_none_in_a_window_leaves_the_mean_of_the_others():
    got = losses_of(Returns(lambda loss, i: None if i == 1 else loss), batches=2, accumulate_grad_batches=2)
    assert got["loss"] == [(0, loss_of(0))]


def test_a_closure_that_is_called_often_is_one_step():
    class Newton(Little):
        def configure_optimizers(self):
            return torch.optim.LBFGS(self.parameters(), max_iter=4)

    assert [step for step, _ in losses_of(Newton())["loss"]] == list(range(6))


def test_values_that_are_not_finite_are_kept_as_they_are():
    strange = {1: math.nan, 2: math.inf}
    got = losses_of(Returns(lambda loss, i: loss + strange.get(i, 0.0)))["loss"]
    assert math.isnan(got[1][1])
    assert got[2][1] == math.inf
    assert got[3][1] == loss_of(3)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_manual_steps_whose_module_returns_nothing(precision):
    module = Manual(lambda i: [loss_of(i), 0])
    assert losses_of(module, precision=precision) == {"loss": [(i, loss_of(i)) for i in range(6)]}


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        pytest.param(lambda i: torch.tensor(loss_of(i)), [loss_of(i) for i in range(6)], id="loss"),
        pytest.param(lambda i: {"loss": torch.tensor(loss_of(i))}, [loss_of(i) for i in range(6)], id="dict"),
        pytest.param(lambda i: torch.zeros(2, 3), [1.0] * 6, id="predictions"),
        pytest.param(lambda i: {"logits": torch.zeros(2)}, [1.0] * 6, id="dict-without-loss"),
        pytest.param(lambda i: None, [1.0] * 6, id="nothing"),
    ],
)
def test_manual_steps_whose_module_returns_something(returned, expected):
    got = losses_of(Manual(lambda i: [1.0, 0], returned))
    assert {name: [value for _, value in points] for name, points in got.items()} == {"loss": expected}


def test_a_joint_loss_of_two_optimizers_is_one_curve():
    got = losses_of(Manual(lambda i: [loss_of(i), 0, 1], optimizers=2))
    assert got == {"loss": [(i, loss_of(i)) for i in range(6)]}


ALTERNATING = {
    "both-in-a-batch": (lambda i: [1.0, 0, 2.0, 1], {0: [1.0] * 6, 1: [2.0] * 6}),
    "in-turns": (lambda i: [[1.0, 0], [2.0, 1]][i % 2], {0: [1.0] * 3, 1: [2.0] * 3}),
    "one-more-often": (lambda i: [1.0, 0, 2.0, 1] if i % 3 == 2 else [1.0, 0], {0: [1.0] * 6, 1: [2.0] * 2}),
    "real-and-fake": (lambda i: [1.0, 3.0, 0, 2.0, 1], {0: [1.0] * 6, 1: [3.0] * 6, 2: [2.0] * 6}),
}


@pytest.mark.parametrize("returns", [None, lambda i: torch.tensor(9.0)], ids=["nothing", "their-sum"])
@pytest.mark.parametrize(("plan", "expected"), ALTERNATING.values(), ids=ALTERNATING)
def test_losses_of_optimizers_of_their_own_are_never_mixed(plan, expected, returns):
    got = losses_of(Manual(plan, returns, optimizers=2))
    assert {name: [v for _, v in points] for name, points in got.items()} == {
        f"loss/{k}": v for k, v in expected.items()
    }


def test_in_turns_of_epochs_what_came_first_gets_its_number():
    module = Manual(lambda i: [1.0, 0] if module.current_epoch == 0 else [2.0, 1], optimizers=2)
    got = losses_of(module, max_epochs=2, batches=2)
    assert got == {"loss/0": [(0, 1.0), (1, 1.0)], "loss/1": [(2, 2.0), (3, 2.0)]}


def test_passes_of_one_optimizer_are_apart_where_nothing_is_returned():
    assert set(losses_of(Manual(lambda i: [1.0, 2.0, 0]))) == {"loss/0", "loss/1"}
    # what is returned is the loss
    assert set(losses_of(Manual(lambda i: [1.0, 2.0, 0], lambda i: torch.tensor(3.0)))) == {"loss"}


def test_steps_that_are_rarer_than_batches():
    got = losses_of(Manual(lambda i: [loss_of(i), 0] if i % 2 else [loss_of(i)]))
    assert got == {"loss": [(i, loss_of(i)) for i in range(6)]}


def test_backward_without_lightning_and_nothing_returned_is_no_curve():
    class Own(Manual):
        def training_step(self, batch, batch_idx):
            self.value(batch, 0).backward()
            self.optimizers().step()

    assert losses_of(Own(None)) == {}


def test_a_pass_over_a_vector_is_no_loss():
    class Vector(Manual):
        def training_step(self, batch, batch_idx):
            self.manual_backward(self.layer(batch).squeeze(1), gradient=torch.ones(2))
            self.optimizers().step()

    assert losses_of(Vector(None)) == {}


def test_a_scaled_pass_is_unscaled():
    from lightning.pytorch.plugins.precision import MixedPrecision

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    got = losses_of(Manual(lambda i: [loss_of(i), 0]), plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    assert got["loss"] == [(i, loss_of(i)) for i in range(6)]


def test_a_resumed_run_gives_the_same_passes_the_same_curves(tmp_path):
    plan = ALTERNATING["in-turns"][0]
    one = TrainingDoctor(every_n_steps=1)
    # the second optimizer is first after the resume
    trainer = fit(one, Manual(plan, optimizers=2), batches=6, limit_train_batches=3, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    other = TrainingDoctor(every_n_steps=1)
    swapped = Manual(lambda i: plan(i + 1), optimizers=2)
    fit(other, swapped, ckpt_path=tmp_path / "a.ckpt", limit_train_batches=3, max_epochs=2)
    assert curve(other, "loss/0") == [(0, 1.0), (2, 1.0), (4, 1.0)]
    assert curve(other, "loss/1") == [(1, 2.0), (3, 2.0), (5, 2.0)]


def test_what_is_on_a_device_waits_for_a_look(monkeypatch):
    from stablelit.doctor import losses as room

    monkeypatch.setattr(room, "_on_device", lambda value: isinstance(value, torch.Tensor))
    held, curves = TrainingLosses(), {}
    for step in range(3):
        held.batch({"loss": torch.tensor(float(step))}, True, 1, True, step, 1)
    held.batch({"loss": torch.tensor(math.nan)}, True, 1, True, 3, 1)
    assert held.is_finite
    held.flush(curves)
    assert not held.is_finite
    assert curves["loss"].values.tolist()[:3] == [0.0, 1.0, 2.0]
    held.flush(curves)
    assert len(curves["loss"]) == 4


def test_what_is_on_the_cpu_is_known_at_once():
    held, curves = TrainingLosses(), {}
    for step, value in enumerate((3.0, math.inf, 2.0)):
        held.batch({"loss": torch.tensor(value)}, True, 1, True, step, 1)
        assert held.is_finite == math.isfinite(value)
    held.flush(curves)
    assert curves["loss"].values.tolist() == [3.0, math.inf, 2.0]


def test_order_is_kept_where_accumulation_ends_between_two_readings():
    held, curves = TrainingLosses(), {}
    for i in range(4):
        held.batch({"loss": torch.tensor(0.5)}, True, 2, i % 2 == 1, i // 2, 1)
    held.batch({"loss": torch.tensor(3.0)}, True, 1, True, 2, 1)
    held.flush(curves)
    assert list(zip(curves["loss"].steps, curves["loss"].values, strict=True)) == [(0, 1.0), (1, 1.0), (2, 3.0)]


def test_nothing_of_the_graph_is_kept():
    held = TrainingLosses()
    layer = nn.Linear(2, 1)
    loss = layer(torch.ones(1, 2)).sum()
    held.backward(loss)
    held.batch(loss, False, 1, True, 0, 1)
    assert not any(value.requires_grad for _, losses in held._waiting for _, value in losses)
