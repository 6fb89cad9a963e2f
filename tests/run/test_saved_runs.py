from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from stablelit.evaluate import main as evaluate
from stablelit.generate import main as generate
from stablelit.predict import main as predict

from .tiny import TinyDataModule


def test_evaluating_again_gives_the_tests_numbers(trained, door):
    first = trained()
    done = door(evaluate, f"run={first.run_dir}")
    assert done.code == 0, done.err
    written = json.loads((first.run_dir / "evaluation.json").read_text())
    assert written["metrics"] == first.summary["test"]
    assert "test/loss" in done.out


@pytest.mark.slow
def test_an_evaluation_on_other_data_replaces_none(trained, door):
    first = trained()
    door(evaluate, f"run={first.run_dir}")
    done = door(evaluate, f"run={first.run_dir / 'checkpoints/last.ckpt'}", "data.seed=9")
    assert done.code == 0, done.err
    second = json.loads((first.run_dir / "evaluation-2.json").read_text())
    assert second["data"]["seed"] == 9
    assert second["overrides"] == ["data.seed=9"]
    assert second["checkpoint"].endswith("last.ckpt")


@pytest.mark.slow
def test_an_evaluation_changes_nothing_else_in_the_run(trained, door):
    first = trained()
    before = {p: p.read_bytes() for p in first.run_dir.rglob("*") if p.is_file()}
    door(evaluate, f"run={first.run_dir}")
    assert {p: p.read_bytes() for p in before} == before
    assert {p.name for p in Path.cwd().iterdir()} == {"runs"}


@pytest.mark.parametrize("argv", [[], ["run=nowhere"], ["run=.", "-m"]])
@pytest.mark.parametrize("program", [evaluate, generate, predict])
def test_a_run_that_is_not_there_is_told(door, program, argv):
    done = door(program, *argv, *(["output=x.pt"] if program is not evaluate else []))
    assert done.code == 2
    assert "ConfigurationError" in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_another_model_than_the_runs_is_told(trained, door):
    done = door(evaluate, f"run={trained().run_dir}", "model.latent_dim=7")
    assert done.code == 2
    assert "latent_dim is 2 in the checkpoint and 7 in the model" in done.err


@pytest.mark.slow
def test_samples_are_written_and_the_seed_decides_them(trained, door):
    run = trained().run_dir
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = door(generate, f"run={run}", "n=7", f"output={name}.pt", f"seed={seed}", "temperature=0.5")
        assert done.code == 0, done.err
    a, b, c = (torch.load(f"{name}.pt") for name in "abc")
    assert a.shape == (7, 6)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("sed=1", "Did you mean 'seed'"),
        ("temperature=warm", "temperature='warm'"),
        ("n=0", "n=0 is not allowed"),
        ("output=nowhere/x.pt", "there is no directory"),
    ],
)
def test_a_wrong_argument_is_told(trained, door, argument, message):
    argv = {"n": "n=3", "output": "output=x.pt", argument.split("=")[0]: argument}
    done = door(generate, f"run={trained('trainer.max_epochs=1').run_dir}", *argv.values())
    assert done.code == 2
    assert message in done.err


@pytest.mark.slow
def test_a_module_that_cannot_generate_says_so(trained, door):
    first = trained("model._target_=tests.run.tiny.SelfReliant")
    done = door(generate, f"run={first.run_dir}", "n=3", "output=x.pt")
    assert done.code == 2
    assert "SelfReliant cannot generate" in done.err


@pytest.mark.slow
def test_a_file_that_is_there_is_not_written_over(trained, door):
    run = trained().run_dir
    Path("a.pt").write_text("mine")
    done = door(generate, f"run={run}", "n=7", "output=a.pt")
    assert done.code == 2
    assert "output=a.pt is there already" in done.err
    assert Path("a.pt").read_text() == "mine"


@pytest.mark.slow
def test_an_evaluation_says_how_much_of_the_data_it_was_on(trained, door):
    assert "Tested on 16 of 64 samples" in door(evaluate, f"run={trained().run_dir}").out


@pytest.mark.slow
def test_predictions_are_those_of_the_checkpoint_on_the_data_asked_for(trained, door):
    run = trained().run_dir
    for name, seed in (("a", 0), ("b", 5)):
        done = door(predict, f"run={run}", f"output={name}.pt", f"data.seed={seed}")
        assert done.code == 0, done.err
        assert "points" in done.out
        weights = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
        points = TinyDataModule(seed=seed)
        points = points.points[points.split_indices["test"]]
        codes = points @ weights["encoder.weight"].T + weights["encoder.bias"]
        assert torch.allclose(torch.load(f"{name}.pt"), codes[:, :2], atol=1e-6)
    assert not list(run.glob("figures/predict*"))


@pytest.mark.slow
def test_a_module_that_cannot_predict_says_so(trained, door):
    first = trained("model._target_=tests.run.tiny.SelfReliant")
    done = door(predict, f"run={first.run_dir}", "output=x.pt")
    assert done.code == 2
    assert "SelfReliant cannot predict into a file" in done.err


@pytest.mark.slow
def test_predictions_do_not_write_over_a_file(trained, door):
    run = trained().run_dir
    Path("a.pt").write_text("mine")
    assert "output=a.pt is there already" in door(predict, f"run={run}", "output=a.pt").err
    assert Path("a.pt").read_text() == "mine"
