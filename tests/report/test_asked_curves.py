from __future__ import annotations

import pytest

from stablelit.report.asked_curves import asked_curves
from stablelit.report.panel_choice import PanelChooser
from stablelit.report.run_reading import read_record
from stablelit.report.single_page import single_page
from tests.report.made_runs import make_picture, make_run

FIGURES = """\
callbacks:
  figures:
    curves:
      elbo: [[val/neg_elbo, val/neg_elbo_baseline], [kl/weight]]
      wait: [[perf/data_wait_frac, no/such]]
      gone: [[no/such]]
"""


def run_with_curves(tmp_path, figures=FIGURES):
    run = make_run(tmp_path / "run", 4)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("callbacks:\n", figures))
    return run


def test_a_page_draws_what_the_pictures_of_curves_show_and_nothing_twice(tmp_path):
    record = read_record(run_with_curves(tmp_path))
    panels = PanelChooser(record, asked_curves(record)).panels()
    shown = [line.metric for panel in panels for line in (*panel.lines, *panel.lower) if line.metric]
    assert shown.count("val/neg_elbo") == 1
    assert shown.count("kl/weight") == 1
    assert [panel.title for panel in panels][-1] == "wait"
    assert [line.label for line in panels[-1].lines] == ["perf/data_wait_frac"]
    without = PanelChooser(record).panels()
    assert [panel.title for panel in panels[:-1]] == [panel.title for panel in without]


def test_pictures_of_curves_are_left_out_where_the_page_has_their_numbers(tmp_path):
    run = run_with_curves(tmp_path)
    for name in ("elbo", "gone", "jets"):
        make_picture(run / "figures" / f"{name}.png")
    page = single_page(read_record(run), judged=False)
    assert [name for name in ("elbo", "gone", "jets") if f"{name}, a picture that the run drew" in page] == [
        "gone",
        "jets",
    ]


def test_without_a_history_the_pictures_stay(tmp_path):
    run = run_with_curves(tmp_path)
    (run / "history.jsonl").unlink()
    make_picture(run / "figures" / "elbo.png")
    assert "elbo, a picture that the run drew" in single_page(read_record(run), judged=False)


@pytest.mark.parametrize(
    "figures",
    ["callbacks: 3\n", "callbacks:\n  figures: {curves: [1]}\n", "callbacks:\n  figures: {curves: {a: b, c: [d]}}\n"],
    ids=["number", "list", "no-panels"],
)
def test_settings_of_another_form_ask_for_nothing(tmp_path, figures):
    run = make_run(tmp_path / "run", 2)
    (run / "config.yaml").write_text(figures)
    assert not any(panel for panels in asked_curves(read_record(run)).values() for panel in panels)
