"""Scores of single records: the same as validation's, windows added up, a line each."""

from __future__ import annotations

import csv
import math
from types import SimpleNamespace

import pytest
import torch

from stablelit.errors import DataError
from stablelit.families.proteins import ScoreEntropyDiffusion
from stablelit.families.proteins.alphabet import PAD, UNKNOWN

TINY = {
    "d_model": 16,
    "blocks": 1,
    "heads": 2,
    "condition": 8,
    "dropout": 0.0,
    "gate_init": 1.0,
    "head_init": "kaiming",
}


def model(**changes):
    torch.manual_seed(0)
    return ScoreEntropyDiffusion(**({"network": TINY, "predict_draws": 4} | changes)).eval()


def batch(tokens, ids):
    tokens = torch.as_tensor(tokens)
    return {"tokens": tokens, "loss_mask": tokens < 20, "pad_mask": tokens != PAD, "id": torch.as_tensor(ids)}


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def tokens():
    return torch.randint(20, (6, 11), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_windows_of_a_record_are_added_up_under_its_name(tokens, tmp_path):
    scored = model()
    # four records, of which rows 1 and 2 have two windows each
    parts = [batch(tokens[:4], [0, 1, 2, 3]), batch(tokens[4:], [1 + 4, 2 + 4])]
    names = SimpleNamespace(n_records=4, record_name=lambda row: f"protein|{row}")
    scored.trainer = SimpleNamespace(datamodule=names)
    done = scored.write_predictions([scored.predict_step(part, 0) for part in parts], tmp_path / "scores.csv")
    rows = rows_of(tmp_path / "scores.csv")
    assert [row["record"] for row in rows] == [f"protein|{i}" for i in range(4)]
    assert [int(row["residues"]) for row in rows] == [11, 22, 22, 11]
    draws = torch.stack([torch.cat([scored.bound(part, r).nats for part in parts]) for r in range(4)], dim=1)
    expected = draws[1] + draws[4]
    assert float(rows[1]["bound"]) == pytest.approx(float(expected.mean() / 22), rel=1e-5)
    assert float(rows[1]["standard_error"]) == pytest.approx(float(expected.std() / 22 / 2), rel=1e-4)
    assert float(rows[1]["perplexity"]) == pytest.approx(math.exp(float(expected.mean() / 22)), rel=1e-5)
    assert done == {"records": 4, "residues": 66, "bound": pytest.approx(float(draws.mean(1).sum() / 66))}


@torch.no_grad()
def test_a_record_of_unknown_residues_has_no_score_and_spoils_none(tokens, tmp_path):
    scored = model()
    scored.trainer = SimpleNamespace(datamodule=None)
    mixed = torch.cat([tokens[:2], torch.full((1, 11), UNKNOWN)])
    done = scored.write_predictions([scored.predict_step(batch(mixed, [0, 1, 2]), 0)], tmp_path / "scores.csv")
    rows = rows_of(tmp_path / "scores.csv")
    assert rows[2]["residues"] == "0"
    assert rows[2]["bound"] == "nan"
    assert math.isfinite(done["bound"])


@torch.no_grad()
def test_more_draws_scatter_less(tokens):
    scored = model()
    part = batch(tokens.repeat(40, 1), range(240))
    one = scored.bound(part).nats.view(40, 6).std(0)
    four = torch.stack([scored.bound(part, r).nats for r in range(4)]).mean(0).view(40, 6).std(0)
    assert (four < 0.75 * one).all()


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"suffix '.txt'. Allowed: .csv"):
        model().write_predictions([], tmp_path / "scores.txt")
