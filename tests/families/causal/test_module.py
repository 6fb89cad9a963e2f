from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint

from stablelit.callbacks import EMACallback, GradientReachCheck, ScalarSchedule
from stablelit.errors import ConfigurationError, ContractError
from stablelit.families.causal import SensorDataModule, SensorPanel, StructureLearner
from stablelit.families.causal.fitting import NonFiniteLossError
from stablelit.findings import FindingError, FindingWarning, read_findings
from stablelit.functional.edge_thresholds import is_acyclic

NAMES = ["pump", "valve", "flow", "heat"]
# pump -> flow -> heat, valve -> flow
EDGES = [(0, 2, 1.2), (1, 2, -0.9), (2, 3, 1.0)]


def truth() -> np.ndarray:
    graph = np.zeros((4, 4), dtype=bool)
    for i, j, _ in EDGES:
        graph[i, j] = True
    return graph


def panel_of(rows=600, seed=0, missing=0.0, factor=None, noise="laplace", **others) -> SensorPanel:
    rng = np.random.default_rng(seed)
    weights = np.zeros((4, 4))
    for i, j, weight in EDGES:
        weights[i, j] = weight
    x = getattr(rng, noise)(size=(rows, 4)) @ np.linalg.inv(np.eye(4) - weights)
    x = x if factor is None else x * factor
    mask = rng.random(x.shape) >= missing
    return SensorPanel.from_values(np.where(mask, x, np.nan), NAMES, truth=truth(), **others)


def data_of(panel=None, **settings):
    return SensorDataModule.from_panel(panel or panel_of(), **{"split": "iid", "steps_per_epoch": 20, **settings})


def trainer_of(directory, max_epochs=8, callbacks=(), **settings):
    settings = {"logger": False, "enable_checkpointing": bool(callbacks and settings.pop("checkpoint", 0)), **settings}
    return Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        default_root_dir=directory,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **settings,
    )


def fitted(directory, learner=None, data=None, **settings):
    torch.manual_seed(0)
    learner, data = learner or StructureLearner(), data or data_of()
    trainer = trainer_of(directory, **settings)
    trainer.fit(learner, datamodule=data)
    return learner, trainer


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A learner after its whole training and its trainer, for tests that leave both as they are."""
    return fitted(tmp_path_factory.mktemp("ended"))


@pytest.mark.parametrize(
    "mechanism",
    ["linear", pytest.param("network", marks=pytest.mark.slow), pytest.param("tri_latent", marks=pytest.mark.slow)],
)
def test_every_mechanism_finds_a_graph_that_the_data_show(tmp_path, mechanism):
    rule = "bic" if mechanism == "linear" else 0.2
    learner = StructureLearner(mechanism=mechanism, rule=rule, polish="none")
    data = data_of(panel_of(rows=1500))
    learner, trainer = fitted(tmp_path, learner, data, max_epochs=12 if mechanism == "linear" else 20)
    skeleton = learner.adjacency() | learner.adjacency().T
    assert torch.equal(skeleton, torch.from_numpy(truth() | truth().T))
    assert float(trainer.callback_metrics["val/nll"]) < float(trainer.callback_metrics["val/nll_baseline"]) - 0.05
    assert learner.is_dag()


@pytest.mark.slow
def test_the_polished_graph_is_the_true_one_and_tests_say_so(ended):
    learner, trainer = ended
    assert np.array_equal(learner.adjacency().numpy(), truth())
    (scores,) = trainer.test(learner, datamodule=data_of(), verbose=False)
    assert scores["test/shd"] == 0.0
    assert scores["test/shd_empty"] == 3.0
    assert 0.0 <= scores["test/gradient_f1"] <= 1.0
    weights = {(edge.source, edge.target): edge.weight for edge in learner.edge_list()}
    for i, j, weight in EDGES:
        assert weights[NAMES[i], NAMES[j]] == pytest.approx(weight, abs=0.15)


@pytest.mark.slow
def test_units_change_nothing_but_the_units_of_the_weights(ended, tmp_path):
    factor = np.array([1e-3, 1e3, 7.0, 0.02])
    plain, _ = ended
    scaled, _ = fitted(tmp_path, data=data_of(panel_of(factor=factor)))
    assert torch.equal(plain.adjacency(), scaled.adjacency())
    torch.testing.assert_close(plain.edge_scores(), scaled.edge_scores(), atol=1e-4, rtol=1e-3)
    before = {(e.source, e.target): e.weight for e in plain.edge_list()}
    for edge in scaled.edge_list():
        ratio = factor[NAMES.index(edge.target)] / factor[NAMES.index(edge.source)]
        assert edge.weight == pytest.approx(before[edge.source, edge.target] * ratio, rel=1e-5)


@pytest.mark.slow
def test_what_stands_in_a_hole_does_not_matter(tmp_path):
    panel = panel_of(missing=0.2)
    dirty = SensorPanel(np.where(panel.mask, panel.values, 1e6), panel.mask, panel.names, truth=panel.truth)
    clean, _ = fitted(tmp_path, data=data_of(panel), max_epochs=3)
    data = data_of(panel)
    data.panel = dirty
    other, _ = fitted(tmp_path, data=data, max_epochs=3)
    assert torch.equal(clean.edge_scores(), other.edge_scores())
    assert torch.equal(clean.adjacency(), other.adjacency())


@pytest.mark.slow
def test_prior_knowledge_holds_for_the_gradient_and_for_the_search(tmp_path):
    learner = StructureLearner(forbidden=[["pump", "flow"]], required=[["heat", "valve"]], tiers=[["heat"], ["valve"]])
    learner, _ = fitted(tmp_path, learner)
    for graph in (learner.adjacency(), learner.estimator.gradient_graph):
        assert not graph[0, 2]
        assert graph[3, 1]
        assert is_acyclic(graph.numpy())
    assert float(learner.edge_scores()[0, 2]) == 0.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"required": [["pump", "flow"], ["flow", "pump"]]}, "cycle"),
        ({"forbidden": [["pmp", "flow"]]}, "pump"),
        ({"required": [["pump", "flow"]], "forbidden": [["pump", "flow"]]}, "forbidden"),
    ],
)
def test_knowledge_that_contradicts_itself_is_refused_at_once(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        StructureLearner(names=NAMES, **wrong)


class Stop(ModelCheckpoint):
    """Saves after one step, in the middle of an epoch."""

    def __init__(self, directory, at):
        super().__init__(dirpath=directory, filename="middle", every_n_train_steps=at, save_top_k=-1)


@pytest.mark.parametrize("kind", ["path", "augmented_lagrangian"])
def test_a_run_resumed_inside_an_epoch_and_a_stage_is_the_uninterrupted_one(tmp_path, kind):
    settings = {"path": {"kind": kind}, "polish": "none"}
    whole, trainer = fitted(
        tmp_path, StructureLearner(**settings), max_epochs=4, callbacks=[Stop(tmp_path, 33)], checkpoint=1
    )
    torch.manual_seed(1)
    rest = StructureLearner(**settings)
    again = trainer_of(tmp_path, max_epochs=4)
    again.fit(rest, datamodule=data_of(), ckpt_path=str(tmp_path / "middle.ckpt"), weights_only=True)
    for (name, one), two in zip(whole.state_dict().items(), rest.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, atol=0.0, rtol=0.0, equal_nan=True, msg=name)
    for name in ("train/loss", "train/recon", "val/nll", "path/mu"):
        assert float(trainer.callback_metrics[name]) == float(again.callback_metrics[name]), name


@pytest.mark.slow
def test_a_resumed_run_keeps_its_graph_through_the_check_of_validation(tmp_path):
    module, again = fitted(tmp_path, StructureLearner(), max_epochs=1)
    again.save_checkpoint(tmp_path / "end.ckpt")
    assert module.estimator.is_polished
    rest, seen = StructureLearner(), []

    class AtTheStart(Callback):
        def on_train_start(self, trainer, pl_module):
            seen.append((pl_module.estimator.is_polished, pl_module.estimator.graph.clone()))

    checked = trainer_of(tmp_path, max_epochs=2, callbacks=[AtTheStart()], num_sanity_val_steps=1)
    checked.fit(rest, datamodule=data_of(), ckpt_path=str(tmp_path / "end.ckpt"), weights_only=True)
    assert seen[0][0]
    assert torch.equal(seen[0][1], module.estimator.graph)


def test_a_run_resumed_for_longer_does_not_jump_back_on_its_path(tmp_path):
    _, trainer = fitted(tmp_path, max_epochs=2, callbacks=[Stop(tmp_path, 20)], checkpoint=1)
    assert int(trainer.global_step) == 40
    longer = StructureLearner()
    trainer_of(tmp_path, max_epochs=6).fit(
        longer, datamodule=data_of(), ckpt_path=str(tmp_path / "middle.ckpt"), weights_only=True
    )
    assert int(longer.objective.path.steps) == 120
    # one line of the history an epoch, those of the first run among them
    assert [row[0] for row in longer._history.rows] == [20.0 * epoch - 1 for epoch in range(1, 7)]
    # a fifth of the 40 steps that were planned at first
    assert longer.objective.path.ends.tolist()[0] == 8


@pytest.mark.slow
def test_a_checkpoint_is_a_graph_without_any_data(ended, tmp_path):
    learner, trainer = ended
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    loaded = StructureLearner.load_from_checkpoint(tmp_path / "end.ckpt", weights_only=True)
    assert torch.equal(loaded.adjacency(), learner.adjacency())
    assert loaded.names == tuple(NAMES)
    assert str(loaded.edge_list()) == str(learner.edge_list()).replace("  correct", "")


@pytest.mark.slow
def test_steps_of_the_path_are_optimizer_steps(tmp_path):
    learner, trainer = fitted(tmp_path, max_epochs=2, accumulate_grad_batches=4)
    assert int(learner.objective.path.steps) == trainer.global_step == 10


@pytest.mark.slow
def test_a_schedule_may_move_the_weights_of_the_objective(tmp_path):
    schedule = ScalarSchedule("objective.lambda_sparse", start=0.0, end=0.5, duration="0.5dur")
    learner, _ = fitted(tmp_path, max_epochs=2, callbacks=[schedule])
    assert float(learner.objective.lambda_sparse) == 0.5


@pytest.mark.slow
def test_the_reach_check_passes_the_learner_and_stops_the_post_mortem(tmp_path):
    fitted(tmp_path, max_epochs=1, callbacks=[GradientReachCheck({"recon": "mechanism.structure"})])
    around = StructureLearner(
        mechanism="autoencoder", noise="squared_error", acyclicity="trace_power", path={"kind": "fixed"}, rule=0.1
    )
    with pytest.warns(FindingWarning), pytest.raises(FindingError, match=r"mechanism\.structure"):
        fitted(tmp_path, around, max_epochs=1, callbacks=[GradientReachCheck({"recon": "mechanism.structure"})])


@pytest.mark.slow
def test_predictions_fill_holes_and_leave_what_was_observed(tmp_path):
    panel = panel_of(missing=0.3)
    learner, trainer = fitted(tmp_path, data=data_of(panel))
    (batch,) = trainer.predict(learner, dataloaders=data_of(panel).test_dataloader())
    rows = batch["id"].numpy()
    seen = panel.mask[rows]
    np.testing.assert_allclose(batch["values"].numpy()[seen], panel.values[rows][seen], rtol=1e-6)
    full = panel_of(missing=0.0).values[rows]
    # toy data: filled cells are nearer to the truth than the mean is
    filled = np.abs(batch["values"].numpy()[~seen] - full[~seen]).mean()
    assert filled < 0.9 * np.abs(full[~seen] - full.mean()).mean()


@pytest.mark.slow
def test_a_bfloat16_run_keeps_its_graph_in_float64(tmp_path):
    learner, _ = fitted(tmp_path, precision="bf16-mixed", max_epochs=4)
    assert learner.mechanism.structure.weights.dtype == torch.float64
    assert np.array_equal(learner.adjacency().numpy(), truth())


def test_a_loss_that_is_not_finite_names_stage_and_column(tmp_path):
    learner = StructureLearner(names=NAMES, learning_rate=0.01)
    learner.setup = _spoiled(learner)  # the scale of one column alone
    with pytest.raises(NonFiniteLossError, match=r"stage 0 \(mu=10, s=1\) after 0 optimizer steps.*: flow\."):
        fitted(tmp_path, learner)


def _spoiled(learner):
    original = learner.setup

    def setup(stage):
        original(stage)
        with torch.no_grad():
            learner.mechanism.log_scale[2] = float("nan")

    return setup


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ({"names": ["pump", "valve"]}, "built for 2 columns .pump, valve., but SensorDataModule gives 4"),
        ({"lags": 2}, r"lags=2, but SensorDataModule gives lags=0. Set data\.lags=2"),
    ],
)
def test_a_learner_for_other_data_is_refused_before_training(tmp_path, learner, message):
    with pytest.raises(ConfigurationError, match=message):
        fitted(tmp_path, StructureLearner(**learner))


def test_without_a_datamodule_the_error_says_what_is_needed(tmp_path):
    loader = data_of().train_dataloader()
    with pytest.raises(ContractError, match=r"SensorDataModule\.from_panel"):
        trainer_of(tmp_path).fit(StructureLearner(), loader)


def test_few_rows_and_units_of_their_own_are_findings(tmp_path):
    factor = np.array([1.0, 1.0, 50.0, 1.0])
    learner = StructureLearner(noise="equal_variance")
    with pytest.warns(FindingWarning):
        fitted(tmp_path, learner, data_of(panel_of(rows=40, factor=factor), scale="center"), max_epochs=1)
    found = {finding.name: finding for finding in read_findings(tmp_path)}
    assert found["few-rows"].evidence["columns"] == 4
    assert found["scale-dependent"].evidence["widest"] == "flow"
    assert "laplace" in found["scale-dependent"].remedy


def test_equal_variances_on_standardised_columns_are_a_finding(tmp_path):
    with pytest.warns(FindingWarning, match="standardised-least-squares"):
        fitted(tmp_path, StructureLearner(noise="equal_variance"), max_epochs=1)


@pytest.mark.slow
def test_resampling_gives_every_edge_a_confidence(tmp_path):
    learner, _ = fitted(tmp_path, StructureLearner(bootstrap=10), max_epochs=2)
    assert all(0.5 < edge.confidence <= 1.0 for edge in learner.edge_list())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"noise": "cauchy"}, "noise='cauchy'"),
        ({"acyclicity": "logdet"}, "Did you mean 'log_det'"),
        ({"acyclicity": "trace_power"}, "path.kind='path'"),
        ({"lambda_sparse": -1.0}, "lambda_sparse=-1.0"),
        ({"target_sparsity": 0.1}, "target_sparsity=0.1"),
        ({"path": {"mus": [1.0]}}, "no setting 'mus'. Did you mean 'mu'"),
        ({"polish": "best", "names": NAMES}, "polish='best'"),
        (
            {"polish": "gaussian", "mechanism": "network", "names": NAMES},
            "searches among linear graphs, and the mechanism is not",
        ),
        ({"rule": "largest", "names": NAMES}, "rule='largest'"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"bootstrap": -1}, "bootstrap=-1"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        StructureLearner(**wrong)


@pytest.mark.slow
def test_a_second_fit_on_other_data_learns_those(tmp_path):
    learner, _ = fitted(tmp_path)
    turned = SensorPanel.from_values(panel_of().values[:, ::-1].copy(), NAMES)
    again, _ = fitted(tmp_path, learner, data_of(turned))
    fresh, _ = fitted(tmp_path, data=data_of(turned))
    assert torch.equal(again.adjacency(), fresh.adjacency())
    assert not torch.equal(again.adjacency(), torch.from_numpy(truth()))


@pytest.mark.slow
def test_validating_a_loaded_learner_leaves_its_graph_alone(ended, tmp_path):
    learner, trainer = ended
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    loaded = StructureLearner.load_from_checkpoint(tmp_path / "end.ckpt", weights_only=True)
    trainer_of(tmp_path).validate(loaded, datamodule=data_of(), verbose=False)
    assert loaded.estimator.is_polished
    assert torch.equal(loaded.adjacency(), learner.adjacency())


@pytest.mark.filterwarnings("ignore::stablelit.findings.FindingWarning")
def test_columns_that_repeat_each_other_are_a_finding_and_no_crash(tmp_path):
    panel = panel_of()
    twice = np.column_stack([panel.values, 2.0 * panel.values[:, 2] + 1.0])
    fitted(tmp_path, data=data_of(SensorPanel.from_values(twice, [*NAMES, "flow again"])), max_epochs=1)
    found = {finding.name: finding for finding in read_findings(tmp_path)}
    assert found["columns-repeat-each-other"].evidence["second"] == "flow again"


@pytest.mark.filterwarnings("ignore::stablelit.findings.FindingWarning")
def test_fewer_rows_than_columns_are_a_finding_and_no_crash(tmp_path):
    table = np.random.default_rng(0).normal(size=(14, 20))
    learner, _ = fitted(tmp_path, data=data_of(SensorPanel.from_values(table)), max_epochs=1)
    assert learner.is_dag()
    assert {finding.name for finding in read_findings(tmp_path)} >= {"few-rows"}


@pytest.mark.slow
def test_a_column_that_hardly_varies_does_not_end_the_run_at_its_resampling(tmp_path):
    panel = panel_of()
    rare = np.zeros(len(panel.values))
    rare[300:303] = 1.0
    table = np.column_stack([panel.values, rare])
    data = data_of(SensorPanel.from_values(table, [*NAMES, "alarm"]), train=0.7, val=0.0, test=0.0, split="time")
    learner, _ = fitted(tmp_path, StructureLearner(bootstrap=6), data, max_epochs=1)
    assert all(edge.confidence is not None for edge in learner.edge_list())


@pytest.mark.parametrize("kind", [EMAWeightAveraging, EMACallback])
def test_averages_of_a_graph_are_refused(kind, tmp_path):
    with pytest.raises(ConfigurationError, match=r"~callbacks\.ema"):
        fitted(tmp_path, StructureLearner(names=NAMES), max_epochs=1, callbacks=[kind(decay=0.9)])


def test_a_guard_leaves_out_what_is_not_finite_in_the_place_of_an_error(tmp_path):
    class Guard(Callback):
        leaves_out_non_finite = True

    learner = StructureLearner(names=NAMES)
    learner.setup = _spoiled(learner)
    _, trainer = fitted(tmp_path, learner, max_epochs=1, callbacks=[Guard()])
    assert "train/loss" not in trainer.callback_metrics


@pytest.mark.slow
def test_a_slope_keeps_its_sign_and_its_units_without_a_search(tmp_path):
    learner, _ = fitted(tmp_path, StructureLearner(polish="none"), data_of(panel_of(rows=1500)), max_epochs=12)
    weights = {(edge.source, edge.target): edge.weight for edge in learner.edge_list()}
    assert weights["valve", "flow"] == pytest.approx(-0.9, abs=0.2)
