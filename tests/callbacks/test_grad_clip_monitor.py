from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn

from stablelit.callbacks import AdaptiveGradClip, FigureWriter, GradClipMonitor
from stablelit.errors import ConfigurationError, ContractError
from stablelit.findings import FindingError, read_findings
from tests.contract.modules import BATCHES, NAMES, framework, make_module, make_trainer, save_at_class, train_loader

pytestmark = pytest.mark.filterwarnings("ignore")
Base = framework(NAMES[0]).LightningModule


class Plain(Base):
    """A regression whose gradients can be scaled, spoiled and cut off."""

    def __init__(self, optimizer="sgd", factor=lambda step: 1.0, lr=1e-3):
        super().__init__()
        torch.manual_seed(0)
        self.used, self.head, self.unused = nn.Linear(6, 4), nn.Linear(4, 1), nn.Linear(2, 2)
        self.kind, self.factor, self.lr, self.norms, self.per_parameter = optimizer, factor, lr, [], []

    def training_step(self, batch, batch_idx):
        loss = self.head(self.used(batch[0])).square().mean()
        return self.factor(self.trainer.global_step) * loss

    def on_before_optimizer_step(self, optimizer):
        found = {n: p.grad.double().norm() for n, p in self.named_parameters() if p.grad is not None}
        self.per_parameter.append({n: float(v) for n, v in found.items()})
        self.norms.append(float(torch.stack(list(found.values())).norm()) if found else 0.0)

    def configure_optimizers(self):
        if self.kind == "sgd":
            return torch.optim.SGD(self.parameters(), self.lr)
        return torch.optim.Adam(self.parameters(), self.lr)


def fit(directory, callback, module=None, **kwargs):
    callbacks = callback if isinstance(callback, list) else [callback]
    module = Plain() if module is None else module
    ckpt_path = kwargs.pop("ckpt_path", None)
    defaults = {"max_epochs": 4, "num_sanity_val_steps": 0, "enable_checkpointing": len(callbacks) > 1}
    trainer = make_trainer(directory, callbacks, **{**defaults, **kwargs})
    torch.manual_seed(3)
    trainer.fit(module, train_loader(), ckpt_path=ckpt_path)
    return trainer, module


def logged(trainer, key):
    return [line[key] for _, line in trainer.logger.lines if key in line]


def names_found(directory):
    return {finding.name: finding for finding in read_findings(directory)}


def test_it_logs_the_norm_before_the_clip_and_once_an_epoch_what_the_clip_did(tmp_path):
    trainer, module = fit(tmp_path, GradClipMonitor(), gradient_clip_val=1.5)
    assert logged(trainer, "grad/norm") == pytest.approx(module.norms, rel=1e-6)
    coefficients = [min(1.0, 1.5 / (n + 1e-6)) for n in module.norms]
    assert logged(trainer, "grad/clip_coef") == pytest.approx(coefficients, rel=1e-6)
    for epoch in range(4):
        norms = np.array(module.norms[epoch * BATCHES : (epoch + 1) * BATCHES])
        expected = {
            "norm_p50": np.percentile(norms, 50),
            "norm_p95": np.percentile(norms, 95),
            "norm_max": norms.max(),
            "clip_ratio": np.mean(norms > 1.5),
            "mean_clip_coef": np.mean(np.minimum(1.0, 1.5 / (norms + 1e-6))),
            "nonfinite_steps": 0,
            "dead_parameters": 2,
        }
        for key, value in expected.items():
            assert logged(trainer, f"grad/{key}")[epoch] == pytest.approx(value, rel=1e-6), key
    assert 0 < logged(trainer, "grad/clip_ratio")[0] < 1
    assert trainer.callback_metrics["grad/clip_ratio"] == logged(trainer, "grad/clip_ratio")[-1]
    assert trainer.progress_bar_metrics["grad/clip_ratio"] == logged(trainer, "grad/clip_ratio")[-1]


def test_it_changes_no_weight(tmp_path):
    for kwargs in ({"gradient_clip_val": 0.2}, {}, {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}):
        plain = fit(tmp_path, [], **kwargs)[1]
        watched = fit(tmp_path, GradClipMonitor("parameter"), **kwargs)[1]
        for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.slow
def test_components_and_layers_change_no_weight_either(tmp_path):
    plain = fit(tmp_path, [], make_module())[1]
    watched = fit(tmp_path, GradClipMonitor("module", components_every_n_steps=1), make_module())[1]
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(a, b)


def test_without_a_clip_there_is_no_ratio(tmp_path):
    trainer, _ = fit(tmp_path, GradClipMonitor())
    names = {name for _, line in trainer.logger.lines for name in line}
    assert {"grad/norm", "grad/norm_p95", "grad/nonfinite_steps"} <= names
    assert not {"grad/clip_ratio", "grad/clip_coef", "grad/mean_clip_coef", "grad/value_clipped_share"} & names


def test_a_clip_by_value_has_a_share_of_elements_and_no_ratio(tmp_path):
    trainer, _ = fit(tmp_path, GradClipMonitor(), gradient_clip_val=0.01, gradient_clip_algorithm="value")
    assert 0 < logged(trainer, "grad/value_clipped_share")[0] < 1
    assert not logged(trainer, "grad/clip_ratio")


def test_steps_are_counted_and_not_batches(tmp_path):
    monitor = GradClipMonitor()
    seen = []
    monitor._books.begin = lambda real=monitor._books.begin: (
        seen.append({i: r.steps for i, r in monitor._books.records.items()}),
        real(),
    )
    trainer, _ = fit(tmp_path, monitor, accumulate_grad_batches=4, gradient_clip_val=1.5, max_epochs=2)
    assert trainer.global_step == 4  # the last, shorter window steps too
    assert seen[-2:] == [{0: 2}, {0: 2}]
    assert len(logged(trainer, "grad/norm")) == 4


def test_norms_by_layer_are_those_before_the_clip(tmp_path):
    trainer, module = fit(tmp_path / "a", GradClipMonitor("parameter"), gradient_clip_val=0.05)
    for name in module.per_parameter[0]:
        expected = [step[name] for step in module.per_parameter]
        assert logged(trainer, f"grad/layer/{name}") == pytest.approx(expected, rel=1e-5)
    trainer, module = fit(tmp_path / "b", GradClipMonitor("module"), gradient_clip_val=0.05)
    layer = [math.hypot(step["used.weight"], step["used.bias"]) for step in module.per_parameter]
    assert logged(trainer, "grad/layer/used") == pytest.approx(layer, rel=1e-5)
    assert not logged(trainer, "grad/layer/unused")


def test_a_manual_clip_is_divided_out_of_the_layers(tmp_path):
    class Manual(Plain):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            Plain.on_before_optimizer_step(self, optimizer)
            self.clip_gradients(optimizer, 0.05, "norm")
            optimizer.step()

        def on_before_optimizer_step(self, optimizer):
            pass

    trainer, module = fit(tmp_path, GradClipMonitor("parameter"), Manual())
    assert logged(trainer, "grad/norm") == pytest.approx(module.norms, rel=1e-6)
    assert logged(trainer, "grad/layer/head.weight") == pytest.approx(
        [step["head.weight"] for step in module.per_parameter], rel=1e-5
    )


def test_loss_components_are_measured_one_by_one(tmp_path):
    expected = {"recon": [], "kl": []}

    class Watched(type(make_module())):
        def training_step(self, batch, batch_idx):
            state = torch.get_rng_state()
            for name, term in zip(expected, self.terms(batch[0]), strict=True):
                total = term.mean() if name == "recon" else term.sum(-1).mean()
                gradients = torch.autograd.grad(total, list(self.parameters()), allow_unused=True, retain_graph=True)
                squares = [g.double().square().sum() for g in gradients if g is not None]
                expected[name].append(float(torch.stack(squares).sum().sqrt()))
            torch.set_rng_state(state)
            return super().training_step(batch, batch_idx)

    torch.manual_seed(0)
    trainer, module = fit(tmp_path, GradClipMonitor(components_every_n_steps=2), Watched(), max_epochs=1)
    for name, norms in expected.items():
        assert logged(trainer, f"grad/component/{name}") == pytest.approx(norms[::2], rel=1e-5)
    assert not logged(trainer, "grad/component/kl_per_dim")
    assert "training_step" not in vars(module)


def test_a_component_that_is_not_there_or_detached_is_named(tmp_path):
    class Detached(Plain):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return {"loss": loss, "recon": loss, "kl": loss.detach()}

    with pytest.raises(ContractError, match="Did you mean 'recon'"):
        fit(tmp_path, GradClipMonitor(components_every_n_steps=1, components=["reccon"]), Detached())
    module = Detached()
    with pytest.raises(ContractError, match="'kl' detached"):
        fit(tmp_path, GradClipMonitor(components_every_n_steps=1, components=["kl"]), module)
    assert "training_step" not in vars(module)
    with pytest.raises(ContractError, match="no live loss component"):
        fit(tmp_path, GradClipMonitor(components_every_n_steps=1))
    with pytest.raises(ConfigurationError, match="needs automatic optimisation"):
        fit(tmp_path, GradClipMonitor(components_every_n_steps=1), make_module(kind="manual"))


def test_loss_components_may_come_in_a_mapping_of_their_own(tmp_path):
    class Mapped(Plain):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return {"loss": loss, "logits": loss * 1, "loss_components": {"recon": 3.0 * loss}}

    trainer, module = fit(tmp_path, GradClipMonitor(components_every_n_steps=3), Mapped(), max_epochs=1)
    assert logged(trainer, "grad/component/recon") == pytest.approx([3 * n for n in module.norms[::3]], rel=1e-5)
    assert not logged(trainer, "grad/component/logits")


def test_two_optimizers_have_their_numbers_in_the_names(tmp_path):
    trainer, _ = fit(tmp_path, GradClipMonitor(), make_module(kind="manual"))
    names = {name for _, line in trainer.logger.lines for name in line}
    assert {"grad/norm/0", "grad/norm/1", "grad/norm_p50/0", "grad/norm_p50/1", "grad/dead_parameters"} <= names
    assert logged(trainer, "grad/norm/0") != logged(trainer, "grad/norm/1")


def test_a_second_monitor_needs_a_name(tmp_path):
    trainer, _ = fit(tmp_path, [GradClipMonitor(), GradClipMonitor(name="other")])
    assert logged(trainer, "grad/norm") == logged(trainer, "grad/other/norm")
    trainer = make_trainer(tmp_path, [GradClipMonitor()])
    trainer.callbacks.append(GradClipMonitor())
    with pytest.raises(ConfigurationError, match="give the second a name"):
        trainer.fit(Plain(), train_loader())


def nan_at(*steps):
    return lambda step: float("nan") if step in steps else 1.0


def test_a_step_that_is_not_finite_is_counted_apart_and_found(tmp_path):
    module = Plain(factor=nan_at(2))
    trainer, _ = fit(tmp_path, GradClipMonitor(), module, gradient_clip_val=1.5, max_epochs=1)
    assert logged(trainer, "grad/nonfinite_steps") == [4.0]  # the weights are NaN from then on
    assert logged(trainer, "grad/clip_ratio") == [np.mean([n > 1.5 for n in module.norms[:2]])]
    finding = names_found(tmp_path)["gradients-non-finite"]
    assert (finding.severity, finding.step) == ("critical", 3)
    with pytest.raises(FindingError, match="not finite in 1 of 3"):
        fit(tmp_path / "b", GradClipMonitor(action="raise"), Plain(factor=nan_at(2)))


def scaled(scale):
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))


def test_a_scalers_search_is_counted_and_no_alarm(tmp_path):
    # float16 overflows at 65504: from 2**40 the scaler comes down a factor of 2 a step
    trainer, _ = fit(tmp_path, GradClipMonitor(min_steps=1), plugins=[scaled(2.0**40)], max_epochs=6)
    skips = logged(trainer, "grad/scaler_skips")
    assert skips[0] == BATCHES
    assert skips[-1] < BATCHES
    assert not logged(trainer, "grad/nonfinite_steps")
    assert "gradients-non-finite" not in names_found(tmp_path)


def test_a_scaler_that_finds_no_factor_is_an_alarm(tmp_path):
    module = Plain(factor=lambda step: float("inf"))
    fit(tmp_path, GradClipMonitor(), module, plugins=[scaled(8.0)], max_epochs=2)
    assert "without any factor" in names_found(tmp_path)["gradients-non-finite"].message


def test_a_severe_clip_is_a_finding_with_sgd_and_none_with_adam(tmp_path):
    for optimizer in ("sgd", "adam"):
        module = Plain(optimizer, factor=lambda step: 1e3, lr=1e-6)
        fit(tmp_path / optimizer, GradClipMonitor(), module, gradient_clip_val=0.1)
    assert "clip-severe" in names_found(tmp_path / "sgd")
    assert "clip-severe" not in names_found(tmp_path / "adam")


def test_a_clip_that_evens_out_what_differs_is_told_under_adam_for_information(tmp_path):
    module = Plain("adam", factor=lambda step: 1e3 if step % 6 == 0 else 10.0, lr=1e-6)
    fit(tmp_path, GradClipMonitor(action="raise", dead_parameters=False), module, gradient_clip_val=0.001)
    assert names_found(tmp_path)["clip-spread"].severity == "info"


def test_a_clip_that_never_acts_is_told_and_one_that_acts_is_not(tmp_path):
    fit(tmp_path / "never", GradClipMonitor(), gradient_clip_val=1e3)
    fit(tmp_path / "acts", GradClipMonitor(), gradient_clip_val=1.5)
    assert "clip-never-active" in names_found(tmp_path / "never")
    assert set(names_found(tmp_path / "acts")) == {"dead-parameters"}


def test_dead_parameters_are_named_with_the_reason(tmp_path):
    class HalfDead(Plain):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) + 0.0 * self.unused.weight.sum()

    trainer, _ = fit(tmp_path, GradClipMonitor(), HalfDead())
    assert logged(trainer, "grad/dead_parameters") == [2.0] * 4
    message = names_found(tmp_path)["dead-parameters"].message
    assert "unused.bias had no gradient" in message
    assert "unused.weight had exactly zero" in message
    assert "head" not in message


def test_a_parameter_used_once_in_an_epoch_is_not_dead(tmp_path):
    class Rarely(Plain):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss + self.unused(batch[0][:, :2]).sum() * (1.0 if batch_idx == 4 else 0.0)

    trainer, _ = fit(tmp_path, GradClipMonitor(), Rarely())
    assert logged(trainer, "grad/dead_parameters") == [0.0] * 4


def test_frozen_parameters_are_not_dead(tmp_path):
    module = Plain()
    module.unused.requires_grad_(False)
    trainer, _ = fit(tmp_path, GradClipMonitor(), module)
    assert logged(trainer, "grad/dead_parameters") == [0.0] * 4
    assert not names_found(tmp_path)


@pytest.mark.parametrize("factor", [0.0, 1e-12])
def test_a_gradient_that_vanished_is_found(factor, tmp_path):
    module = Plain("adam", factor=lambda step: factor)
    module.unused.requires_grad_(False)
    fit(tmp_path, GradClipMonitor(), module)
    message = names_found(tmp_path)["gradient-vanished"].message
    assert ("exactly zero in 6 of 6" if factor == 0.0 else "below eps=1e-08 of Adam") in message


def test_the_small_gradients_of_healthy_adam_are_not_found_vanished(tmp_path):
    module = Plain("adam", factor=lambda step: 1e-4)
    fit(tmp_path, GradClipMonitor(dead_parameters=True), module)
    assert "gradient-vanished" not in names_found(tmp_path)


def manual_module(place):
    class Manual(Plain):
        def __init__(self):
            super().__init__(lr=1e-6)
            self.automatic_optimization = False
            self.unused.requires_grad_(False)

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(1e3 * super().training_step(batch, batch_idx))
            if place == "step":
                self.clip_gradients(optimizer, 0.1, "norm")
            if place == "torch":
                torch.nn.utils.clip_grad_norm_(self.parameters(), 0.1)
            optimizer.step()

        def on_before_optimizer_step(self, optimizer):
            if place == "hook":
                self.clip_gradients(optimizer, 0.1, "norm")

    return Manual()


def test_a_clip_of_scaled_gradients_is_found_and_its_remedy_works(tmp_path):
    fit(tmp_path / "step", GradClipMonitor(), manual_module("step"), plugins=[scaled(4.0)])
    assert names_found(tmp_path / "step")["clip-of-scaled-gradients"].severity == "critical"
    trainer, _ = fit(tmp_path / "hook", GradClipMonitor(), manual_module("hook"), plugins=[scaled(4.0)])
    assert "clip-of-scaled-gradients" not in names_found(tmp_path / "hook")
    assert logged(trainer, "grad/clip_ratio")[0] == 1.0


def test_a_manual_clip_that_nobody_sees_is_guessed_from_norms_that_are_all_one(tmp_path):
    fit(tmp_path / "torch", GradClipMonitor(), manual_module("torch"))
    assert "clip-unseen" in names_found(tmp_path / "torch")
    fit(tmp_path / "none", GradClipMonitor(), manual_module("none"))
    assert not names_found(tmp_path / "none")


def test_a_float16_clip_whose_norm_overflows_is_found(tmp_path):
    class Wide(Base):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(300, 300))

        def training_step(self, batch, batch_idx):
            return 300.0 * self.weight.sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-3)

    trainer, module = fit(
        tmp_path, GradClipMonitor(min_steps=1), Wide(), precision="16-true", gradient_clip_val=1.0, max_epochs=1
    )
    assert logged(trainer, "grad/norm") == pytest.approx([9e4] * BATCHES, rel=1e-5)
    assert "zeroed" in names_found(tmp_path)["clip-norm-overflow"].message
    assert set(names_found(tmp_path)) == {"clip-norm-overflow", "clip-severe"}
    assert torch.equal(module.weight, torch.zeros_like(module.weight))


@pytest.mark.slow
@pytest.mark.parametrize("step", [8, BATCHES])
def test_a_resumed_epoch_has_the_books_of_the_whole(step, tmp_path):
    def module():
        return Plain("adam", factor=nan_at(100))

    def monitor():
        return GradClipMonitor("parameter", capacity=4)

    path = tmp_path / "at.ckpt"
    save = save_at_class(NAMES[0])(step, path)
    whole, _ = fit(tmp_path / "a", [monitor(), save], module(), gradient_clip_val=1.5)
    resumed, _ = fit(tmp_path / "b", monitor(), module(), gradient_clip_val=1.5, ckpt_path=str(path))
    assert [line for line in whole.logger.lines if line[0] >= step] == resumed.logger.lines


def norm_line(figure, panel=0):
    return next(line for line in figure.axes[panel].get_lines() if line.get_label() == "norm")


@pytest.mark.slow
def test_its_picture_shows_the_norms_of_the_run_and_its_clip(tmp_path):
    module, monitor = Plain(factor=nan_at(22)), GradClipMonitor()
    fit(tmp_path, [FigureWriter(module_figures=False), monitor], module, gradient_clip_val=1.5)
    assert (tmp_path / "figures/gradients.png").is_file()
    (figure,) = monitor.figures().values()
    line, labels = norm_line(figure), [line.get_label() for line in figure.axes[0].get_lines()]
    assert line.get_ydata() == pytest.approx(module.norms[:22], rel=1e-6)
    assert line.get_xdata().tolist() == list(range(22))
    assert {"clip at 1.5", "not finite (2)"} <= set(labels)
    ratio, whole = figure.axes[1].get_lines()
    assert ratio.get_ydata()[-1] == pytest.approx(np.mean(np.array(module.norms[:22]) > 1.5))
    assert set(whole.get_ydata()) == {ratio.get_ydata()[-1]}


def test_a_picture_that_is_asked_for_inside_an_epoch_is_complete(tmp_path):
    monitor, seen = GradClipMonitor(), []

    class Ask(framework(NAMES[0]).Callback):
        def on_train_batch_end(self, trainer, *args):
            (figure,) = monitor.figures().values()
            seen.append(len(norm_line(figure).get_xdata()))

    fit(tmp_path, [Ask(), monitor], max_epochs=1, log_every_n_steps=100)
    assert seen == list(range(1, BATCHES + 1))


def test_before_the_first_step_there_is_no_picture_and_every_run_has_its_own(tmp_path):
    monitor = GradClipMonitor(name="other")
    assert monitor.figures() == {}
    for epochs in (2, 1):
        fit(tmp_path, monitor, max_epochs=epochs)
        assert len(norm_line(monitor.figures()["gradients_other"]).get_xdata()) == epochs * BATCHES


def test_in_the_picture_the_scalers_skips_are_no_alarm(tmp_path):
    monitor = GradClipMonitor()
    trainer, _ = fit(tmp_path, monitor, plugins=[scaled(2.0**40)], max_epochs=6)
    labels = [line.get_label() for line in monitor.figures()["gradients"].axes[0].get_lines()]
    assert f"skipped by the scaler ({sum(logged(trainer, 'grad/scaler_skips')):.0f})" in labels
    assert not any(label.startswith("not finite") for label in labels)


@pytest.mark.slow
def test_the_picture_of_two_optimizers_has_both(tmp_path):
    monitor = GradClipMonitor()
    trainer, _ = fit(tmp_path, monitor, make_module(kind="manual"))
    for panel in (0, 1):
        expected = logged(trainer, f"grad/norm/{panel}")
        assert norm_line(monitor.figures()["gradients"], panel).get_ydata() == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("step", [8, BATCHES])
def test_the_picture_of_a_resumed_run_is_that_of_the_whole(step, tmp_path):
    path, whole, resumed = tmp_path / "at.ckpt", GradClipMonitor(), GradClipMonitor()
    save = save_at_class(NAMES[0])(step, path)
    fit(tmp_path / "a", [whole, save], Plain("adam"), gradient_clip_val=1.5)
    fit(tmp_path / "b", resumed, Plain("adam"), gradient_clip_val=1.5, ckpt_path=str(path))
    lines = [
        [
            (line.get_label(), line.get_xydata().tolist())
            for axes in m.figures()["gradients"].axes
            for line in axes.lines
        ]
        for m in (whole, resumed)
    ]
    assert len(lines[0][0][1]) == 4 * BATCHES
    assert lines[0] == lines[1]


def test_steps_without_any_gradient_are_not_steps(tmp_path):
    class Skipping(Plain):
        def training_step(self, batch, batch_idx):
            return None if batch_idx % 2 else super().training_step(batch, batch_idx)

    trainer, _ = fit(tmp_path, GradClipMonitor(), Skipping(), gradient_clip_val=1.5, max_epochs=1)
    assert len(set(logged(trainer, "grad/norm"))) == 3
    assert logged(trainer, "grad/norm_p50")[0] > 0


@pytest.mark.slow
def test_both_ranks_see_one_norm(tmp_path):
    class Check(framework(NAMES[0]).Callback):
        def on_train_end(self, trainer, pl_module):
            mine = torch.tensor(
                [float(trainer.callback_metrics[f"grad/{k}"]) for k in ("norm", "norm_p50", "norm_max")]
            )
            both = [torch.zeros_like(mine) for _ in range(2)]
            torch.distributed.all_gather(both, mine)
            assert torch.equal(*both)
            assert mine.min() > 0

    kwargs = {"devices": 2, "strategy": "ddp_fork_find_unused_parameters_true", "max_epochs": 1}
    fit(tmp_path, [GradClipMonitor("module"), Check()], gradient_clip_val=0.1, **kwargs)


BAD = [
    {"per_layer": "layers"},
    {"depth": 0},
    {"components_every_n_steps": -1},
    {"components": ["kl"]},
    {"components": "kl", "components_every_n_steps": 1},
    {"quantiles": 0.5},
    {"quantiles": [1.5]},
    {"capacity": 1},
    {"severe_ratio": 1.0},
    {"spread_ratio": float("nan")},
    {"min_steps": 0},
    {"action": "shout"},
    {"name": ""},
]


@pytest.mark.parametrize("arguments", BAD, ids=str)
def test_what_cannot_work_is_refused_by_name(arguments):
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        GradClipMonitor(**arguments)


def test_two_clips_in_one_step_count_as_one_that_multiplies_both(tmp_path):
    monitor = GradClipMonitor()
    callbacks = [monitor, AdaptiveGradClip(), AdaptiveGradClip("zclip", name="second")]
    trainer = make_trainer(tmp_path, callbacks, max_epochs=1)
    trainer.fit(make_module(), train_loader())
    below = [line["grad/clip_coef"] < 1 for _, line in trainer.logger.lines if "grad/clip_coef" in line]
    assert trainer.callback_metrics["grad/clip_ratio"] == pytest.approx(sum(below) / len(below))
    assert any(below)
