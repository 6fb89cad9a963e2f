from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError, ContractError, DataError
from stablelit.families.neutrinos import NeutrinoDirection
from stablelit.families.neutrinos.angles import angle_between, direction_of, unit_vector
from stablelit.families.neutrinos.event_batch import assemble
from stablelit.families.neutrinos.losses import von_mises_fisher_nll

TINY = {"name": "hierarchical", "d_model": 16, "sensor_layers": 1, "event_layers": 2, "heads": 2, "feedforward": 2.0}
N_EVENTS = 12


@pytest.fixture
def batch(random_events, detector):
    made = assemble(random_events(N_EVENTS), np.arange(N_EVENTS), *detector)
    rng = np.random.default_rng(1)
    made["energy"] = torch.from_numpy(rng.uniform(2, 4, N_EVENTS).astype(np.float32))
    made["is_track"] = torch.from_numpy((rng.random(N_EVENTS) < 0.5).astype(np.float32))
    return made


def made(**arguments) -> NeutrinoDirection:
    torch.manual_seed(0)
    module = NeutrinoDirection(**{"network": TINY, "augment": (), **arguments})
    module.log_dict = lambda *args, **kwargs: None
    return module


def test_a_step_returns_the_terms_of_each_event_live(batch):
    module = made()
    out = module.training_step(batch, 0)
    assert {name: tuple(value.shape) for name, value in out.items()} == {"loss": (), "vmf": (12,), "angle": (12,)}
    assert all(value.requires_grad for value in out.values())
    f = module(batch)
    torch.testing.assert_close(out["vmf"], von_mises_fisher_nll(f, batch["direction"]))
    torch.testing.assert_close(out["angle"], angle_between(unit_vector(f), batch["direction"]))


def test_the_loss_is_the_sum_of_its_terms_by_their_weights(batch):
    weights = {"vmf": 0.5, "angle": 2.0, "energy": 0.3, "track": 0.7}
    out = made(**{f"{name}_weight": weight for name, weight in weights.items()}).training_step(batch, 0)
    expected = sum(weight * out[name].mean() for name, weight in weights.items())
    torch.testing.assert_close(out["loss"], expected)


def test_an_event_whose_energy_is_not_known_does_not_enter_the_mean(batch):
    batch["energy"][3:] = torch.nan
    out = made(energy_weight=1.0, vmf_weight=1.0).training_step(batch, 0)
    expected = out["vmf"].mean() + out["energy"][:3].mean()
    torch.testing.assert_close(out["loss"], expected)


def test_weights_are_filled_in_place_and_enter_once(batch):
    module = made()
    module.angle_weight.fill_(0.25)
    out = module.training_step(batch, 0)
    torch.testing.assert_close(out["loss"], out["vmf"].mean() + 0.25 * out["angle"].mean())
    assert not [name for name in module.state_dict() if name.endswith("_weight") and "." not in name]


def test_the_operations_of_a_step_are_counted_before_it(batch):
    module = made()
    module.training_step(batch, 0)
    assert module.flops_per_batch == module.network.flops_per_batch(batch) > 0


def test_training_sees_turned_events_and_validation_does_not(batch):
    module = made(augment=["rotate"])
    straight = module.terms(batch)[0]["vmf"]
    assert not torch.equal(module.training_step(batch, 0)["vmf"], straight)
    assert torch.equal(module.validation_step(batch, 0)["vmf"], straight)


@pytest.mark.parametrize("name", ["energy", "track"])
def test_a_head_is_there_where_its_weight_is_and_is_trained(batch, name):
    module = made(**{f"{name}_weight": 1.0})
    assert list(module.other_heads) == [name]
    out = module.training_step(batch, 0)
    out[name].mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.other_heads[name].layers[-1].parameters())
    assert not made().other_heads


@pytest.mark.parametrize(("name", "key"), [("energy", "energy"), ("track", "is_track")])
def test_a_head_without_its_truth_is_refused_with_what_is_there(batch, name, key):
    del batch[key]
    with pytest.raises(ContractError, match=rf"{name}_weight is 2, but the data have no {key}.*model\.{name}_weight=0"):
        made(**{f"{name}_weight": 2.0}).training_step(batch, 0)


@pytest.mark.parametrize("step", ["training_step", "validation_step", "test_step"])
def test_events_without_a_truth_are_refused_with_the_door_that_takes_them(batch, step):
    del batch["direction"]
    with pytest.raises(DataError, match=r"no azimuth and zenith.*stablelit\.predict"):
        getattr(made(), step)(batch, 0)


def test_events_without_a_truth_are_predicted(batch):
    module = made().eval()
    with torch.no_grad():
        f = module(batch)
        del batch["direction"]
        out = module.predict_step(batch, 0)
    assert torch.equal(out["event_id"], batch["event_id"])
    torch.testing.assert_close(direction_of(out["azimuth"], out["zenith"]), unit_vector(f), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out["kappa"], f.norm(dim=1))
    assert ((out["azimuth"] >= 0) & (out["azimuth"] < 2 * math.pi)).all()
    assert ((out["zenith"] >= 0) & (out["zenith"] <= math.pi)).all()


def test_an_event_predicted_twice_is_refused(batch, tmp_path):
    module = made().eval()
    with torch.no_grad():
        one = module.predict_step(batch, 0)
    with pytest.raises(DataError, match="is there 2 times"):
        module.write_predictions([one, one], tmp_path / "s.csv")
    assert not (tmp_path / "s.csv").exists()


def test_sixteen_events_are_learned_by_heart(random_events, detector):
    """The post-mortem's own test of its network: a direction can be got out of it, whatever generalises."""
    batch = assemble(random_events(16, seed=5), np.arange(16), *detector)
    module = made()
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    errors = []
    for _ in range(60):
        optimizer.zero_grad()
        out = module.training_step(batch, 0)
        out["loss"].backward()
        optimizer.step()
        errors.append(float(out["angle"].detach().mean()))
    # a random guess is pi / 2 away, with a standard deviation of 0.17 for the mean of 16
    assert abs(errors[0] - math.pi / 2) < 0.5
    assert errors[-1] < 0.3


@pytest.mark.parametrize(
    "network", [TINY, {**TINY, "relative_bias": False}, {"name": "flat", "d_model": 16, "heads": 2}]
)
def test_a_step_in_bf16_has_finite_gradients_and_losses_in_float32(batch, network):
    module = made(network=network, energy_weight=1.0, track_weight=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module.training_step(batch, 0)
    assert {value.dtype for value in out.values()} == {torch.float32}
    out["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())
    exact = module.training_step(batch, 0)
    torch.testing.assert_close(out["loss"], exact["loss"], atol=0.05, rtol=0.05)


@pytest.mark.parametrize("form", ["atan2", "acos", "acos_clamped_inside"])
def test_every_form_of_the_angle_is_an_angle(batch, form):
    angle = made(angle_form=form).training_step(batch, 0)["angle"]
    torch.testing.assert_close(angle, made().training_step(batch, 0)["angle"], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "hierarchic"}, "Did you mean 'hierarchical'"),
        ({"network": {**TINY, "d_mode": 3}}, "Did you mean 'd_model'"),
        ({"network": 3}, "network=3"),
        ({"vmf_weight": -1.0}, "vmf_weight"),
        ({"vmf_weight": 0.0}, "Nothing would train the direction"),
        ({"vmf_weight": float("nan")}, "vmf_weight"),
        ({"energy_weight": "1"}, "energy_weight"),
        ({"angle_form": "acos_clampd_inside"}, "Did you mean 'acos_clamped_inside'"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"augment": ["rotat"]}, "Did you mean 'rotate'"),
        ({"augment": "mirror"}, "augment='mirror'"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"lr_schedule": 3}, "lr_schedule"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        NeutrinoDirection(**arguments)
