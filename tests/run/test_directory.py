from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from stablelit.errors import ConfigurationError
from stablelit.run.directory import RUN_DIR_VARIABLE, claim_run_directory

NOW = datetime(2026, 1, 2, 3, 4, 5)


def test_a_run_is_named_by_experiment_and_time(tmp_path):
    assert claim_run_directory("jets", tmp_path, now=NOW) == tmp_path / "jets" / "2026-01-02_03-04-05"


def test_runs_that_begin_in_one_second_do_not_share_a_directory(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: claim_run_directory("jets", tmp_path, now=NOW), range(16)))
    assert len(set(made)) == 16
    assert (tmp_path / "jets" / "2026-01-02_03-04-05-16").is_dir()


def test_an_explicit_directory_that_holds_a_run_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(ConfigurationError, match="holds a run already.*before its first checkpoint") as refused:
        claim_run_directory("jets", "runs", run_dir=tmp_path)
    assert "resume=" not in str(refused.value), "there is nothing to go on from"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="holds a run already.*resume="):
        claim_run_directory("jets", "runs", run_dir=tmp_path)
    assert claim_run_directory("jets", "runs", run_dir=tmp_path, resumed=True) == tmp_path


@pytest.mark.parametrize("where", ["runs", "runs/jets", "runs/jets/2026-01-02_03-04-05"])
def test_a_file_in_the_way_is_named(where):
    path = Path(where)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    if where.endswith("05"):
        # a file of the very name counts as taken
        with pytest.raises(ConfigurationError, match="a file of that name"):
            claim_run_directory("jets", "runs", now=NOW)
    else:
        with pytest.raises(ConfigurationError, match="file"):
            claim_run_directory("jets", "runs", now=NOW)


def test_no_permission_is_told_with_what_to_do(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ConfigurationError, match="Permission denied.*runs=DIR"):
        claim_run_directory("jets", tmp_path)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", 3, "a b"])
def test_a_name_that_names_no_folder_is_refused(name, tmp_path):
    with pytest.raises(ConfigurationError, match="name"):
        claim_run_directory(name, tmp_path)


def test_processes_started_by_lightning_share_their_parents_directory(monkeypatch, tmp_path):
    monkeypatch.setenv(RUN_DIR_VARIABLE, str(tmp_path / "parents"))
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert claim_run_directory("jets", tmp_path) == tmp_path / "parents"
    assert not (tmp_path / "jets").exists()


@pytest.mark.parametrize(("rank", "world"), [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")])
def test_processes_started_from_outside_must_be_given_a_directory(monkeypatch, tmp_path, rank, world):
    monkeypatch.setenv(rank, "1")
    monkeypatch.setenv(world, "2")
    with pytest.raises(ConfigurationError, match="run_dir="):
        claim_run_directory("jets", tmp_path)
    (tmp_path / "config.yaml").write_text("")  # rank 0 was faster
    assert claim_run_directory("jets", tmp_path, run_dir=tmp_path) == tmp_path
