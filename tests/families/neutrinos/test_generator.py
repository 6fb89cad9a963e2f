from __future__ import annotations

import json
import math

import numpy as np
import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.neutrinos.generator import (
    PARTICLES_PER_BLOCK,
    EventSequence,
    GeneratorSettings,
    generate_events,
    generator_settings,
    write_event_files,
)
from stablelit.families.neutrinos.geometry import DetectorGeometry, hexagonal_detector
from stablelit.families.neutrinos.light_yield import mean_photoelectrons
from stablelit.families.neutrinos.particles import draw_particles
from stablelit.families.neutrinos.pulse_events import EVENT_COLUMNS, PULSE_COLUMNS

GEOMETRY = hexagonal_detector()


@pytest.fixture(scope="module")
def many():
    return generate_events(2500, GEOMETRY, seed=1)


def hlc_pulses(events):
    event = np.repeat(np.arange(len(events)), events.pulse_count)
    return np.bincount(event[~events.auxiliary], minlength=len(events))


def equal(one, other):
    return all(np.array_equal(getattr(one, n), getattr(other, n)) for n in (*PULSE_COLUMNS, *EVENT_COLUMNS, "begin"))


def line_fit_error(events):
    """Angle between truth and ``-v / |v|``, ``v = (<rt> - <r><t>) / (<t^2> - <t>^2)`` over HLC pulses, one by one."""
    errors = []
    for i in range(len(events)):
        rows = np.arange(events.begin[i], events.begin[i + 1])
        rows = rows[~events.auxiliary[rows]]
        r, t = GEOMETRY.position[events.sensor[rows]].astype(float), events.time[rows].astype(float)
        v = ((r * t[:, None]).mean(0) - r.mean(0) * t.mean()) / t.var()
        errors.append(math.acos(np.clip(-v @ events.direction[i] / np.linalg.norm(v), -1, 1)))
    return np.array(errors)


@pytest.mark.slow
def test_every_event_is_as_all_events_are(many):
    assert len(many) == 2500
    many.validate(len(GEOMETRY), "generated")
    assert many.sensor.dtype == np.uint16
    assert many.time.dtype == many.charge.dtype == np.float32
    assert not many.time[many.begin[:-1]].any()
    first_of_next = np.zeros(len(many.time), bool)
    first_of_next[many.begin[1:-1]] = True
    assert (np.diff(many.time)[~first_of_next[1:]] >= 0).all()
    assert np.array_equal(many.time, np.rint(many.time))
    assert np.array_equal(many.event_id, np.arange(2500))


@pytest.mark.slow
def test_every_event_has_triggered(many):
    assert hlc_pulses(many).min() == 8


def test_a_higher_trigger_keeps_exactly_the_events_that_pass_it():
    low = generate_events(200, GEOMETRY, seed=3, settings=GeneratorSettings(trigger_pulses=4))
    high = generate_events(60, GEOMETRY, seed=3, settings=GeneratorSettings(trigger_pulses=20))
    passing = np.flatnonzero(hlc_pulses(low) >= 20)[:60]
    assert len(passing) == 60
    assert np.array_equal(low.azimuth[passing], high.azimuth)
    assert np.array_equal(low.take(passing).time, high.time)


@pytest.mark.slow
def test_bright_events_have_as_many_pulses_as_the_formulas_say(many):
    expected, found = np.zeros(2), np.zeros(2)
    for block in range(30):
        rng = np.random.default_rng(np.random.SeedSequence([1, block]))
        particles = draw_particles(PARTICLES_PER_BLOCK, 0.5, rng)
        mean = mean_photoelectrons(particles, GEOMETRY.position, GEOMETRY.deep_core)
        # bright enough that what is kept is not what happened to be bright
        for i in np.flatnonzero(mean.sum(axis=1) > 100):
            event = np.flatnonzero(many.azimuth == particles.azimuth[i])
            assert len(event) == 1
            sensor = many.sensor[many.begin[event[0]] : many.begin[event[0] + 1]]
            for j, of_kind in enumerate((GEOMETRY.deep_core, ~GEOMETRY.deep_core)):
                expected[j] += mean[i, of_kind].sum() + 500 * 10e-6 * of_kind.sum()
                found[j] += of_kind[sensor].sum()
    assert (expected > 5_000).all()
    assert (np.abs(found - expected) < 4 * np.sqrt(expected)).all()


def test_flags_are_hard_local_coincidences_on_icecubes_strings(many):
    few = many.take(np.arange(40))
    for i in range(len(few)):
        rows = slice(few.begin[i], few.begin[i + 1])
        sensor, time = few.sensor[rows].astype(int), few.time[rows]
        apart = np.abs(sensor[:, None] - sensor)
        near = (sensor[:, None] // 60 == sensor // 60) & ((apart == 1) | (apart == 2))
        near &= np.abs(time[:, None] - time) <= 1000
        assert np.array_equal(near.any(axis=1), ~few.auxiliary[rows])


def test_fewer_events_are_the_beginning_of_more():
    more = generate_events(150, GEOMETRY, seed=5)
    for n in (1, 37, 90):
        assert equal(generate_events(n, GEOMETRY, seed=5), more.take(np.arange(n)))


def test_another_seed_gives_other_events():
    one, other = generate_events(20, GEOMETRY, seed=0), generate_events(20, GEOMETRY, seed=1)
    assert not np.isin(one.azimuth, other.azimuth).any()


def test_what_did_not_trigger_is_counted():
    sequence = EventSequence(GEOMETRY, seed=2)
    events = [part for part in sequence.first(300)]
    counts = sequence.counts()
    drawn = counts["cascades_drawn"] + counts["tracks_drawn"]
    triggered = counts["cascades_triggered"] + counts["tracks_triggered"]
    assert drawn % PARTICLES_PER_BLOCK == 0
    assert sum(map(len, events)) == 300 <= triggered < 300 + PARTICLES_PER_BLOCK
    # a track that passes the detector far away leaves nothing; a cascade is in it
    assert counts["cascades_triggered"] > 0.97 * counts["cascades_drawn"]
    assert 0.25 < counts["tracks_triggered"] / counts["tracks_drawn"] < 0.45


@pytest.mark.slow
def test_the_line_fit_knows_tracks_and_knows_nothing_of_cascades(many):
    error = line_fit_error(many)
    assert error.mean() == pytest.approx(1.21, abs=0.06)
    assert error[many.is_track].mean() == pytest.approx(0.16, abs=0.03)
    # a guess at random has a mean of pi / 2
    assert error[~many.is_track].mean() == pytest.approx(1.55, abs=0.06)


@pytest.mark.slow
def test_events_of_dimmer_cascades_are_as_long_as_those_of_the_competition():
    many = generate_events(2000, GEOMETRY, seed=1, settings=GeneratorSettings(cascade_yield=0.5))
    hit = np.repeat(np.arange(len(many)), many.pulse_count) * len(GEOMETRY) + many.sensor
    pulses_of_sensor = np.unique(hit, return_counts=True)[1]
    # there: a mean of 160 pulses, a median of 59, and 78 % of the hit sensors have one
    assert many.pulse_count.mean() == pytest.approx(160, rel=0.15)
    assert 60 < np.median(many.pulse_count) < 110
    assert (pulses_of_sensor == 1).mean() == pytest.approx(0.78, abs=0.03)


@pytest.mark.slow
def test_without_particles_there_is_the_noise_alone():
    settings = GeneratorSettings(track_yield=0.0, cascade_yield=0.0, trigger_pulses=1)
    events = generate_events(100, GEOMETRY, seed=0, settings=settings)
    # 500 Hz, 10 us, 5160 sensors; that one pair is in coincidence makes an event a little longer
    assert events.pulse_count.mean() == pytest.approx(25.8 + 1, abs=4 * math.sqrt(25.8 / 100) + 1)


@pytest.mark.slow
def test_a_detector_that_nothing_triggers_is_told_of():
    tiny = DetectorGeometry.of_positions(np.array([[0, 0, 0], [0, 0, 17]]))
    with pytest.raises(ConfigurationError, match="one particle in 10,000"):
        generate_events(1, tiny, settings=GeneratorSettings(cascade_yield=0.0, noise_rate_hz=0.0, track_yield=0.0))


@pytest.mark.slow
def test_large_detectors_have_wide_sensor_numbers():
    rng = np.random.default_rng(0)
    position = rng.uniform(-400, 400, (70_000, 3)).astype(np.float32)
    position[:, :2] = np.repeat(position[::100, :2], 100, axis=0)
    events = generate_events(2, DetectorGeometry.of_positions(position), settings=GeneratorSettings(track_yield=0.01))
    assert events.sensor.dtype == np.int32
    assert events.sensor.max() > 65_535


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"track_share": 1.1}, "track_share"),
        ({"noise_rate_hz": -1.0}, "noise_rate_hz"),
        ({"trigger_pulses": 0}, "trigger_pulses"),
        ({"track_yield": "much"}, "track_yield"),
        ({"cascade_yield": float("nan")}, "cascade_yield"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        GeneratorSettings(**settings)


def test_counts_and_seeds_are_checked(tmp_path):
    with pytest.raises(ConfigurationError, match="n_events=0"):
        generate_events(0, GEOMETRY)
    with pytest.raises(ConfigurationError, match="seed=-1"):
        generate_events(1, GEOMETRY, seed=-1)
    with pytest.raises(ConfigurationError, match="events_per_file=0"):
        write_event_files(tmp_path / "events", 10, events_per_file=0)


def test_the_identity_changes_with_all_that_changes_the_files():
    identities = [
        generator_settings(10, geometry=GEOMETRY),
        generator_settings(11, geometry=GEOMETRY),
        generator_settings(10, geometry=GEOMETRY, seed=1),
        generator_settings(10, geometry=GEOMETRY, events_per_file=5),
        generator_settings(10, geometry=GEOMETRY, settings=GeneratorSettings(noise_rate_hz=300.0)),
        generator_settings(10, geometry=DetectorGeometry.of_positions(GEOMETRY.position + np.float32(1))),
    ]
    assert len({json.dumps(identity, sort_keys=True) for identity in identities}) == len(identities)
    assert generator_settings(10) == identities[0]
    assert identities[0]["version"] == 2
