from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from stablelit.callbacks import AdaptiveGradClip, GradClipMonitor
from stablelit.errors import ConfigurationError, ContractError
from stablelit.functional.adaptive_clip import BINS_PER_OCTAVE
from tests.callbacks.test_grad_clip_monitor import Plain, fit, logged, nan_at
from tests.contract.modules import BATCHES, NAMES, framework, make_module, make_trainer, save_at_class, train_loader

pytestmark = pytest.mark.filterwarnings("ignore")
BIN = 2.0 ** (1.0 / BINS_PER_OCTAVE) - 1.0


class After(framework(NAMES[0]).Callback):
    """The norm with which the optimizer steps; comes after every clip."""

    def __init__(self):
        self.norms = []

    def on_train_batch_end(self, trainer, pl_module, *args):
        gradients = [p.grad.double().flatten() for p in pl_module.parameters() if p.grad is not None]
        self.norms.append(float(torch.cat(gradients).norm()) if gradients else 0.0)


class Before(Plain):
    """Keeps the norms before the clip, which a callback's hook makes before the module's."""

    def on_after_backward(self):
        gradients = [p.grad.double().flatten() for p in self.parameters() if p.grad is not None]
        self.norms.append(float(torch.cat(gradients).norm()))

    def on_before_optimizer_step(self, optimizer):
        pass


def test_autoclip_clips_to_the_percentile_of_all_norms_so_far(tmp_path):
    after = After()
    trainer, module = fit(tmp_path, [AdaptiveGradClip(percentile=30), after], Before())
    thresholds = [np.percentile(module.norms[: t + 1], 30) for t in range(len(module.norms))]
    expected = np.minimum(module.norms, thresholds)
    np.testing.assert_allclose(after.norms, expected, rtol=BIN)
    assert logged(trainer, "grad/adaptive_threshold") == pytest.approx(thresholds, rel=BIN)


def test_zclip_clips_an_outlier_and_nothing_else(tmp_path):
    after = After()
    module = Before(factor=lambda step: 100.0 if step == 20 else 1.0, lr=1e-6)
    trainer, _ = fit(tmp_path, [AdaptiveGradClip("zclip", warmup_steps=12), after], module)
    clipped = [a < b * (1 - 1e-6) for a, b in zip(after.norms, module.norms, strict=True)]
    assert [step for step, was in enumerate(clipped) if was] == [20]
    assert after.norms[20] < max(module.norms[:20])
    assert logged(trainer, "grad/adaptive_threshold") == pytest.approx([after.norms[20]], rel=1e-5)


def test_a_fixed_threshold_on_top_holds_from_the_first_step(tmp_path):
    for mode in ("zclip", "autoclip"):
        after = After()
        fit(tmp_path, [AdaptiveGradClip(mode, percentile=100, max_norm=0.5), after])
        assert max(after.norms) == pytest.approx(0.5, rel=1e-5)


def test_agc_leaves_out_what_is_excluded(tmp_path):
    class Kept(framework(NAMES[0]).Callback):
        gradients = ()

        def on_train_batch_end(self, trainer, pl_module, *args):
            self.gradients = {n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None}

    plain, clipped = Kept(), Kept()
    fit(tmp_path, plain, max_steps=1)
    trainer, module = fit(tmp_path, [AdaptiveGradClip("agc", clipping=1e-3, exclude=["head"]), clipped], max_steps=1)
    for name, gradient in clipped.gradients.items():
        assert torch.equal(gradient, plain.gradients[name]) == name.startswith("head")
    rows, weights = clipped.gradients["used.weight"].norm(dim=1), Plain().used.weight.norm(dim=1)
    assert bool((rows <= 1e-3 * weights * (1 + 1e-5)).all())


@pytest.mark.parametrize("first", ["clip", "monitor"])
@pytest.mark.parametrize("mode", ["autoclip", "agc"])
def test_the_monitor_sees_what_it_does_in_either_order(first, mode, tmp_path):
    clip = AdaptiveGradClip(mode, exclude=["head"] if mode == "agc" else None, clipping=0.1)
    pair = [clip, GradClipMonitor("parameter")]
    after, module = After(), Before()
    trainer, _ = fit(tmp_path, [*(pair if first == "clip" else reversed(pair)), after], module, max_epochs=1)
    assert logged(trainer, "grad/norm") == pytest.approx(module.norms, rel=1e-5)
    coefficients = np.array(after.norms) / np.array(module.norms)
    assert logged(trainer, "grad/clip_coef") == pytest.approx(coefficients.tolist(), rel=1e-5)
    assert logged(trainer, "grad/clip_ratio")[0] == pytest.approx(np.mean(coefficients < 1 - 1e-7))
    assert 0 < logged(trainer, "grad/clip_ratio")[0] <= 1


def test_each_optimizer_has_its_own_history(tmp_path):
    clip = AdaptiveGradClip()
    trainer, _ = fit(tmp_path, clip, make_module(kind="manual"), max_epochs=2)
    names = {name for _, line in trainer.logger.lines for name in line}
    assert {"grad/adaptive_threshold/0", "grad/adaptive_threshold/1"} <= names
    states = clip.state_dict()["states"]
    assert [int(states[i].sum()) for i in ("0", "1")] == [2 * BATCHES] * 2
    assert not torch.equal(states["0"], states["1"])


def test_only_the_optimizer_that_steps_is_clipped(tmp_path):
    seen = []

    class Gan(Plain):
        """Both losses have gradients everywhere; only one optimizer steps at a time."""

        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            used, head = self.optimizers()
            self.manual_backward(super().training_step(batch, batch_idx))
            before = self.head.weight.grad.clone()
            used.step()
            seen.append(torch.equal(before, self.head.weight.grad))
            head.step()
            self.zero_grad()

        def configure_optimizers(self):
            return [torch.optim.SGD(m.parameters(), 1e-3) for m in (self.used, self.head)]

    fit(tmp_path, AdaptiveGradClip("zclip", max_norm=1e-3), Gan(), max_epochs=1)
    assert seen == [True] * BATCHES


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["autoclip", "zclip"])
def test_one_nan_changes_nothing_that_comes_after(mode, tmp_path):
    class Guard(framework(NAMES[0]).Callback):
        """Leaves a step out whose gradients are not finite."""

        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            if not all(torch.isfinite(p.grad).all() for p in pl_module.parameters() if p.grad is not None):
                optimizer.zero_grad()

    def thresholds(*bad):
        clip = AdaptiveGradClip(mode, warmup_steps=4, percentile=50)
        module = Plain(factor=lambda step: nan_at(*bad)(step), lr=0.0)
        trainer, _ = fit(tmp_path, [clip, Guard()], module, max_epochs=3)
        return clip.state_dict()["states"]["0"], int(clip.state_dict()["states"]["0"].sum())

    clean, spoiled = thresholds(), thresholds(5)
    if mode == "autoclip":  # 18 norms, one of them not counted
        assert (clean[1], spoiled[1]) == (18, 17)
        assert int((clean[0] - spoiled[0]).abs().sum()) == 1
    else:
        assert torch.isfinite(spoiled[0]).all()
        assert [float(clean[0][0]), float(spoiled[0][0])] == [18.0, 17.0]


def test_a_scalers_overflow_is_not_counted_and_its_factor_not_in_the_norm(tmp_path):
    clip, plain = AdaptiveGradClip(percentile=50), AdaptiveGradClip(percentile=50)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
    plugins = [MixedPrecision("16-mixed", "cpu", scaler)]
    trainer, _ = fit(tmp_path, [clip, GradClipMonitor()], Plain(lr=0.0), plugins=plugins, max_epochs=2)
    skips = sum(logged(trainer, "grad/scaler_skips"))
    assert 0 < skips < 2 * BATCHES
    assert int(clip.state_dict()["states"]["0"].sum()) == 2 * BATCHES - skips
    other, _ = fit(tmp_path, plain, Plain(lr=0.0), precision="bf16-mixed", max_epochs=2)
    mine, theirs = (logged(t, "grad/adaptive_threshold")[-1] for t in (trainer, other))
    assert mine == pytest.approx(theirs, rel=0.3)


def test_accumulated_batches_are_one_step(tmp_path):
    clip = AdaptiveGradClip()
    fit(tmp_path, clip, accumulate_grad_batches=4, max_epochs=3)
    assert int(clip.state_dict()["states"]["0"].sum()) == 6


@pytest.mark.parametrize("mode", ["autoclip", "zclip"])
def test_a_resumed_run_is_bit_equal(mode, tmp_path):
    def run(where, *more, **kwargs):
        clip = AdaptiveGradClip(mode, warmup_steps=4)
        trainer, module = fit(tmp_path / where, [clip, *more], Plain("adam", lr=1e-2), max_epochs=3, **kwargs)
        return trainer.logger.lines, list(module.parameters()), clip.state_dict()["states"]["0"]

    path = tmp_path / "at.ckpt"
    lines, weights, state = run("a", save_at_class(NAMES[0])(8, path))
    torch.load(path, weights_only=True)
    more_lines, more_weights, more_state = run("b", ckpt_path=str(path))
    assert [line for line in lines if line[0] >= 8] == more_lines
    assert torch.equal(state, more_state)
    assert all(torch.equal(a, b) for a, b in zip(weights, more_weights, strict=True))


def test_a_state_loaded_in_the_middle_holds_from_the_next_step(tmp_path):
    clip = AdaptiveGradClip()

    class Roll(framework(NAMES[0]).Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == 3:
                self.saved = clip.state_dict()
            if trainer.global_step == 5:
                clip.load_state_dict(self.saved)

    fit(tmp_path, [clip, Roll()], max_epochs=1)
    assert int(clip.state_dict()["states"]["0"].sum()) == 3 + (BATCHES - 5)


def test_history_of_another_mode_is_not_taken_up():
    clip = AdaptiveGradClip("zclip")
    clip.load_state_dict({"mode": "autoclip", "states": {"0": torch.zeros(3)}})
    assert clip.state_dict()["states"] == {}


def test_a_second_clip_is_refused_and_so_are_two_of_one_name(tmp_path):
    with pytest.raises(ConfigurationError, match=r"gradient_clip_val=0\.5.*max_norm=0\.5"):
        fit(tmp_path, AdaptiveGradClip("zclip"), gradient_clip_val=0.5)
    trainer = fit(tmp_path, [AdaptiveGradClip(), AdaptiveGradClip("zclip", name="b")], max_epochs=1)[0]
    assert trainer.global_step == BATCHES
    trainer.callbacks.append(AdaptiveGradClip())
    with pytest.raises(ConfigurationError, match="give one a name"):
        trainer.fit(Plain())


def test_agc_asks_which_layer_is_the_last(tmp_path):
    with pytest.raises(ConfigurationError, match=r"exclude=\['unused'\]"):
        fit(tmp_path, AdaptiveGradClip("agc"))
    with pytest.raises(ConfigurationError, match="Did you mean 'head'"):
        fit(tmp_path, AdaptiveGradClip("agc", exclude=["haed"]))
    fit(tmp_path, AdaptiveGradClip("agc", exclude=[]), max_epochs=1)


BAD = [
    {"mode": "auto"},
    {"percentile": 0},
    {"percentile": 101},
    {"z_threshold": 0},
    {"alpha": 1.0},
    {"warmup_steps": 1},
    {"clipping": -1},
    {"eps": 0},
    {"exclude": "head", "mode": "agc"},
    {"exclude": ["head"]},
    {"max_norm": 0},
    {"max_norm": 1.0, "mode": "agc"},
    {"name": ""},
    {"max_norm": math.nan},
]


@pytest.mark.parametrize("arguments", BAD, ids=str)
def test_what_cannot_work_is_refused_by_name(arguments):
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        AdaptiveGradClip(**arguments)


def test_steps_that_go_past_lightning_are_told(tmp_path):
    class Past(type(make_module(kind="manual"))):
        def optimizers(self):
            return [optimizer.optimizer for optimizer in super().optimizers()]

    with pytest.raises(ContractError, match=r"no optimizer step went through Lightning.*Past must step"):
        make_trainer(tmp_path, [AdaptiveGradClip()], max_epochs=1).fit(Past(), train_loader())
