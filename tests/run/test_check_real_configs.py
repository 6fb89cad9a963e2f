"""No false alarms: configurations as people write them pass the check."""

from __future__ import annotations

import textwrap

import pytest
from omegaconf import OmegaConf

from stablelit.run.check import check

PROVIDED = {"optimizer": {"params"}, "scheduler": {"optimizer"}}


def problems(text: str) -> list[str]:
    return [str(p) for p in check(OmegaConf.create(textwrap.dedent(text)), provided=PROVIDED)]


TRAINER_ARGUMENTS = [
    "accelerator: auto",
    "accelerator: cpu",
    "devices: auto",
    "devices: 2",
    "devices: -1",
    "devices: [0, 1]",
    "devices: '0,1'",
    "precision: bf16-mixed",
    "precision: 16-mixed",
    "precision: 32",
    "precision: '32'",
    "precision: 32-true",
    "precision: 16",
    "precision: bf16",
    "precision: null",
    "max_epochs: -1",
    "max_epochs: null",
    "max_epochs: 10",
    "max_steps: 500",
    "max_time: '00:01:00:00'",
    "max_time: {hours: 2}",
    "limit_train_batches: 1.0",
    "limit_train_batches: 2",
    "limit_val_batches: 0",
    "overfit_batches: 1",
    "overfit_batches: 0.1",
    "val_check_interval: 0.25",
    "val_check_interval: 100",
    "val_check_interval: '00:00:10:00'",
    "check_val_every_n_epoch: null",
    "gradient_clip_val: 1.0",
    "gradient_clip_val: 1",
    "gradient_clip_val: null",
    "gradient_clip_algorithm: norm",
    "strategy: ddp_find_unused_parameters_true",
    "strategy: {_target_: lightning.pytorch.strategies.DDPStrategy, find_unused_parameters: true}",
    "strategy: {_target_: lightning.pytorch.strategies.SingleDeviceStrategy, device: cpu}",
    "logger: false",
    "logger: true",
    "logger: [{_target_: lightning.pytorch.loggers.CSVLogger, save_dir: .}]",
    "callbacks: [{_target_: lightning.pytorch.callbacks.ModelSummary, max_depth: -1}]",
    "callbacks: {a: {_target_: lightning.pytorch.callbacks.Timer, duration: {hours: 1}}}",
    "callbacks: null",
    "fast_dev_run: true",
    "fast_dev_run: 3",
    "deterministic: warn",
    "deterministic: true",
    "benchmark: null",
    "profiler: null",
    "profiler: simple",
    "profiler: {_target_: lightning.pytorch.profilers.SimpleProfiler, filename: p}",
    "enable_progress_bar: false",
    "enable_progress_bar: null",
    "num_sanity_val_steps: 0",
    "log_every_n_steps: 1",
    "accumulate_grad_batches: 4",
    "plugins: null",
    "plugins: [{_target_: lightning.pytorch.plugins.environments.LightningEnvironment}]",
    "plugins: {_target_: lightning.pytorch.plugins.MixedPrecision, precision: bf16-mixed, device: cpu}",
    "plugins: {_target_: lightning.pytorch.plugins.AsyncCheckpointIO}",
    "plugins: {_target_: lightning.pytorch.plugins.TorchSyncBatchNorm}",
    "accelerator: {_target_: lightning.pytorch.accelerators.CPUAccelerator}",
    "default_root_dir: runs/x",
    "default_root_dir: '${hydra:runtime.output_dir}'",
    "sync_batchnorm: true",
]


@pytest.mark.parametrize("argument", TRAINER_ARGUMENTS)
def test_trainer_arguments_pass(argument):
    assert problems(f"trainer: {{_target_: lightning.pytorch.Trainer, {argument}}}") == []


TARGETS = [
    "lightning.pytorch.callbacks.ModelCheckpoint, monitor: val/loss, mode: min, save_top_k: -1, save_last: link",
    "lightning.pytorch.callbacks.ModelCheckpoint, dirpath: null, filename: '{epoch:03d}', save_last: true",
    "lightning.pytorch.callbacks.ModelCheckpoint, every_n_train_steps: 100, train_time_interval: "
    "{_target_: datetime.timedelta, minutes: 10}",
    "lightning.pytorch.callbacks.EarlyStopping, monitor: val/loss, min_delta: 0, patience: 3, stopping_threshold: null",
    "lightning.pytorch.callbacks.LearningRateMonitor, logging_interval: step",
    "lightning.pytorch.callbacks.LearningRateMonitor, logging_interval: null",
    "lightning.pytorch.callbacks.RichProgressBar, refresh_rate: 20, leave: true, theme: "
    "{_target_: lightning.pytorch.callbacks.progress.rich_progress.RichProgressBarTheme, description: green}",
    "lightning.pytorch.callbacks.TQDMProgressBar, refresh_rate: 20",
    "lightning.pytorch.callbacks.GradientAccumulationScheduler, scheduling: {0: 8, 4: 4}",
    "lightning.pytorch.callbacks.StochasticWeightAveraging, swa_lrs: 1e-2, swa_epoch_start: 0.8",
    "lightning.pytorch.callbacks.EMAWeightAveraging, decay: 0.999",
    "lightning.pytorch.callbacks.Timer, duration: '00:12:00:00'",
    "lightning.pytorch.callbacks.DeviceStatsMonitor",
    "lightning.pytorch.loggers.TensorBoardLogger, save_dir: ., name: null, version: 0, max_queue: 5",
    "lightning.pytorch.loggers.TensorBoardLogger, save_dir: ., name: '', version: v1",
    "lightning.pytorch.loggers.CSVLogger, save_dir: ., flush_logs_every_n_steps: 10",
    "lightning.pytorch.loggers.WandbLogger, project: x, offline: true, log_model: all, tags: [a, b], group: ''",
    "lightning.pytorch.demos.boring_classes.BoringModel",
    "lightning.pytorch.demos.boring_classes.BoringDataModule",
    "pytorch_lightning.Trainer, max_epochs: 2, devices: 1, precision: 16-mixed",
    "pytorch_lightning.callbacks.EarlyStopping, monitor: x",
    "pytorch_lightning.plugins.MixedPrecision, precision: 16-mixed, device: cpu",
    "torch.nn.Linear, in_features: 3, out_features: 4, bias: false, device: cpu, dtype: null",
    "torch.nn.Conv2d, in_channels: 3, out_channels: 4, kernel_size: [3, 3], padding: same, stride: 2",
    "torch.nn.LayerNorm, normalized_shape: [3, 4]",
    "torch.nn.LayerNorm, normalized_shape: 3, eps: 1e-5",
    "torch.nn.Dropout, p: 0",
    "torch.nn.Identity, anything: 3",
    "torch.nn.CrossEntropyLoss, label_smoothing: 0.1, ignore_index: -100",
    "torch.nn.TransformerEncoderLayer, d_model: 8, nhead: 2, activation: gelu, batch_first: true",
    "torch.nn.Sequential, _args_: [{_target_: torch.nn.Linear, _args_: [3, 4]}, {_target_: torch.nn.ReLU}]",
    "torch.nn.LSTM, input_size: 3, hidden_size: 4, num_layers: 2, dropout: 0.1",
    "torch.nn.LSTM, _args_: [3, 4]",
    "torch.nn.MultiheadAttention, embed_dim: 4, num_heads: 2",
    "torch.utils.data.DataLoader, dataset: "
    "{_target_: lightning.pytorch.demos.boring_classes.RandomDataset, size: 3, length: 4}, "
    "batch_size: 2, num_workers: 0, collate_fn: null, timeout: 0, prefetch_factor: null, shuffle: true",
    "torch.utils.data.RandomSampler, data_source: [1, 2], num_samples: null",
    "torch.utils.data.BatchSampler, sampler: {_target_: torch.utils.data.SequentialSampler, data_source: [1]}, "
    "batch_size: 2, drop_last: false",
    "torch_geometric.nn.GCNConv, in_channels: 3, out_channels: 4, normalize: true",
    "torch_geometric.nn.SAGEConv, in_channels: [3, 3], out_channels: 4",
    "torch_geometric.nn.GATv2Conv, in_channels: -1, out_channels: 4, heads: 2, edge_dim: null, fill_value: mean",
    "torch_geometric.loader.DataLoader, dataset: [], batch_size: 4, num_workers: 2",
    "torch_geometric.nn.MLP, channel_list: [3, 4, 5], norm: null, act: relu, dropout: [0.1, 0.0]",
    "torch_geometric.nn.MLP, _args_: [[3, 4, 5]], dropout: 0.5",
    "torchmetrics.Accuracy, task: multiclass, num_classes: 3, top_k: 1",
    "torchmetrics.classification.MulticlassAccuracy, num_classes: 3, average: null, sync_on_compute: false",
    "torchmetrics.classification.BinaryF1Score, threshold: 0.5",
    "torchmetrics.MeanMetric, nan_strategy: ignore",
    "torchmetrics.MeanMetric, nan_strategy: 0.0",
    "torchmetrics.MeanSquaredError, squared: false",
    "torchmetrics.MetricCollection, metrics: {a: {_target_: torchmetrics.MeanMetric}}, prefix: val/",
    "torchmetrics.R2Score, multioutput: uniform_average",
    "stablelit.functional.schedules.Ramp, start: 0, end: 1.0, shape: cosine, steepness: null",
]


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_common_targets_pass(target):
    assert problems(f"x: {{_target_: {target}}}") == []


OPTIMIZERS = [
    "AdamW, lr: 1e-3, betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0, fused: null, foreach: true",
    "Adam, lr: 1, amsgrad: false, betas: [0, 0.9]",
    "SGD, lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 1e-4, dampening: 0",
    "RMSprop, lr: 0.1, alpha: 0.99",
    "LBFGS, lr: 1, max_iter: 20, max_eval: null, line_search_fn: strong_wolfe",
    "Adagrad, lr: 1e-2",
    "NAdam, lr: 1e-2, momentum_decay: 4e-3",
    "Adafactor, lr: 1e-2, eps: [null, 1e-3]",
]
SCHEDULERS = [
    "OneCycleLR, max_lr: 1e-3, total_steps: 100, pct_start: 0.1, anneal_strategy: linear",
    "OneCycleLR, max_lr: [1e-3, 1e-2], epochs: 3, steps_per_epoch: 10",
    "CosineAnnealingLR, T_max: 10, eta_min: 0",
    "CosineAnnealingWarmRestarts, T_0: 10, T_mult: 2",
    "ReduceLROnPlateau, mode: max, factor: 0.5, patience: 3, min_lr: 0",
    "ReduceLROnPlateau, min_lr: [0, 1e-5]",
    "LambdaLR, lr_lambda: {_target_: stablelit.functional.schedules.linear, _partial_: true}",
    "StepLR, step_size: 10, gamma: 0.1",
    "MultiStepLR, milestones: [10, 20]",
    "ExponentialLR, gamma: 0.9",
    "LinearLR, start_factor: 0.1, total_iters: 5",
    "CyclicLR, base_lr: 1e-4, max_lr: 1e-2, mode: triangular2, scale_fn: null",
    "PolynomialLR, total_iters: 10, power: 2",
]


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_pass_partial_or_with_their_parameters_provided(optimizer, partial):
    assert problems(f"optimizer: {{_target_: torch.optim.{optimizer}, _partial_: {str(partial).lower()}}}") == []


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedulers_pass_partial_or_with_their_optimizer_provided(scheduler, partial):
    text = f"scheduler: {{_target_: torch.optim.lr_scheduler.{scheduler}, _partial_: {str(partial).lower()}}}"
    assert problems(text) == []


@pytest.mark.slow
def test_every_default_of_every_common_class_passes_when_it_is_written_out():
    """The annotation of a default that YAML can say must accept that default, whatever the library wrote."""
    import inspect

    import lightning.pytorch as pl
    import torch
    import torchmetrics

    def plain(value):
        if isinstance(value, list | tuple):
            return all(map(plain, value))
        return value is None or type(value) in (bool, int, float, str)

    homes = [torch.nn, torch.optim, torch.optim.lr_scheduler, torch.utils.data, pl, pl.callbacks, pl.loggers]
    homes += [pl.strategies, pl.plugins, torchmetrics, torchmetrics.classification, torchmetrics.regression]
    seen = 0
    for home in homes:
        for name in sorted(n for n in dir(home) if not n.startswith("_")):
            thing = getattr(home, name)
            if not inspect.isclass(thing) or not issubclass(
                thing,
                torch.nn.Module
                | torch.optim.Optimizer
                | torch.optim.lr_scheduler.LRScheduler
                | pl.Trainer
                | pl.Callback,
            ):
                continue
            defaults = {
                n: list(p.default) if isinstance(p.default, tuple) else p.default
                for n, p in inspect.signature(thing).parameters.items()
                if p.default is not p.empty and plain(p.default) and p.kind is not p.POSITIONAL_ONLY
            }
            target = f"{home.__name__}.{name}"
            assert [str(p) for p in check({"x": {"_target_": target, "_partial_": True, **defaults}})] == [], target
            seen += len(defaults)
    assert seen > 1000


def test_an_experiment_as_people_write_it_passes():
    config = """
    seed: 42
    name: toy
    tags: [a, b]
    ckpt_path: null
    paths: {root: ., out: "${paths.root}/runs"}
    base_lr: 1e-3
    model:
      _target_: torch.nn.Sequential
      _args_:
        - {_target_: torch.nn.Linear, in_features: 3, out_features: "${model_width}"}
        - {_target_: torch.nn.Linear, in_features: "${model_width}", out_features: 1}
    model_width: 16
    optimizer: {_target_: torch.optim.AdamW, lr: "${base_lr}", betas: [0.9, 0.95]}
    scheduler: {_target_: torch.optim.lr_scheduler.CosineAnnealingLR, T_max: "${trainer.max_epochs}"}
    callbacks:
      checkpoint: {_target_: lightning.pytorch.callbacks.ModelCheckpoint, dirpath: "${paths.out}", monitor: val/loss}
      progress: null
    logger: {csv: {_target_: lightning.pytorch.loggers.CSVLogger, save_dir: "${paths.out}"}}
    trainer: {_target_: lightning.pytorch.Trainer, max_epochs: 3, default_root_dir: "${paths.out}"}
    """
    assert problems(config) == []
