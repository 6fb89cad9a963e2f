from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from stablelit.callbacks._contrastive_settings import (
    ContrastiveSettings,
    LossKind,
    gathers,
    read_settings,
    settings_findings,
)

GOOD = ContrastiveSettings(LossKind("nt_xent"), 64, temperature=0.2, samples=10_000, is_gathered=True)


def names(**changes):
    return [finding.name for finding in settings_findings(replace(GOOD, **changes))]


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("accumulation-adds-no-negatives", {"accumulated": 2}, {"accumulated": 1}),
        ("negatives-not-gathered", {"ranks": 2, "is_gathered": False}, {"ranks": 2, "is_gathered": True}),
        ("batch-norm-per-rank", {"ranks": 2, "batch_norm_per_rank": True}, {"batch_norm_per_rank": True}),
        ("batch-norm-per-chunk", {"batch_norm": True, "chunk": 127}, {"batch_norm": True, "chunk": 128}),
        ("batch-norm-per-chunk", {"batch_norm": True, "chunk": 32}, {"batch_norm": False, "chunk": 32}),
        ("last-batch-is-small", {"last_batch": 3}, {"last_batch": 0}),
        ("batch-covers-the-data", {"samples": 127}, {"samples": 128}),
        ("batch-covers-the-data", {"samples": 200, "ranks": 2}, {"samples": 200, "ranks": 1}),
        ("unusual-temperature", {"temperature": 0.029}, {"temperature": 0.03}),
        ("unusual-temperature", {"temperature": 1.01}, {"temperature": 1.0}),
    ],
)
def test_each_fault_has_its_finding_and_its_border(name, wrong, right):
    assert names(**wrong) == [name]
    assert names(**right) == []


@pytest.mark.parametrize("chance", ["byol", "info_nce:4096", 5.0])
def test_a_loss_without_negatives_of_the_batch_has_no_finding_about_them(chance):
    assert names(kind=LossKind(chance), accumulated=4, ranks=2, is_gathered=False, samples=64) == []


def test_accumulation_is_told_with_both_counts_and_a_larger_batch_in_chunks():
    (finding,) = settings_findings(replace(GOOD, accumulated=2))
    assert "accumulate_grad_batches=2 averages 2 losses of N=64 each: 126 negatives, not 254" in finding.message
    assert "batch_size=128 with the module's grad_cache_chunk=64" in finding.remedy


def test_the_block_says_negatives_chance_and_floor():
    expected = "64 pairs are compared, 126 negatives an anchor; chance ln(2*64-1)=4.8442, floor at T=0.2: 0.5790"
    assert str(GOOD) == expected
    assert "128 pairs are compared, 254 negatives" in str(replace(GOOD, ranks=2))
    assert "no temperature is known" in str(replace(GOOD, temperature=None))
    assert "gathered=True" in str(replace(GOOD, ranks=2, is_gathered=None))
    assert "chance" not in str(replace(GOOD, kind=LossKind("byol"))).replace("no loss is at chance", "")


@pytest.mark.parametrize(
    ("kind", "formula", "chance", "elsewhere"),
    [
        (LossKind("nt_xent"), "ln(2*8-1)", math.log(15), "ln(2*32-1)=4.1431 at 32 pairs"),
        (LossKind("nt_xent", 2.0), "2*ln(2*8-1)", 2 * math.log(15), "2*ln(2*32-1)=8.2863 at 32 pairs"),
        (LossKind("supcon"), "ln(2*8-1)", math.log(15), "ln(2*32-1)=4.1431 at 32 pairs"),
        (LossKind("dcl"), "ln(2*8-2)", math.log(14), "ln(2*32-2)=4.1271 at 32 pairs"),
        (LossKind("clip"), "ln(8)", math.log(8), "ln(32)=3.4657 at 32 pairs"),
        (LossKind("info_nce:99"), "ln(99+1)", math.log(100), ""),
        (LossKind(3.5), "", 3.5, ""),
        (LossKind(lambda n: 0.5 * n), "", 4.0, "16.0000 at 32 pairs"),
    ],
    ids=[str(i) for i in range(8)],
)
def test_chance_in_words_is_chance_in_numbers(kind, formula, chance, elsewhere):
    assert kind.formula(8) == formula
    assert kind.level(8, None).chance == pytest.approx(chance)
    assert kind.elsewhere(8) == elsewhere


def settings_of(module, batch_size=64, samples=1000, drop_last=True, **trainer):
    data = torch.utils.data.TensorDataset(torch.zeros(samples, 1))
    loader = torch.utils.data.DataLoader(data, batch_size=batch_size, drop_last=drop_last)
    trainer = SimpleNamespace(**{"world_size": 1, "accumulate_grad_batches": 1, "train_dataloader": loader, **trainer})
    return read_settings(trainer, module, LossKind("nt_xent"), 64, None, 0.2)


class Module(nn.Module):
    automatic_optimization = True

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)


def test_settings_are_read_from_trainer_module_and_loader():
    plain = settings_of(Module(nn.Linear(1, 1)))
    assert plain == ContrastiveSettings(LossKind("nt_xent"), 64, 1, None, 1, 0.2, None, False, False, 1000, 0)
    assert settings_of(Module(), drop_last=False).last_batch == 1000 % 64
    assert settings_of(Module(), samples=640, drop_last=False).last_batch == 0
    assert settings_of(Module(), accumulate_grad_batches=4).accumulated == 4
    assert settings_of(Module(), train_dataloader=iter([])).samples is None


def test_batch_norm_is_found_and_the_kind_that_ranks_share_is_told_apart():
    assert settings_of(Module(nn.BatchNorm2d(3))).batch_norm_per_rank
    shared = settings_of(Module(nn.SyncBatchNorm(3)))
    assert shared.batch_norm
    assert not shared.batch_norm_per_rank


def test_the_modules_own_word_counts_where_nothing_is_said():
    module = SimpleNamespace(gather=True)
    assert gathers(module, None) is True
    assert gathers(module, False) is False
    assert gathers(SimpleNamespace(), None) is None
    assert gathers(SimpleNamespace(gather=lambda: 0), None) is None
