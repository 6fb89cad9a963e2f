"""What the doctor reads: logs, settings, findings and summaries of anybody's runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from stablelit.callbacks.history_writer import read_history
from stablelit.data import read_skipped
from stablelit.doctor.log_verdict import judge
from stablelit.doctor.log_verdict_json import document
from stablelit.doctor.log_verdict_text import describe
from stablelit.doctor.readers import Unreadable
from tests.doctor.log_files import write_events
from tests.fuzz.mutators import EVENTS, JSON, TEXT, YAML
from tests.fuzz.target import Target, is_stablelit_error, one_file

_HISTORY = b"".join(
    json.dumps(
        {
            "epoch": i,
            "step": 10 * i,
            "train/loss": 2.0 / (i + 1),
            "val/loss": 3.0,
            "lr": 0.01,
            "x": "nan",
            "d": {"e": 1},
        }
    ).encode()
    + b"\n"
    for i in range(12)
)
_CSV = b"epoch,step,train_loss,val_loss,lr\n" + b"".join(
    b"%d,%d,%f,,0.01\n" % (i, 10 * i, 1 / (i + 1)) for i in range(12)
)
_HPARAMS = (
    b"lr: 1e-3\nmodel:\n  width: 64\n  layers: [1, 2]\n  f: !!python/name:torch.nn.ReLU ''\nclip: ${lr}\n? a\n: b\n"
)
_CONFIG = (
    b"name: x\nseed: 0\nmodel:\n  _target_: a.B\n  lr: ${optimizer.lr}\n"
    b"optimizer: {lr: 0.001}\ntrainer: {max_epochs: 3}\n"
)
_FINDING = b'{"name": "loss-spike", "severity": "warning", "message": "it rose", "evidence": {"a": 1.0}, "step": 7}\n'
_SUMMARY = b'{"status": "finished", "metrics": {"val/loss": 1.0}, "best": null}\n'
_SKIPPED = (
    b'{"epoch": 0, "batch": 1, "step": 2, "rank": 0, "reason": "nan", "quantity": "loss", '
    b'"guilty": true, "ids": [1, 2], "culprits": [1]}\n'
)


def _beside_history(name: str, content: bytes) -> Callable[[Path], list[Path]]:
    def write(folder: Path) -> list[Path]:
        (folder / "history.jsonl").write_bytes(_HISTORY)
        (folder / name).write_bytes(content)
        return [folder / name]

    return write


def _events(folder: Path) -> list[Path]:
    points = [(float(10 * i), 1 / (i + 1)) for i in range(6)]
    return [write_events(folder, {"train/loss": points, "val/loss": points[:2], "lr": points})]


def _judge(path: Path) -> object:
    """What the door does with a run: reads, judges, and writes its verdict in words and in JSON."""
    verdict = judge(path.parent)
    return describe(verdict), json.dumps(document([verdict], 0))


def _is_unreadable(error: BaseException) -> bool:
    return isinstance(error, Unreadable) or is_stablelit_error(error)


def _target(name: str, write: Callable[[Path], list[Path]], mutators: object, quick: int = 15) -> Target:
    return Target(name, write, _judge, mutators, quick, _is_unreadable)  # type: ignore[arg-type]


TARGETS = (
    _target("doctor-events", _events, EVENTS),
    _target("doctor-csv", one_file("metrics.csv", _CSV), TEXT),
    _target("doctor-history", one_file("history.jsonl", _HISTORY), JSON),
    _target("doctor-hparams", _beside_history("hparams.yaml", _HPARAMS), YAML),
    _target("doctor-config", _beside_history("config.yaml", _CONFIG), YAML),
    _target("doctor-findings", _beside_history("findings.jsonl", _FINDING), JSON),
    _target("doctor-summary", _beside_history("summary.json", _SUMMARY), JSON),
    Target("history", one_file("history.jsonl", _HISTORY), read_history, JSON),
    Target("skipped", one_file("skipped.jsonl", _SKIPPED * 3), read_skipped, JSON),
)
