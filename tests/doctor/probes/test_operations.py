from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from stablelit.doctor.probes.operations import OperationProbe
from tests.doctor.probes.traced import Host, seeded, watch

X, CLASSES = seeded(8, 6), torch.arange(8) % 3


def linear(outputs: int) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, outputs)


def operations(step, network=None, batch=(X, CLASSES), batches=1):
    facts = watch(Host(network or linear(3), step), [batch] * batches).operations
    assert facts is not None
    return facts


def test_a_cross_entropy_is_read_with_its_value_its_leaf_and_what_made_its_logits() -> None:
    network = linear(3)
    facts = operations(lambda m, b: F.cross_entropy(m.network(b[0]), b[1]), network)
    (term,) = facts.terms
    logits = network(X)
    by_hand = -(logits.exp() / logits.exp().sum(1, keepdim=True))[torch.arange(8), CLASSES].log().mean()
    assert term.value == pytest.approx(by_hand.item(), rel=1e-5) == pytest.approx(facts.loss)
    assert (term.kind, term.alone, term.made_by, term.target_leaf) == ("cross_entropy", True, "linear", "batch[1]")
    assert (term.classes, term.candidates) == (3, 3.0)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_value_of_a_term_does_not_depend_on_how_it_is_reduced(reduction: str) -> None:
    facts = operations(lambda m, b: F.cross_entropy(m.network(b[0]), b[1], reduction=reduction).sum())
    mean = operations(lambda m, b: F.cross_entropy(m.network(b[0]), b[1]))
    assert facts.terms[0].value == pytest.approx(mean.terms[0].value, rel=1e-5)
    assert facts.terms[0].alone


@pytest.mark.parametrize("written", ["pow", "square", "product", "function", "power-operator"])
def test_a_squared_error_is_seen_however_it_is_written(written: str) -> None:
    y = seeded(8, 1, seed=1)

    def step(m: Host, b):
        gap = m.network(b[0]) - b[1]
        return {
            "pow": lambda: gap.pow(2).mean(),
            "square": lambda: gap.square().mean(),
            "product": lambda: (gap * gap).mean(),
            "function": lambda: F.mse_loss(m.network(b[0]), b[1]),
            "power-operator": lambda: (gap**2).mean(),
        }[written]()

    (term,) = operations(step, linear(1), (X, y)).terms
    assert (term.kind, term.alone, term.target_leaf) == ("mse", True, "batch[1]")
    assert term.target_mean == pytest.approx(float(y.mean()), abs=1e-6)
    assert term.target_std == pytest.approx(float(y.std(correction=0)), rel=1e-5)


def test_a_term_beside_another_is_not_the_whole_loss() -> None:
    facts = operations(
        lambda m, b: F.cross_entropy(m.network(b[0]), b[1]) + 0.1 * m.network.weight.square().sum(),
    )
    assert [term.alone for term in facts.terms] == [False]
    assert facts.whole is None


def test_views_between_softmax_and_loss_do_not_hide_it_and_an_operation_does() -> None:
    direct = operations(lambda m, b: F.cross_entropy(m.network(b[0]).softmax(-1).reshape(8, 3).squeeze(), b[1]))
    scaled = operations(lambda m, b: F.cross_entropy(m.network(b[0]).softmax(-1) * 30, b[1]))
    assert direct.terms[0].made_by == "softmax"
    assert scaled.terms[0].made_by == "mul"


def test_a_module_that_scales_its_own_input_is_judged_by_what_the_weights_get() -> None:
    raw = X * 100 + 128
    inside = operations(lambda m, b: F.cross_entropy(m.network((b[0] - 128) / 100), b[1]), batch=(raw, CLASSES))
    outside = operations(lambda m, b: F.cross_entropy(m.network(b[0]), b[1]), batch=(raw, CLASSES))
    assert inside.uses[0].rms == pytest.approx(float(X.square().mean().sqrt()), rel=1e-4)
    assert outside.uses[0].rms == pytest.approx(float(raw.square().mean().sqrt()), rel=1e-4)
    assert inside.uses[0].leaf == outside.uses[0].leaf == "batch[0]"


def test_a_norm_after_the_first_weights_is_seen() -> None:
    network = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    (use,) = operations(lambda m, b: F.cross_entropy(m.network(b[0]), b[1]), network).uses
    assert use.is_normalised
    assert (use.operation, use.followed_by) == ("linear", "batch_norm")


def test_a_root_of_zero_is_found_with_the_gradient_that_it_spoils() -> None:
    def step(m: Host, b):
        gap = m.network(b[0]) - m.network(b[0])
        return gap.square().sum(1).sqrt().mean()

    facts = operations(step)
    (edge,) = facts.edges
    assert (edge.operation, edge.argument, edge.count, edge.infinite) == ("sqrt", 0.0, 8, False)
    assert facts.gradient_finite is False
    assert math.isfinite(facts.loss)


def test_a_root_of_zero_that_no_gradient_passes_is_nothing() -> None:
    facts = operations(lambda m, b: F.cross_entropy(m.network(b[0]), b[1]) + (b[0] * 0).sqrt().sum())
    assert facts.edges == []


def test_a_column_against_a_row_is_seen_and_a_distance_of_all_pairs_is_not() -> None:
    y = seeded(8, seed=2)
    wrong = operations(lambda m, b: (m.network(b[0]) - b[1]).square().mean(), linear(1), (X, y))
    assert [(b.prediction_shape, b.target_shape) for b in wrong.broadcasts] == [((8, 1), (8,))]
    pairs = operations(lambda m, b: (m.network(b[0]) - m.network(b[0]).T).square().mean(), linear(1), (X, y))
    right = operations(lambda m, b: (m.network(b[0])[:, 0] - b[1]).square().mean(), linear(1), (X, y))
    each = operations(lambda m, b: (m.network(b[0]) - b[1][None]).square().mean(), linear(1), (X, y))
    assert pairs.broadcasts == right.broadcasts == each.broadcasts == []


@pytest.mark.parametrize(
    ("name", "samples"), [("sum", 8), ("sum-over-batch-size", 0), ("sum-of-features", 0), ("function", 8), ("mean", 0)]
)
def test_a_sum_over_samples_is_told_from_one_over_features(name: str, samples: int) -> None:
    y = seeded(8, 3, seed=3)
    losses = {
        "sum": lambda p, y: (p - y).square().sum(),
        "sum-over-batch-size": lambda p, y: (p - y).square().sum() / len(y),
        "sum-of-features": lambda p, y: (p - y).square().sum(-1).mean(),
        "function": lambda p, y: F.mse_loss(p, y, reduction="sum"),
        "mean": lambda p, y: F.mse_loss(p, y),
    }
    assert operations(lambda m, b: losses[name](m.network(b[0]), b[1]), batch=(X, y)).summed_over == samples


def test_a_contrastive_loss_counts_the_logits_that_are_not_masked_out() -> None:
    def nt_xent(m: Host, b):
        z = F.normalize(m.network(b[0]))
        similarity = z @ z.T / 0.5
        similarity = similarity.masked_fill(torch.eye(8, dtype=torch.bool), float("-inf"))
        return F.cross_entropy(similarity, torch.arange(8).roll(4))

    (term,) = operations(nt_xent).terms
    assert (term.classes, term.candidates, term.target_leaf) == (8, 7.0, "")


def test_a_functional_dropout_in_validation_is_told_from_one_that_is_switched_off_and_from_a_module() -> None:
    def rate(step) -> float:
        host = Host(nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.2)), step)
        facts = watch(host, [], validation=[(X, CLASSES)]).operations
        return facts.validation_dropout if facts else 0.0

    assert rate(lambda m, b: F.cross_entropy(F.dropout(m.network[0](b[0]), 0.3), b[1])) == pytest.approx(0.3)
    assert rate(lambda m, b: F.cross_entropy(F.dropout(m.network[0](b[0]), 0.3, m.network[0].bias is None), b[1])) == 0
    assert rate(lambda m, b: F.cross_entropy(m.network(b[0]), b[1])) == 0


def test_two_backward_passes_by_hand_are_both_read() -> None:
    probe = OperationProbe()

    def by_hand(m: Host, b):
        for target in (b[1], (b[1] + 1) % 3):
            loss = F.cross_entropy(m.network(b[0]), target)
            probe.before_backward(None, m, loss, 0)
            loss.backward()
            probe.after_backward(None, m, 0)

    host = Host(linear(3), by_hand)
    host.automatic_optimization = False
    probe.batch_start(None, host, (X, CLASSES), 0)
    host.training_step((X, CLASSES), 0)
    assert [term.kind for term in probe.facts.terms] == ["cross_entropy"] * 2
    assert probe.facts.gradient_finite is True


class TestChangesNothing:
    def test_the_step_that_is_read_gives_the_same_loss_gradient_and_random_numbers(self) -> None:
        def run(watched: bool):
            torch.manual_seed(5)
            host = Host(nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3)), step)
            probe = OperationProbe()
            if watched:
                probe.batch_start(None, host, (X, CLASSES), 0)
            loss = host.training_step((X, CLASSES), 0)
            loss.backward()
            probe.after_backward(None, host, 0)
            probe.batch_end(None, host, loss, None, 0)
            return loss, host.network[0].weight.grad, torch.rand(3)

        def step(m: Host, b):
            x = checkpoint(m.network[0], b[0], use_reentrant=False)
            return F.cross_entropy(m.network[1:](x), b[1])

        for bare, watched in zip(run(False), run(True), strict=True):
            assert torch.equal(bare, watched)

    def test_a_step_that_raises_leaves_no_mode_and_no_method_behind(self) -> None:
        def fails(m: Host, b):
            raise RuntimeError("a mistake of its own")

        host, probe = Host(linear(3), fails), OperationProbe()
        probe.batch_start(None, host, (X, CLASSES), 0)
        with pytest.raises(RuntimeError, match="of its own"):
            host.training_step((X, CLASSES), 0)
        probe.leave(host)
        assert "training_step" not in vars(host)
        assert torch.overrides._get_current_function_mode_stack() == []

    def test_a_step_without_an_index_is_not_handed_one(self) -> None:
        import inspect

        class Short(Host):
            def training_step(self, batch):
                return self._step(self, batch)

        host, probe = Short(linear(3), lambda m, b: m.network(b[0]).mean()), OperationProbe()
        probe.batch_start(None, host, (X, CLASSES), 0)
        # as lightning.pytorch.utilities.signature_utils does
        parameters = inspect.getfullargspec(vars(host)["training_step"].__wrapped__)
        assert parameters.varargs is None
        assert parameters.args[1:] == ["batch"]
        host.training_step((X, CLASSES))
        assert probe.facts.traced == 1

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.parametrize("kind", ["vmap", "grad", "custom-function", "scripted", "no-grad-loss", "none"])
    def test_what_cannot_be_read_goes_through(self, kind: str) -> None:
        class Doubled(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2

            @staticmethod
            def backward(ctx, gradient):
                return gradient * 2

        def step(m: Host, b):
            x = b[0]
            if kind == "vmap":
                x = torch.func.vmap(lambda row: row.sqrt().sum().log() + m.network(row))(x.abs())
            elif kind == "grad":
                x = torch.func.vmap(torch.func.grad(lambda row: m.network(row).square().sum()))(x)
            elif kind == "custom-function":
                x = Doubled.apply(m.network(x))
            elif kind == "scripted":
                x = torch.jit.trace(m.network, x)(x)
            elif kind == "no-grad-loss":
                return m.network(x).detach().mean()
            return None if kind == "none" else x.square().mean()

        host, probe = Host(linear(3), step), OperationProbe()
        probe.batch_start(None, host, (X, CLASSES), 0)
        out = host.training_step((X, CLASSES), 0)
        probe.batch_end(None, host, out, None, 0)
        again = host.training_step((X, CLASSES), 0)
        assert (out is None and again is None) or torch.equal(out, again)
