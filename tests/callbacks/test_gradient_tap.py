from __future__ import annotations

import copy
import os
import pickle
import socket

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from stablelit.callbacks import AdaptiveGradClip
from stablelit.callbacks._gradient_tap import GradientTap
from stablelit.errors import ConfigurationError
from tests.contract.modules import BATCHES, NAMES, framework, make_module, make_trainer, train_loader

pytestmark = pytest.mark.filterwarnings("ignore")


def norm_of(tensors):
    """The reference: float64, one tensor after the other."""
    return sum(t.double().square().sum() for t in tensors).sqrt()


def listening(name=NAMES[0], **attributes):
    """A callback that keeps every event, and the norm of the gradients as the event finds them."""

    class Listening(framework(name).Callback):
        def __init__(self):
            self.events, self.norms_then, self.tap = [], [], None

        def setup(self, trainer, pl_module, stage):
            if stage == "fit":
                self.tap = GradientTap.on(trainer, pl_module, self.hear)

        def hear(self, event):
            self.events.append(event)
            parameters = (p for group in event.optimizer.param_groups for p in group["params"])
            self.norms_then.append(norm_of([p.grad for p in parameters if p.grad is not None] or [torch.zeros(1)]))

        def release(self):
            if self.tap is not None:
                self.tap.release(self.hear)
            self.tap = None

        def teardown(self, trainer, pl_module, stage):
            self.release()

        def on_exception(self, trainer, pl_module, exception):
            self.release()

    return type("Listening", (Listening,), attributes)()


def fit(directory, callbacks, module=None, kind="automatic", name=NAMES[0], batches=None, **kwargs):
    module = make_module(name, kind) if module is None else module
    torch.manual_seed(1)
    trainer = make_trainer(directory, callbacks, name, **{"max_epochs": 1, "num_sanity_val_steps": 0, **kwargs})
    trainer.fit(module, train_loader())
    return trainer, module


def subclass(kind="automatic", **methods):
    base = type(make_module(kind=kind))
    torch.manual_seed(0)
    return type("Mine", (base,), methods)()


def hand_computed(**kwargs):
    """The norms before the clip, read in the module's own hook in float64."""
    norms = []

    def hook(self, optimizer):
        norms.append(norm_of([p.grad for p in self.parameters() if p.grad is not None]))

    return norms, subclass(on_before_optimizer_step=hook, **kwargs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("clip", [None, 0.5])
def test_one_event_a_step_has_the_norm_before_the_clip(clip, name, tmp_path):
    callback = listening(name)
    trainer, _ = fit(tmp_path, [callback], name=name, gradient_clip_val=clip)
    assert len(callback.events) == trainer.global_step == BATCHES
    for event, then in zip(callback.events, callback.norms_then, strict=True):
        assert event.gradients
        assert event.kind == (None if clip is None else "norm")
        before = event.norm if clip is None else event.norm * event.coefficient
        torch.testing.assert_close(then.float(), before, rtol=1e-6, atol=0)
        if clip is not None:
            assert bool(event.clipped) == (float(event.norm) > clip)


def test_the_norm_equals_one_computed_by_hand(tmp_path):
    for kwargs in ({"gradient_clip_val": 0.3}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}):
        norms, module = hand_computed()
        callback = listening()
        fit(tmp_path, [callback], module, **kwargs)
        assert len(norms) == (3 if "accumulate_grad_batches" in kwargs else BATCHES)
        torch.testing.assert_close(
            torch.stack([e.norm for e in callback.events]), torch.stack(norms).float(), rtol=1e-6, atol=0
        )


@pytest.mark.parametrize("clip", [{}, {"gradient_clip_val": 0.3}, {"gradient_clip_val": 0.02, "algorithm": "value"}])
def test_training_is_bit_equal_with_and_without_the_tap(clip, tmp_path):
    kwargs = {"gradient_clip_algorithm" if k == "algorithm" else k: v for k, v in clip.items()}
    _, with_it = fit(tmp_path, [listening()], **kwargs)
    _, without = fit(tmp_path, [], **kwargs)
    for a, b in zip(with_it.parameters(), without.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_clip_by_value_tells_the_share_of_elements(tmp_path):
    shares = []

    def hook(self, optimizer):
        gradients = torch.cat([p.grad.flatten() for p in self.parameters()])
        shares.append((gradients.abs() > 0.02).float().mean())

    callback = listening()
    module = subclass(on_before_optimizer_step=hook)
    fit(tmp_path, [callback], module, gradient_clip_val=0.02, gradient_clip_algorithm="value", max_epochs=2)
    assert {e.kind for e in callback.events} == {"value"}
    told = {i: e.clipped_share for i, e in enumerate(callback.events) if e.clipped_share is not None}
    assert list(told) == [0, 10]
    for step, share in told.items():
        torch.testing.assert_close(share, shares[step])
        assert 0 < share < 1


def test_the_modules_own_hook_that_calls_lightnings_clip_is_measured_once_from_the_second_step(tmp_path, monkeypatch):
    import stablelit.callbacks._gradient_tap as room

    passes = []
    monkeypatch.setattr(room, "total_norm", lambda tensors, real=room.total_norm: passes.append(1) or real(tensors))

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        self.clip_gradients(optimizer, 0.3, "norm")

    callback = listening()
    fit(tmp_path, [callback], subclass(configure_gradient_clipping=configure_gradient_clipping))
    assert len(passes) == 1
    assert len(callback.events) == BATCHES
    assert all(e.kind == "norm" and e.max_norm == 0.3 for e in callback.events)


def test_the_modules_own_hook_with_torchs_clip_is_seen_by_what_it_does(tmp_path):
    returned = []

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        returned.append(torch.nn.utils.clip_grad_norm_(self.parameters(), 0.3))

    callback = listening()
    fit(tmp_path, [callback], subclass(configure_gradient_clipping=configure_gradient_clipping))
    for event, norm in zip(callback.events, returned, strict=True):
        assert event.kind == "custom"
        assert event.max_norm is None
        torch.testing.assert_close(event.norm, norm)
        torch.testing.assert_close(event.coefficient, torch.clamp(0.3 / norm, max=1.0), rtol=1e-5, atol=0)
        assert bool(event.clipped) == bool(norm > 0.3)


def manual_step(*clip):
    """A manual training_step that clips with what it is given."""

    def training_step(self, batch, batch_idx):
        recon, kl_per_dim = self.terms(batch[0])
        loss = (recon + kl_per_dim.sum(-1)).mean()
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        self.seen = getattr(self, "seen", [])
        for optimizer in self.optimizers():
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            self.seen.append(norm_of([p.grad for p in parameters]))
            for function in clip:
                function(self, optimizer, parameters)
            optimizer.step()

    return training_step


def lightnings(module, optimizer, parameters):
    module.clip_gradients(optimizer, 0.2, "norm")


def torchs(module, optimizer, parameters):
    torch.nn.utils.clip_grad_norm_(parameters, 0.2)


@pytest.mark.parametrize("name", NAMES)
def test_a_manual_clip_is_told_once_with_the_norm_before_it(name, tmp_path):
    base = type(make_module(name, "manual"))
    module = type("Mine", (base,), {"training_step": manual_step(lightnings)})()
    callback = listening(name)
    trainer, _ = fit(tmp_path, [callback], module, name=name)
    assert [e.index for e in callback.events] == [0, 1] * BATCHES
    assert trainer.global_step == len(callback.events)
    for event, norm, then in zip(callback.events, module.seen, callback.norms_then, strict=True):
        assert event.kind == "norm"
        torch.testing.assert_close(event.norm, norm.float(), rtol=1e-6, atol=0)
        assert then <= 0.2 + 1e-6


def test_a_manual_clip_by_torch_is_not_seen_and_two_clips_of_a_step_are_one_event(tmp_path):
    callback = listening()
    fit(tmp_path, [callback], subclass("manual", training_step=manual_step(torchs)))
    assert len(callback.events) == 2 * BATCHES
    assert all(e.kind is None and e.norm <= 0.2 + 1e-6 for e in callback.events)
    callback, module = listening(), subclass("manual", training_step=manual_step(lightnings, lightnings))
    fit(tmp_path, [callback], module)
    assert len(callback.events) == 2 * BATCHES
    for event, norm in zip(callback.events, module.seen, strict=True):
        torch.testing.assert_close(event.norm, norm.float(), rtol=1e-6, atol=0)


def scaled_plugin(scale=2.0**8):
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))


def test_the_scalers_factor_is_not_in_the_norm(tmp_path):
    plain, scaled = listening(), listening()
    fit(tmp_path, [plain], precision="bf16-mixed")
    fit(tmp_path, [scaled], plugins=[scaled_plugin()], gradient_clip_val=0.3)
    assert float(scaled.events[0].norm) == pytest.approx(float(plain.events[0].norm), rel=0.05)
    assert not scaled.events[0].scaled


def test_a_fused_optimizer_under_a_scaler_has_its_factor_divided_out(tmp_path):
    module = subclass(configure_optimizers=lambda self: torch.optim.Adam(self.parameters(), 1e-2, fused=True))
    plain, callback = listening(), listening()
    fit(tmp_path, [plain], precision="bf16-mixed")
    fit(tmp_path, [callback], module, plugins=[scaled_plugin()])
    assert float(callback.events[0].norm) == pytest.approx(float(plain.events[0].norm), rel=0.05)


def test_a_manual_clip_before_the_scaler_has_unscaled_is_told_as_such(tmp_path):
    callback, module = listening(), subclass("manual", training_step=manual_step(lightnings))
    fit(tmp_path, [callback], module, plugins=[scaled_plugin()])
    for event, norm in zip(callback.events, module.seen, strict=True):
        assert event.scaled
        scale = float(norm / event.norm)  # the scaler may have changed it once
        assert scale in (pytest.approx(2.0**8), pytest.approx(2.0**7))
        assert float(event.max_norm) == pytest.approx(0.2 / scale, rel=1e-5)
        assert float(event.coefficient) == pytest.approx(min(1.0, 0.2 / float(norm)), rel=1e-4)


def test_a_float16_clip_that_overflowed_has_its_true_norm_told(tmp_path):
    def training_step(self, batch, batch_idx):
        return 300.0 * sum(p.sum() for p in self.parameters())

    callback, module = listening(), subclass(training_step=training_step)
    module.encoder = torch.nn.Linear(300, 300)
    fit(tmp_path, [callback], module, precision="16-true", gradient_clip_val=1.0, max_steps=1)
    (event,) = callback.events
    elements = sum(p.numel() for p in module.parameters())
    assert float(event.norm) == pytest.approx(300.0 * elements**0.5, rel=1e-5)
    assert torch.isinf(event.own_norm)
    assert float(event.coefficient) == 0.0 == float(callback.norms_then[0])


def test_a_step_without_gradients_says_so(tmp_path):
    callback = listening()
    fit(tmp_path, [callback], subclass(training_step=lambda self, batch, batch_idx: None), gradient_clip_val=0.3)
    assert [e.gradients for e in callback.events] == [False] * BATCHES


def test_the_norm_is_measured_once_a_step_and_forgotten_after_it(tmp_path, monkeypatch):
    import stablelit.callbacks._gradient_tap as room

    passes = []
    monkeypatch.setattr(room, "total_norm", lambda tensors, real=room.total_norm: passes.append(1) or real(tensors))

    def ask(self, trainer, pl_module, optimizer):
        assert not self.tap.will_clip(optimizer)
        assert self.tap.norm(optimizer) is self.tap.norm(optimizer)

    callback = listening(on_before_optimizer_step=ask)
    fit(tmp_path, [callback])
    assert len(passes) == BATCHES
    assert len({float(e.norm) for e in callback.events}) == BATCHES


def test_where_lightning_clips_the_norm_costs_no_pass(tmp_path, monkeypatch):
    import stablelit.callbacks._gradient_tap as room

    monkeypatch.setattr(room, "total_norm", None)
    fit(tmp_path, [listening(), listening()], gradient_clip_val=0.3)


def test_a_plugin_that_overrides_the_clip_is_measured_first_and_called(tmp_path):
    class Mine(framework(NAMES[0]).plugins.Precision):
        calls = 0

        def clip_grad_by_norm(self, optimizer, clip_val):
            Mine.calls += 1
            super().clip_grad_by_norm(optimizer, clip_val)

    callback = listening()
    fit(tmp_path, [callback], plugins=[Mine()], gradient_clip_val=0.3)
    assert Mine.calls == BATCHES
    assert all(then <= 0.3 + 1e-6 for then in callback.norms_then)
    assert max(float(e.norm) for e in callback.events) > 0.3


def test_release_puts_back_what_was_there_also_a_wrapper_of_somebody_else(tmp_path):
    callback = listening()
    trainer, _ = fit(tmp_path, [callback], gradient_clip_val=0.3)
    assert not {"clip_grad_by_norm", "clip_grad_by_value", "_clip_gradients"} & set(vars(trainer.precision_plugin))
    calls = []
    trainer = make_trainer(tmp_path, [listening()], max_epochs=1, gradient_clip_val=0.3)
    plugin = trainer.precision_plugin
    original = plugin.clip_grad_by_norm
    theirs = lambda *args: calls.append(1) or original(*args)  # noqa: E731
    vars(plugin)["clip_grad_by_norm"] = theirs
    before = dict(vars(plugin))
    trainer.fit(make_module(), train_loader())
    assert len(calls) == BATCHES
    assert vars(plugin) == before


def test_a_wrapper_that_came_after_ours_stays(tmp_path):
    trainer = make_trainer(tmp_path, [])
    plugin, module = trainer.precision_plugin, make_module()
    tap = GradientTap.on(trainer, module)
    ours = plugin.clip_grad_by_norm
    theirs = lambda *args: ours(*args)  # noqa: E731
    vars(plugin)["clip_grad_by_norm"] = theirs
    tap.release()
    assert vars(plugin) == {**vars(plugin), "clip_grad_by_norm": theirs}
    parameter = torch.nn.Parameter(torch.ones(4))
    parameter.grad = torch.full((4,), 5.0)
    plugin.clip_grad_by_norm(torch.optim.SGD([parameter], 0.1), 1.0)
    assert float(parameter.grad.norm()) == pytest.approx(1.0, abs=1e-5)


def test_an_exception_puts_it_back_too_and_the_callback_copies_and_pickles(tmp_path):
    def on_train_batch_end(self, trainer, *args):
        copy.deepcopy(self)
        raise RuntimeError("broken on purpose")

    callback = listening(on_train_batch_end=on_train_batch_end)
    trainer = make_trainer(tmp_path, [callback], max_epochs=1)
    with pytest.raises(RuntimeError, match="on purpose"):
        trainer.fit(make_module(), train_loader())
    assert "_clip_gradients" not in vars(trainer.precision_plugin)
    assert callback.tap is None
    pickle.dumps(trainer.precision_plugin)


def test_holders_are_counted(tmp_path):
    trainer, module = make_trainer(tmp_path, []), make_module()
    first, second = GradientTap.on(trainer, module), GradientTap.on(trainer, module)
    assert first is second
    first.release()
    assert "_clip_gradients" in vars(trainer.precision_plugin)
    second.release()
    assert "_clip_gradients" not in vars(trainer.precision_plugin)


@pytest.mark.parametrize(
    ("plugin", "says"), [("FSDPPrecision", "clip_grad_norm_"), ("DeepSpeedPrecision", "global_grad")]
)
def test_what_cannot_work_is_refused_with_the_way_out(plugin, says, tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, [], gradient_clip_val=0.3)
    held = trainer.precision_plugin
    monkeypatch.setattr(held, "__class__", type(plugin, (type(held),), {}))
    with pytest.raises(ConfigurationError, match=says):
        GradientTap.on(trainer, make_module())
    assert "_clip_gradients" not in vars(held)


def _sharded_fit(rank, port, queue, clip, adaptive):
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    elastic = {"GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}
    os.environ.update(where, **elastic)
    torch.set_num_threads(1)
    norms = []

    def configure_model(self):
        for layer in (self.encoder, self.decoder):
            torch.distributed.fsdp.fully_shard(layer, mesh=self.device_mesh["data_parallel"])

    def on_after_backward(self):
        norms.append(float(norm_of([p.grad.full_tensor() for p in self.parameters()])))

    module = subclass(configure_model=configure_model, on_after_backward=on_after_backward)
    strategy = framework(NAMES[0]).strategies.ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1)
    callback = listening(hear=lambda self, event: self.events.append(event))
    trainer = make_trainer(
        ".",
        [*([AdaptiveGradClip("zclip", max_norm=clip)] if adaptive else []), callback],
        max_epochs=1,
        num_sanity_val_steps=0,
        devices=2,
        strategy=strategy,
        gradient_clip_val=None if adaptive else clip,
    )
    trainer.fit(module, train_loader())
    queue.put(([float(e.norm) for e in callback.events], norms, [float(e.coefficient or 1) for e in callback.events]))


SHARDED = [
    pytest.param(None, False, marks=pytest.mark.slow),
    (0.2, False),
    pytest.param(0.2, True, marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.parametrize(("clip", "adaptive"), SHARDED)
def test_fully_sharded_gradients_have_one_norm_on_both_ranks(clip, adaptive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.get_context("fork")
    queue = context.Queue()
    ranks = [context.Process(target=_sharded_fit, args=(rank, port, queue, clip, adaptive)) for rank in range(2)]
    for process in ranks:
        process.start()
    found = [queue.get(timeout=60) for _ in ranks]
    for process in ranks:
        process.join(timeout=60)
    assert found[0] == found[1]
    told, norms, coefficients = found[0]
    assert len(told) == BATCHES // 2
    assert told == pytest.approx(norms, rel=1e-6)
    assert coefficients == pytest.approx([1.0 if clip is None else min(1.0, clip / n) for n in norms], rel=1e-5)
