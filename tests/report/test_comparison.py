from __future__ import annotations

from stablelit.doctor.evidence.curve import Curve
from stablelit.report.comparison import differing_settings, groups_of, one_family, run_names
from stablelit.report.comparison_panels import median_curve, overlaid
from stablelit.report.run_reading import read_record
from tests.report.made_runs import make_run


def runs(tmp_path, *settings):
    return [read_record(make_run(tmp_path / f"{place}", 4, **held)) for place, held in enumerate(settings)]


def test_runs_that_differ_in_the_seed_alone_are_one_group_and_the_best_group_is_first(tmp_path):
    held = runs(
        tmp_path, {"seed": 0, "scale": 1.3}, {"seed": 1, "scale": 1.2}, {"kl_target": 9, "scale": 1.1}, {"seed": 2}
    )
    groups = groups_of(held)
    assert [(group.label, len(group.records)) for group in groups] == [("kl_target=9", 1), ("kl_target=5", 3)]
    assert groups[1].best == held[1].best  # the median of 1.3, 1.2 and 1
    assert [group.label for group in groups_of(held, best_first=False)] == ["kl_target=5", "kl_target=9"]


def test_what_differs_is_told_apart_from_what_does_not(tmp_path):
    differing, equal = differing_settings(runs(tmp_path, {"seed": 0}, {"seed": 1, "kl_target": 9}))
    assert differing == {"seed": [0, 1], "data.seed": [0, 1], "callbacks.kl_cap.kl_target": [5.0, 9]}
    assert "model.latent_dim" in equal
    assert not [name for name in (*differing, *equal) if name.startswith("hydra")]


def test_runs_without_settings_are_nobodys_seeds(tmp_path):
    held = runs(tmp_path, {}, {})
    for record in held:
        record.settings = {}
    assert [len(group.records) for group in groups_of(held)] == [1, 1]


def test_names_are_what_the_paths_do_not_share(tmp_path):
    held = [read_record(make_run(tmp_path / "a" / name, 1)) for name in ("x", "y/z")]
    assert run_names(held) == ["x", "y/z"]


def test_another_model_or_another_objective_is_another_family(tmp_path):
    a, b, c = runs(tmp_path, {}, {"family": "causal"}, {})
    assert one_family([a, c])
    assert not one_family([a, b])
    c.summary = {**c.summary, "objective": {"metric": "val/loss", "mode": "min"}}
    assert not one_family([a, c])


def test_of_many_runs_twenty_are_drawn_and_the_histories_of_the_others_are_not_read(tmp_path):
    held = runs(tmp_path, *({"seed": seed, "kl_target": 5 + seed % 2} for seed in range(30)))
    panels = overlaid(groups_of(held)[:20])
    assert {sum(not line.level for line in panel.lines) for panel in panels} == {2 + 2 * 10}
    assert panels[0].note == "Thick: the median over the first 10 seeds of each."
    assert sum(record._curves is not None for record in held) == 20


def test_a_median_ends_where_the_first_of_its_curves_ends():
    middle = median_curve([Curve([0, 1, 2], [1, 2, 3]), Curve([0, 1], [3, 4]), Curve([0, 2], [5, 5])])
    assert middle.steps.tolist() == [0, 1]
    assert middle.values.tolist() == [3, 4]
