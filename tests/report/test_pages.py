"""The whole files, as a reader of HTML sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

import pytest

from stablelit.report.door import main
from stablelit.report.writing import write_report
from tests.report.made_runs import finding, make_picture, make_run
from tests.report.page_checks import parsed

HOSTILE = "</style><script>alert('x')</script><img src=x onerror=alert(1)>\"'&$\\frac{1}{"


def page_of(*runs, tmp_path):
    written = write_report(list(runs), tmp_path / "out.html")
    return parsed(written.path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_run_is_told_with_its_results_first(tmp_path):
    page = page_of(make_run(tmp_path / "run", 12, findings=[finding()]), tmp_path=tmp_path)
    sections = [found.text for found in page.all("h2")]
    assert sections == ["Results", "Curves", "Findings", "Doctor", "Everything logged", "What was run"]
    assert [found.attributes["href"][1:] for found in page.all("a")] == [
        s.attributes["id"] for s in page.all("section")
    ]
    assert "finished · 12 epochs · 120 optimizer steps · 2 min 15 s · jets" in page.text
    first = page.all("tr")[1].text
    assert first == "test/neg_elbo82 ± 0.5119"  # name, value, baseline
    assert "python -m stablelit.train +experiment=toy seed=0" in page.text
    assert "--config-name config" in page.text
    assert "callbacks.kl_cap.kl_target=20" in page.text


@pytest.mark.slow
def test_the_pictures_of_a_run_are_there_and_say_their_numbers(tmp_path):
    page = page_of(make_run(tmp_path / "run", 12, findings=[finding(step=35)]), tmp_path=tmp_path)
    assert [found.text for found in page.all("h3")][:6] == [
        "val/neg_elbonats", "Lossbelow: learning rate", "Components of the loss", "KLnats · below: weight of the KL",
        "Gradient normbelow: share of steps clipped", "Time per epochs",
    ]  # fmt: skip
    alts = [f.attributes["aria-label"] for f in page.all("svg") if f.attributes.get("class") != "spark"]
    assert len(alts) == 6
    assert "val falls from 120 to 84.43, least 84.43 at epoch 11, most 120; baseline is 118" in alts[0]
    assert "number 1 at epoch 3" in alts[0]
    assert "weight of the KL falls from 1 to 0.89" in alts[3]
    assert "clip is 1" in alts[4]
    assert "data wait is 0.5" in alts[5]  # a quarter of two seconds


@pytest.mark.slow
def test_nothing_of_a_file_becomes_markup(tmp_path):
    run = make_run(
        tmp_path / "run", 6, name=json.dumps(HOSTILE).replace("{", "(").replace("}", ")"),
        findings=[finding(HOSTILE, message=HOSTILE, remedy=HOSTILE, source=HOSTILE, evidence={HOSTILE: HOSTILE})],
        change=lambda made: {**made, f"train/{HOSTILE}": 1.0, f"val/{HOSTILE}": 2.0, "train/other": 3.0},
        summary={"status": HOSTILE, "error": HOSTILE, "test": {HOSTILE: 1.0}, "doctor": [HOSTILE],
                 "data": {HOSTILE: HOSTILE},
                 "objective": {"metric": f"val/{HOSTILE}", "mode": HOSTILE, "best": HOSTILE}},
    )  # fmt: skip
    (run / "overrides.yaml").write_text(json.dumps({"overrides": [HOSTILE]}))
    page = page_of(run, tmp_path=tmp_path)  # it complains of a script, of handlers and of what is not closed
    assert page.text.count("<script>alert('x')</script>") > 8
    second = make_run(tmp_path / "second", 6)
    page_of(run, second, tmp_path=tmp_path)


@pytest.mark.slow
def test_the_latest_picture_of_each_name_is_in_the_page(tmp_path):
    run = make_run(tmp_path / "run", 2)
    for name in ("jets", "mass", "gradients", "test/jets"):
        make_picture(run / "figures" / f"{name}.png")
    os.utime(run / "figures" / "jets.png", (1, 1))
    (run / "figures" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    page = page_of(run, tmp_path=tmp_path)
    alts = [found.attributes["alt"] for found in page.all("img")]
    assert alts == ["test: jets, a picture that the run drew", "mass, a picture that the run drew"]
    assert "broken.png: a picture that cannot be shown" in page.text


def test_a_run_without_history_has_its_results_and_says_so(tmp_path):
    run = make_run(tmp_path / "run", 4)
    (run / "history.jsonl").unlink()
    page = page_of(run, tmp_path=tmp_path)
    assert "There is no history: nothing to draw." in page.text
    assert "test/neg_elbo" in page.text
    assert not page.all("svg")


@pytest.mark.slow
def test_a_run_that_goes_on_says_so(tmp_path):
    page = page_of(make_run(tmp_path / "run", 3, summary={}), tmp_path=tmp_path)
    assert "still going · 3 epochs · 30 optimizer steps" in page.text
    assert page.all("svg")


@pytest.mark.slow
def test_a_summary_of_impossible_numbers_is_shown(tmp_path):
    huge = 10**400
    summary = {
        "status": "finished", "epochs": huge, "steps": "nan", "seconds": "inf",
        "best": {"epoch": "inf", "val/x": "-inf"},
        "objective": {"metric": "val/neg_elbo", "best": huge}, "test": {"test/x": huge, "test/y": "inf"},
    }  # fmt: skip
    strange = make_run(tmp_path / '<b>x & "y"', 2, summary=summary, change=lambda made: {**made, "deep": {"a": [1]}})
    assert "test/y∞" in page_of(strange, tmp_path=tmp_path).text
    page = page_of(strange, make_run(tmp_path / "other", 2), tmp_path=tmp_path)
    assert '<b>x & "y"' in page.text


@pytest.mark.slow
def test_what_interrupted_a_run_is_not_told_as_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summary = {"status": "interrupted", "error": "SystemExit: 1", "epochs": 2}
    run = make_run(tmp_path / "run", 2, summary=summary)
    page = page_of(run, tmp_path=tmp_path)
    assert not [found for found in page.all("p") if "SystemExit" in found.text]
    assert "python -m stablelit.train resume=run" in page.text


@pytest.mark.slow
def test_a_run_that_diverged_shows_where(tmp_path):
    def spoil(made):
        return {**made, "train/loss": "inf", "val/loss": "nan", "val/neg_elbo": "nan"} if made["epoch"] > 3 else made

    summary = {"name": "toy", "status": "diverged", "error": "NonFiniteError: the loss is <nan>", "epochs": 6}
    page = page_of(make_run(tmp_path / "run", 6, change=spoil, summary=summary), tmp_path=tmp_path)
    assert "diverged" in page.text
    assert "the loss is <nan>" in page.text
    alt = next(f.attributes["aria-label"] for f in page.all("svg") if "neg_elbo" in f.attributes["aria-label"])
    assert "not finite at 2 of 6 points" in alt


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_of_one_or_two_epochs_is_drawn(tmp_path, epochs):
    page = page_of(make_run(tmp_path / "run", epochs), tmp_path=tmp_path)
    assert [f for f in page.all("svg") if f.attributes.get("class") != "spark"]


@pytest.mark.slow
def test_numbers_of_any_size_are_drawn(tmp_path):
    def strange(made):
        epoch = made["epoch"]
        return {
            **made, "train/loss": 1e300 * (epoch + 1), "val/loss": -1e-300 * epoch,
            "val/neg_elbo": (-1e308, 1e308)[epoch % 2],
            "train/kl": 0.0, "val/kl": 5.0, "grad/norm_p50": 1e-12 * 10**epoch, "lr": 0,
        }  # fmt: skip

    page = page_of(make_run(tmp_path / "run", 8, change=strange), tmp_path=tmp_path)
    assert len([f for f in page.all("svg") if f.attributes.get("class") != "spark"]) == 6
    assert "nan" not in "".join(str(value) for f in page.all("path") for value in f.attributes.values())


@pytest.mark.slow
def test_runs_of_one_family_lie_over_one_another_and_seeds_are_one_group(tmp_path):
    runs = [make_run(tmp_path / f"a{seed}", 8, seed=seed, scale=1 + seed / 100) for seed in range(3)]
    runs.append(make_run(tmp_path / "b", 8, kl_target=20, scale=0.9))
    page = page_of(*runs, tmp_path=tmp_path)
    assert [found.text for found in page.all("h2")] == ["Runs", "Curves", "Results", "Settings"]
    alt = page.all("svg")[0].attributes["aria-label"]
    assert "kl_target=20 falls" in alt
    # the median of the scales 1, 1.01 and 1.02 of 120
    assert "kl_target=5 falls from 121.2" in alt
    assert "and 3 lines without a name" in alt
    assert "Thick: the median over seeds." in page.text
    rows = [found.text for found in page.all("tr")]
    # the best first: 0.9 times 82 beside the median of 82, 82.82 and 83.64
    assert "test/neg_elbo73.882.82 (82 to 83.64)+9.02 worse" in rows
    assert [row for row in rows if row.startswith("callbacks.kl_cap.kl_target")] == ["callbacks.kl_cap.kl_target205"]
    assert [row for row in rows if row.startswith("seed")] == ["seed00, 1, 2"]
    assert "equal in all" in page.text


def test_runs_of_different_families_have_tables_only(tmp_path):
    runs = [make_run(tmp_path / "a", name="jets"), make_run(tmp_path / "b", name="causal", family="causal")]
    page = page_of(*runs, tmp_path=tmp_path)
    assert "no curves over one another" in page.text
    assert not page.all("svg")
    assert [found.text for found in page.all("h2")] == ["Runs", "Results", "Settings"]


def test_a_place_that_cannot_be_read_is_named_beside_the_others(tmp_path, capsys):
    run = make_run(tmp_path / "a")
    out = tmp_path / "out.html"
    assert main([str(run), str(make_run(tmp_path / "b")), str(tmp_path / "gone"), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "not read:" in said.err
    assert "2 runs" in said.out
    assert "gone: there is no such directory" in parsed(out.read_text()).text


@pytest.mark.slow
def test_one_run_is_written_into_it_and_several_where_one_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        make_run(tmp_path / "sweep" / name)
    assert main(["sweep/a"]) == 0
    assert (tmp_path / "sweep" / "a" / "report.html").is_file()
    assert main(["sweep"]) == 0
    assert "2 runs" in capsys.readouterr().out
    assert (tmp_path / "sweep" / "report.html").is_file()
    assert main(["sweep/a", "sweep/b", "sweep/a/"]) == 0
    assert "2 runs" in capsys.readouterr().out
    assert (tmp_path / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["nowhere"], "Unreadable: nowhere: there is no such directory"),
        (["empty"], "Unreadable: empty: no logs here or below"),
        (["empty/notes.txt"], "a file that holds no logs"),
        ([], "the following arguments are required"),
        (["run", "--outt", "x"], "unrecognized arguments: --outt x"),
        (["run", "--out", "empty"], "--out 'empty' is not allowed. Allowed: the name of a file"),
        (["run", "--out", ""], "--out '' is not allowed"),
        (["run", "--out", "run/config.yaml/report.html"], "cannot be written: Not a directory"),
    ],
    ids=["missing", "no-run", "no-log", "nothing", "unknown", "directory", "no-name", "no-place"],
)
def test_a_mistake_is_told_in_one_line_and_nothing_is_written(tmp_path, monkeypatch, capsys, argv, said):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run", 2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_directory_that_is_only_read_is_told_with_what_to_do(tmp_path, monkeypatch, capsys):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    run = make_run(tmp_path / "run", 2)
    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    assert main([str(run)]) == 2
    assert (
        "report.html cannot be written: Permission denied. Name a place that can: --out FILE."
        in capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_file_that_cannot_be_replaced_leaves_the_old_one_and_no_litter(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", 2)
    (run / "report.html").write_text("old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert main([str(run)]) == 2
    assert (run / "report.html").read_text() == "old"
    assert not [p for p in run.iterdir() if p.name.startswith(".")]


@pytest.mark.slow
def test_neither_torch_nor_hydra_is_waited_for(tmp_path):
    code = (
        "import sys; from stablelit.report.door import main\n"
        f"assert main([{str(make_run(tmp_path / 'run', 3))!r}]) == 0\n"
        "print([m for m in ('torch', 'lightning', 'hydra', 'tensorboard', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_the_same_run_gives_the_same_file(tmp_path):
    run = make_run(tmp_path / "run", 6)
    first = write_report([run], tmp_path / "one.html").path.read_text()
    assert write_report([run], tmp_path / "two.html").path.read_text() == first
