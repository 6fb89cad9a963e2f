"""summary.json: what a run came to, in plain data, whether it finished or not."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

import stablelit
from stablelit.data.files import replacing
from stablelit.run_files import SUMMARY_FILE, plain

Status = Literal["finished", "interrupted", "failed", "diverged"]
_VERSIONS_OF = ("torch", "lightning", "hydra-core", "numpy")


def write_summary(run_dir: Path, **entries: Any) -> Path:
    """Writes the entries, the versions and the identity of the code; values that JSON lacks become strings.

    Args:
        run_dir: where.
        entries: what the run came to: status, metrics, checkpoints and so on.
    """
    path = run_dir / SUMMARY_FILE
    whole = {**entries, "versions": versions(), "code": code_identity()}
    with replacing(path) as fresh:
        fresh.write_text(json.dumps(plain(whole), indent=2) + "\n", encoding="utf-8")
    return path


def data_identity(datamodule: Any) -> Any:
    """What the datamodule says of its data; None where it says nothing."""
    identity = getattr(datamodule, "identity", None)
    return identity() if callable(identity) else None


def versions() -> dict[str, str]:
    """Of Python, stablelit and what it stands on."""
    found = {"python": platform.python_version(), "stablelit": stablelit.__version__}
    for package in _VERSIONS_OF:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine_identity(device: torch.device) -> dict[str, Any]:
    """What the run was trained on: system, processor, cores, threads of an operation, and the accelerator's name."""
    known: dict[str, Any] = {
        "system": platform.platform(terse=True),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }
    if device.type == "cuda":
        known["accelerator"] = torch.cuda.get_device_name(device)
    return known


def _processor() -> str:
    """Linux knows it by name; elsewhere what Python says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def code_identity() -> dict[str, Any]:
    """The commit of the checkout that ran and whether it was changed since; of an installed package its version."""
    root = Path(stablelit.__file__).resolve().parent.parent
    if (root / ".git").exists() and (root / "stablelit").is_dir():
        commit, state = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain", "--untracked-files=no")
        if commit:
            return {"commit": commit, "dirty": bool(state)}
    return {"version": stablelit.__version__}


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
