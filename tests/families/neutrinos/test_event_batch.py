"""The batch against loops over events and sensors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stablelit.families.neutrinos.event_batch import (
    EVENT_CENTRE,
    EVENT_CHARGE,
    EVENT_HLC,
    EVENT_LINE_FIT,
    EVENT_PULSES,
    METRES,
    NANOSECONDS,
    POSITION,
    PULSE_AUXILIARY,
    assemble,
)
from stablelit.families.neutrinos.line_fit import line_fit
from stablelit.families.neutrinos.pulse_groups import within_cap


def per_event(events, i):
    rows = slice(events.begin[i], events.begin[i + 1])
    return {name: getattr(events, name)[rows] for name in ("time", "charge", "sensor", "auxiliary")}


def expected(events, i, position, deep_core, kept, most_per_sensor):
    """Pulses and sensors of one event, by loops."""
    one = per_event(events, i)
    hlc = ~one["auxiliary"]
    reference = one["time"][hlc][0] if hlc.any() else one["time"][0]
    kept = np.asarray(kept)
    by_sensor = {}
    for row in kept:
        by_sensor.setdefault(int(one["sensor"][row]), []).append(row)
    pulses, sensors = [], []
    for s, rows in sorted(by_sensor.items(), key=lambda item: (one["time"][item[1][0]], item[0])):
        t = (one["time"][rows] - reference) / NANOSECONDS
        q, aux = one["charge"][rows], one["auxiliary"][rows]
        few = slice(most_per_sensor)
        for time, charge, auxiliary in zip(t[few], q[few], aux[few], strict=True):
            pulses.append([*(position[s] / METRES), time, np.log10(charge), auxiliary, deep_core[s]])
        sensors.append(
            [
                *(position[s] / METRES),
                *(t[0], np.log10(q.sum()), t.std(), np.log2(len(rows)), aux.mean(), deep_core[s], t.mean()),
            ]
        )
    return np.array(pulses, dtype=np.float64), np.array(sensors, dtype=np.float64)


@pytest.mark.parametrize("most_per_sensor", [64, 3])
def test_pulses_and_sensors_are_those_of_a_loop(random_events, detector, most_per_sensor: int) -> None:
    events, (position, deep_core) = random_events(), detector
    batch = assemble(events, np.arange(12), position, deep_core, 10_000, most_per_sensor)
    pulse, sensor = 0, 0
    for i in range(12):
        pulses, sensors = expected(events, i, position, deep_core, range(events.pulse_count[i]), most_per_sensor)
        assert batch["sensors_of_event"][i] == len(sensors)
        # equal first times may lie in any order: compare as sets of rows
        got = batch["sensors"][sensor : sensor + len(sensors)].numpy()
        assert (np.diff(got[:, 3]) >= 0).all()
        key = lambda rows: rows[np.lexsort(rows[:, :4].round(5).T)]  # noqa: E731
        assert key(got) == pytest.approx(key(sensors), abs=2e-5)
        got = batch["pulses"][pulse : pulse + len(pulses)].numpy()
        assert key(got) == pytest.approx(key(pulses), abs=1e-5)
        pulse, sensor = pulse + len(pulses), sensor + len(sensors)
    assert pulse == len(batch["pulses"])
    assert sensor == len(batch["sensors"])


def test_offsets_lead_from_events_to_sensors_to_pulses(random_events, detector) -> None:
    batch = assemble(random_events(), np.arange(12), *detector)
    assert batch["pulses_of_sensor"].sum() == len(batch["pulses"])
    at = torch.repeat_interleave(torch.arange(len(batch["sensors"])), batch["pulses_of_sensor"])
    assert torch.equal(batch["pulses"][:, POSITION], batch["sensors"][at][:, POSITION])
    assert torch.equal(batch["event_of_sensor"], torch.repeat_interleave(torch.arange(12), batch["sensors_of_event"]))


def test_sensors_of_a_class_have_at_most_its_pulses_and_more_than_half(random_events, detector) -> None:
    batch = assemble(random_events(), np.arange(12), *detector)
    at = 0
    for k, size in enumerate(batch["class_sizes"]):
        counts = batch["pulses_of_sensor"][batch["class_order"][at : at + size]]
        assert ((counts <= 2**k) & (counts > 2**k // 2)).all()
        at += size
    assert sorted(batch["class_order"].tolist()) == list(range(at))


def test_summaries_of_events_are_those_of_a_loop(random_events, detector) -> None:
    events, (position, deep_core) = random_events(), detector
    batch = assemble(events, np.arange(12), position, deep_core, max_pulses=5)
    for i in range(12):
        one = per_event(events, i)
        hlc = ~one["auxiliary"]
        used = hlc if hlc.any() else np.ones(len(hlc), bool)
        row = batch["events"][i].numpy()
        centre = np.average(position[one["sensor"][used]], axis=0, weights=one["charge"][used])
        assert row[EVENT_CENTRE] == pytest.approx(centre / METRES, abs=1e-5)
        assert row[EVENT_CHARGE] == pytest.approx(np.log10(one["charge"].sum()), abs=1e-5)
        assert row[EVENT_PULSES] == pytest.approx(np.log10(len(hlc)), abs=1e-6)
        assert row[EVENT_HLC] == pytest.approx(np.log10(1 + hlc.sum()), abs=1e-6)
        fit = line_fit(position[one["sensor"]], one["time"], hlc, np.array([0, len(hlc)]))[0]
        assert row[EVENT_LINE_FIT] == pytest.approx(fit, abs=1e-5)


@pytest.mark.parametrize("cap", [1, 2, 7, 20, 50])
def test_hlc_pulses_are_kept_first_and_evenly(random_events, cap: int) -> None:
    events = random_events(40, seed=3)
    kept = within_cap(events.auxiliary, events.begin, cap)
    for i in range(40):
        mine = kept[(kept >= events.begin[i]) & (kept < events.begin[i + 1])] - events.begin[i]
        auxiliary = per_event(events, i)["auxiliary"]
        assert len(mine) == min(cap, len(auxiliary))
        kept_hlc, all_hlc = (~auxiliary[mine]).sum(), (~auxiliary).sum()
        assert kept_hlc == min(cap, all_hlc)
        ranks = np.flatnonzero(np.isin(np.flatnonzero(~auxiliary), mine))
        if 0 < kept_hlc < all_hlc:
            # evenly: the r-th that is kept is never further than one step from r * all / kept
            assert (abs(ranks - np.arange(kept_hlc) * all_hlc / kept_hlc) < 1).all()


@pytest.mark.parametrize(("cap", "most"), [(500, 0), (500, 3), (12, 2), (4, 7), (1, 0)])
def test_auxiliary_pulses_of_events_with_hlc_ones_are_limited(random_events, cap: int, most: int) -> None:
    events = random_events(60, seed=3)
    # every fourth event has no HLC pulse
    event = np.repeat(np.arange(60), events.pulse_count)
    auxiliary = events.auxiliary | (event % 4 == 0)
    kept = within_cap(auxiliary, events.begin, cap, most)
    limited = 0
    for i in range(60):
        flags = auxiliary[events.begin[i] : events.begin[i + 1]]
        mine = flags[kept[(kept >= events.begin[i]) & (kept < events.begin[i + 1])] - events.begin[i]]
        n_hlc, n_auxiliary = int((~flags).sum()), int(flags.sum())
        assert (~mine).sum() == min(cap, n_hlc)
        places = cap - min(cap, n_hlc)
        assert mine.sum() == min(places, n_auxiliary if not n_hlc else min(most, n_auxiliary))
        limited += n_hlc > 0 and n_auxiliary > most
    assert limited > 10


def test_a_batch_without_auxiliary_pulses_knows_of_them_in_its_sums(random_events, detector) -> None:
    events = random_events()
    whole, cut = (assemble(events, np.arange(12), *detector, max_auxiliary=most) for most in (None, 0))
    assert whole["events"].equal(cut["events"])
    event = torch.repeat_interleave(torch.arange(12), torch.from_numpy(events.pulse_count))
    has_hlc = torch.bincount(event[~torch.from_numpy(events.auxiliary)], minlength=12) > 0
    event_of_pulse = torch.repeat_interleave(cut["event_of_sensor"], cut["pulses_of_sensor"])
    assert not cut["pulses"][has_hlc[event_of_pulse], PULSE_AUXILIARY].any()
    known = {tuple(row) for row in torch.cat([whole["event_of_sensor"][:, None], whole["sensors"]], 1).tolist()}
    left = {tuple(row) for row in torch.cat([cut["event_of_sensor"][:, None], cut["sensors"]], 1).tolist()}
    assert left < known


def test_nothing_is_chosen_where_every_pulse_has_a_place(random_events) -> None:
    events = random_events()
    assert within_cap(events.auxiliary, events.begin, 60) is None
    assert within_cap(events.auxiliary, events.begin, 60, 60) is None


def test_what_is_known_of_a_sensor_is_known_of_all_its_pulses_where_some_are_cut(random_events, detector) -> None:
    events = random_events()
    whole = assemble(events, np.arange(12), *detector)
    cut = assemble(events, np.arange(12), *detector, max_pulses=9, max_pulses_per_sensor=2)
    rows = {tuple(row) for row in torch.cat([whole["event_of_sensor"][:, None], whole["sensors"]], 1).tolist()}
    left = {tuple(row) for row in torch.cat([cut["event_of_sensor"][:, None], cut["sensors"]], 1).tolist()}
    assert left < rows
    assert len(left) == len(cut["sensors"])
    assert torch.equal(whole["events"], cut["events"])
    assert cut["pulses_of_sensor"].max() == 2
    of_event = torch.zeros(12, dtype=torch.long).index_add(0, cut["event_of_sensor"], cut["pulses_of_sensor"])
    for i in range(12):
        counts = np.unique(per_event(events, i)["sensor"], return_counts=True)[1]
        assert of_event[i] == min(9, np.minimum(counts, 2).sum())


def test_a_batch_does_not_depend_on_its_other_events(random_events, detector) -> None:
    events = random_events()
    whole = assemble(events, np.arange(12), *detector, max_pulses=20)
    alone = assemble(events.take([6]), np.array([6]), *detector, max_pulses=20)
    mine = whole["event_of_sensor"] == 6
    assert torch.equal(whole["sensors"][mine], alone["sensors"])
    assert torch.allclose(whole["events"][6], alone["events"][0])
    assert alone["longest"] == whole["sensors_of_event"][6]
    assert alone["id"].tolist() == [6]


def test_events_of_auxiliary_pulses_alone_use_all(random_events, detector) -> None:
    events = random_events()
    events = replace(events, auxiliary=np.ones_like(events.auxiliary))
    batch = assemble(events, np.arange(12), *detector)
    assert torch.isfinite(batch["events"]).all()
    # the clock begins with the first pulse
    assert batch["pulses"][:, 3].min() == 0.0


def test_truth_is_in_the_batch_where_it_is_known(random_events, detector) -> None:
    events = random_events()
    assert not {"direction", "energy", "is_track"} & assemble(events.without_truth(), np.arange(12), *detector).keys()
    known = replace(events, energy=np.full(12, 1000.0, np.float32), is_track=np.arange(12) % 2 == 0)
    batch = assemble(known, np.arange(12), *detector)
    assert batch["energy"].tolist() == pytest.approx([3.0] * 12)
    assert batch["is_track"].tolist() == [1.0, 0.0] * 6
    assert batch["direction"].numpy() == pytest.approx(events.direction)
