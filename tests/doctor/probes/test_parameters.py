"""Faults of parameters are seen in the first steps, and what looks like them on purpose is not."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.probes.parameters import ParameterProbe
from stablelit.doctor.rules.parameters import PARAMETER_RULES
from tests.doctor.probes.loops import batches, loop, mlp


def found(evidence: Evidence) -> list[str]:
    told = [rule.check(evidence) for rule in PARAMETER_RULES if rule.can_check(evidence)]
    return [finding.name for finding in told if finding is not None and finding.severity != "info"]


def test_a_sound_run_is_left_alone() -> None:
    evidence = loop(ParameterProbe(), mlp(), steps=30)
    assert found(evidence) == []
    assert evidence.parameters is not None
    assert evidence.parameters.ascent is not None
    assert evidence.parameters.ascent < 0


def test_norms_are_those_of_gradients_steps_and_weights() -> None:
    """The same numbers from copies taken around one step of SGD, where the step is rate times gradient."""
    net = mlp()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    twin = copy.deepcopy(net)
    evidence = loop(ParameterProbe(), net, optimizer, steps=1)
    inputs, labels = batches(1)[0]
    F.cross_entropy(twin(inputs), labels).backward()
    gradients = [p.grad for p in twin.parameters() if p.grad is not None]
    total = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    matrices = [p for p in twin.parameters() if p.ndim == 2]
    ratio = max(0.1 * float(p.grad.norm() / p.detach().norm()) for p in matrices if p.grad is not None)
    assert evidence.curve("grad_norm").last == pytest.approx(total, rel=1e-4)
    assert evidence.curve("update_ratio").last == pytest.approx(ratio, rel=1e-4)
    assert evidence.curve("weight_norm").last == pytest.approx(
        math.sqrt(sum(float(p.detach().square().sum()) for p in matrices)), rel=1e-4
    )


def test_a_step_of_weights_that_are_next_to_nil_is_compared_with_weights_as_torch_draws_them() -> None:
    drawn, small = mlp(), mlp()
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.mul_(1e-4)
    of = {}
    for name, net in (("drawn", drawn), ("small", small)):
        evidence = loop(ParameterProbe(), net, torch.optim.Adam(net.parameters(), 1e-2), steps=1)
        of[name] = evidence.curve("update_ratio").last, evidence.curve("relative_step").last
    # the uniform distribution of torch.nn.Linear has just this variance
    assert of["drawn"][1] == pytest.approx(of["drawn"][0], rel=0.2)
    assert of["small"][0] > 100
    # units that get no gradient of a size that Adam sees do not move
    assert 0.5 * of["drawn"][1] < of["small"][1] < 1.2 * of["drawn"][1]


def test_what_no_optimizer_holds_is_named_after_one_step() -> None:
    net = mlp()
    evidence = loop(ParameterProbe(), net, torch.optim.Adam(net[4].parameters(), 1e-2), steps=1)
    assert found(evidence) == ["parameters-missing-from-optimizer"]
    assert evidence.parameters is not None
    assert set(evidence.parameters.missing) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_an_optimizer_of_a_copy_holds_others() -> None:
    net = mlp()
    evidence = loop(ParameterProbe(), net, torch.optim.Adam(copy.deepcopy(net).parameters(), 1e-2), steps=1)
    assert found(evidence) == ["parameters-missing-from-optimizer"]
    assert evidence.parameters is not None
    assert evidence.parameters.foreign == 6


@pytest.mark.parametrize("how", ["frozen", "no_grad", "eval", "moved by hand"])
def test_what_is_left_out_on_purpose_is_silent(how: str) -> None:
    net = mlp()
    body = net[:4]
    if how == "frozen":
        body.requires_grad_(False)
    if how == "eval":
        body.eval()

    def loss_of(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.set_grad_enabled(how != "no_grad"):
            hidden = body(x)
        return F.cross_entropy(net[4](hidden), y)  # type: ignore[index]

    def by_hand(step: int, net: nn.Module) -> None:
        if how == "moved by hand":
            for p in body.parameters():
                p.data.sub_(0.01)

    optimizer = torch.optim.Adam(net[4].parameters(), 1e-2)
    assert found(loop(ParameterProbe(), net, optimizer, loss_of=loss_of, before_batch=by_hand)) == []


def test_a_layer_thawed_later_with_a_group_of_its_own_is_silent() -> None:
    net = mlp()
    net[0].requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 1e-2)

    def thaw(step: int, net: nn.Module) -> None:
        if step == 3:
            net[0].requires_grad_(True)  # type: ignore[index, operator]
            optimizer.add_param_group({"params": list(net[0].parameters())})  # type: ignore[index]

    assert found(loop(ParameterProbe(), net, optimizer, steps=8, before_batch=thaw)) == []


@pytest.mark.parametrize("cut", ["detach", "argmax"])
def test_a_cut_before_the_head_is_found_between_two_names(cut: str) -> None:
    net = mlp()

    def loss_of(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        hidden = net[:4](x)  # type: ignore[index]
        hidden = hidden.detach() if cut == "detach" else F.one_hot(hidden.argmax(1), 12).float()
        return F.cross_entropy(net[4](hidden), y)  # type: ignore[index]

    evidence = loop(ParameterProbe(), net, steps=2, loss_of=loss_of)
    assert found(evidence) == ["parameters-without-gradient"]
    assert evidence.parameters is not None
    assert (evidence.parameters.cut_last, evidence.parameters.cut_next) == ("2", "4")


@pytest.mark.parametrize("kind", ["unused head", "target network", "used later"])
def test_parameters_that_need_no_gradient_yet_are_silent(kind: str) -> None:
    net = mlp()
    extra = copy.deepcopy(net) if kind == "target network" else nn.Linear(12, 2)
    both = nn.ModuleDict({"net": net, "extra": extra})
    count = iter(range(100))

    def loss_of(both: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if kind == "target network":
            with torch.no_grad():
                extra(x)
        hidden = net[:4](x)
        loss = F.cross_entropy(net[4](hidden), y)
        aside = extra(hidden) if kind != "target network" else hidden
        return loss + 0.1 * aside.square().mean() if kind == "used later" and next(count) > 2 else loss

    assert found(loop(ParameterProbe(), both, loss_of=loss_of)) == []


def test_weights_that_are_put_back_do_not_move() -> None:
    net = mlp()
    kept = {name: p.detach().clone() for name, p in net.named_parameters()}

    def loss_of(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        net.load_state_dict(kept)
        return F.cross_entropy(net(x), y)

    assert found(loop(ParameterProbe(), net, loss_of=loss_of)) == ["parameters-do-not-move"]


def test_low_precision_is_told_by_single_numbers() -> None:
    small, usual = (
        loop(
            ParameterProbe(),
            net := mlp().bfloat16(),
            torch.optim.Adam(net.parameters(), rate),
            steps=30,
            loss_of=lambda net, x, y: F.cross_entropy(net(x.bfloat16()).float(), y),
        )
        for rate in (1e-6, 1e-2)
    )
    assert found(small) == ["parameters-do-not-move"]
    assert found(usual) == []
    assert small.parameters is not None
    assert usual.parameters is not None
    assert small.parameters.still_numbers > 3 * usual.parameters.still_numbers + 0.5


def test_gradients_that_stay_are_seen_in_the_third_step() -> None:
    assert found(loop(ParameterProbe(), mlp(), steps=3, zero_grad=False)) == ["gradients-not-zeroed"]


def test_zeroed_gradients_that_are_not_none_are_clean() -> None:
    net = mlp()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    set_to_zero = optimizer.zero_grad
    optimizer.zero_grad = lambda set_to_none=True: set_to_zero(set_to_none=False)  # type: ignore[method-assign]
    assert found(loop(ParameterProbe(), net, optimizer)) == []


def test_two_losses_accumulated_by_hand_are_clean() -> None:
    net = mlp()
    net.automatic_optimization = False  # type: ignore[assignment]
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    trainer = SimpleNamespace(optimizers=[optimizer], accumulate_grad_batches=1, lr_scheduler_configs=[])
    for clears in (True, False):
        probe, evidence = ParameterProbe(), Evidence()
        probe.begin(trainer, net, evidence)
        for step, (x, y) in enumerate(batches(5)):
            probe.batch_start(trainer, net, (x, y), step)
            if clears:
                optimizer.zero_grad()
            for half in (slice(0, 8), slice(8, 16)):
                loss = F.cross_entropy(net(x[half]), y[half])
                probe.before_backward(trainer, net, loss, step)
                loss.backward()
                probe.after_backward(trainer, net, step)
            probe.before_step(trainer, net, optimizer, step)
            optimizer.step()
            probe.batch_end(trainer, net, None, (x, y), step)
            probe.tell(evidence)
        assert found(evidence) == ([] if clears else ["gradients-not-zeroed"])


def test_a_rate_of_zero_is_told_and_a_warm_up_from_zero_is_not() -> None:
    net = mlp()
    assert found(loop(ParameterProbe(), net, torch.optim.Adam(net.parameters(), 0.0))) == ["learning-rate-zero"]
    optimizer = torch.optim.Adam(net.parameters(), 0.0)

    def warm(step: int, net: nn.Module) -> None:
        optimizer.param_groups[0]["lr"] = 1e-3 * step

    assert found(loop(ParameterProbe(), net, optimizer, before_batch=warm)) == []
    assert found(loop(ParameterProbe(), net, torch.optim.Adam(net.parameters(), 0.0), schedules=["any"])) == []


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_equal_units_are_told_and_a_head_at_zero_is_not(value: float) -> None:
    net = mlp(12, 12, act=nn.Tanh)
    for part in (net[0], net[2]) if value else (net[0], net[2], net[4]):
        nn.init.constant_(part.weight, value)
        nn.init.zeros_(part.bias)
    if value:
        nn.init.constant_(net[4].weight, value)
    assert "units-interchangeable" in found(loop(ParameterProbe(), net))
    healthy = mlp()
    nn.init.zeros_(healthy[4].weight)
    assert found(loop(ParameterProbe(), healthy)) == []


def test_steps_uphill_have_a_positive_cosine() -> None:
    net = mlp()
    up = loop(ParameterProbe(), net, torch.optim.SGD(net.parameters(), 0.1, maximize=True))
    assert up.parameters is not None
    assert up.parameters.ascent == pytest.approx(1.0, abs=1e-3)
    assert up.parameters.maximized_share == 1.0


def test_no_gradient_mode_or_random_number_is_touched() -> None:
    """The same training with and without a probe ends in the same weights."""
    with_probe, without = mlp(), mlp()
    torch.manual_seed(5)
    loop(ParameterProbe(), with_probe, steps=8)
    state = torch.get_rng_state()
    torch.manual_seed(5)
    optimizer = torch.optim.Adam(without.parameters(), 1e-2)
    for x, y in batches(8):
        optimizer.zero_grad()
        F.cross_entropy(without(x), y).backward()
        optimizer.step()
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(with_probe.parameters(), without.parameters(), strict=True))
