"""TOY neutrino events of known direction, thousands a second: Cherenkov light in homogeneous ice. It is no simulation.

Tracks and cascades (`particles.py`) leave light in the sensors of a detector (`light_yield.py`), whose photons arrive
when geometry and scattering let them (`arrival_times.py`); sensors add noise (`photoelectrons.py`); pulses with another
one near them are in hard local coincidence (`coincidence.py`), and an event with at least eight of those is kept.

What there is not: layers in the ice, stochastic losses of muons, tracks that start or stop, sensors that look down,
pulses of several photoelectrons. Use the events to try software, never as physics.

The events are one endless sequence a seed: particles are drawn in blocks of 64, block b from
``SeedSequence([seed, b])``, and those whose events trigger follow each other. Event i therefore depends on seed,
detector and settings alone, and fewer events are the beginning of more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import bad_argument
from stablelit.families.neutrinos.arrival_times import draw_delay, unscattered_arrival
from stablelit.families.neutrinos.coincidence import in_coincidence, places_on_strings
from stablelit.families.neutrinos.event_files import write_kaggle_files
from stablelit.families.neutrinos.geometry import DetectorGeometry, hexagonal_detector
from stablelit.families.neutrinos.light_yield import mean_photoelectrons
from stablelit.families.neutrinos.particles import Particles, draw_particles
from stablelit.families.neutrinos.photoelectrons import draw_charge, draw_noise, draw_photoelectrons
from stablelit.families.neutrinos.pulse_events import PulseEvents
from stablelit.functional.schedules import check_count, check_number

# raise it with every change by which a seed gives other events
GENERATOR_VERSION = 2
PARTICLES_PER_BLOCK = 64
FEWEST_TRIGGERS = 1e-4


@dataclass(frozen=True)
class GeneratorSettings:
    """What can be chosen of the TOY events.

    Args:
        track_share: the share of tracks among the particles drawn, before the trigger.
        noise_rate_hz: noise pulses a sensor and second.
        trigger_pulses: HLC pulses that an event needs.
        track_yield: of light, Y_t in `light_yield.py`.
        cascade_yield: of light, Y_c there.

    Raises:
        ConfigurationError: an argument outside its range.
    """

    track_share: float = 0.5
    noise_rate_hz: float = 500.0
    trigger_pulses: int = 8
    track_yield: float = 0.25
    cascade_yield: float = 1.0

    def __post_init__(self) -> None:
        owner = "GeneratorSettings"
        check_number(owner, "track_share", self.track_share, at_least=0.0, at_most=1.0)
        check_number(owner, "noise_rate_hz", self.noise_rate_hz, at_least=0.0, at_most=1e5)
        check_count(owner, "trigger_pulses", self.trigger_pulses, least=1)
        for name in ("track_yield", "cascade_yield"):
            check_number(owner, name, getattr(self, name), at_least=0.0, at_most=100.0)


class EventSequence:
    """The endless sequence of TOY events of a seed, in blocks; it counts what it drew.

    Attributes:
        drawn: particles drawn so far, of cascades and of tracks, ``(2,)``.
        triggered: those whose events triggered.

    Raises:
        ConfigurationError: a seed below 0; fewer than one particle in 10,000 triggers.
    """

    def __init__(self, geometry: DetectorGeometry, seed: int, settings: GeneratorSettings | None = None) -> None:
        self.geometry, self.settings = geometry, settings or GeneratorSettings()
        self.seed = check_count("EventSequence", "seed", seed, least=0)
        self.drawn, self.triggered = np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)
        self._places = places_on_strings(geometry)

    def first(self, n_events: int) -> Iterator[PulseEvents]:
        """The first `n_events` events, a block at a time; event_id counts them from 0."""
        self.drawn[:], self.triggered[:] = 0, 0
        done = block = 0
        while done < n_events:
            rng = np.random.default_rng(np.random.SeedSequence([self.seed, block]))
            events = self._block(rng, first_id=done)
            block += 1
            if self.triggered.sum() < FEWEST_TRIGGERS * self.drawn.sum() - 3:
                raise bad_argument(
                    "EventSequence",
                    "settings",
                    asdict(self.settings),
                    "settings and a detector with which one particle in 10,000 or more triggers",
                    f"Of {self.drawn.sum()} particles {self.triggered.sum()} did, in {len(self.geometry)} sensors.",
                )
            if len(events) > n_events - done:
                events = events.take(np.arange(n_events - done))
            done += len(events)
            if len(events):
                yield events

    def counts(self) -> dict[str, int]:
        """How many particles of each kind were drawn, and how many triggered; of the last block all are counted."""
        kinds = enumerate(("cascades", "tracks"))
        return {
            f"{kind}_{done}": int(counts[i])
            for i, kind in kinds
            for done, counts in (("drawn", self.drawn), ("triggered", self.triggered))
        }

    def _block(self, rng: np.random.Generator, first_id: int) -> PulseEvents:
        geometry, n = self.geometry, PARTICLES_PER_BLOCK
        particles = draw_particles(n, self.settings.track_share, rng)
        mean = mean_photoelectrons(
            particles,
            geometry.position,
            geometry.deep_core,
            track_yield=self.settings.track_yield,
            cascade_yield=self.settings.cascade_yield,
        )
        particle, sensor = draw_photoelectrons(mean, rng)
        time, way = unscattered_arrival(particles, particle, geometry.position[sensor])
        time += draw_delay(way, rng)
        noise = draw_noise(n, len(geometry), self.settings.noise_rate_hz, rng)
        particle, sensor, time = (
            np.concatenate(pair) for pair in zip((particle, sensor, np.rint(time).astype(np.int64)), noise, strict=True)
        )
        order, in_hlc = in_coincidence(particle, self._places[sensor], time)
        particle, sensor, time = particle[order], sensor[order], time[order]
        triggers = np.bincount(particle[in_hlc], minlength=n) >= self.settings.trigger_pulses
        self.drawn += np.bincount(particles.is_track, minlength=2)
        self.triggered += np.bincount(particles.is_track[triggers], minlength=2)
        kept = triggers[particle]
        return _in_columns(
            particles, triggers, particle[kept], sensor[kept], time[kept], in_hlc[kept], rng, first_id, len(geometry)
        )


def generate_events(
    n_events: int,
    geometry: DetectorGeometry | None = None,
    seed: int = 0,
    settings: GeneratorSettings | None = None,
) -> PulseEvents:
    """The first `n_events` TOY events of a seed (homogeneous ice, no stochastic losses; formulas in the modules above).

    Args:
        n_events: how many; all have triggered. Particles that do not are drawn again (`EventSequence` counts them).
        geometry: the detector; by default `hexagonal_detector()`.
        seed: one seed, one sequence of events, of which fewer are the beginning.
        settings: shares and rates.

    Raises:
        ConfigurationError: a count below 1, a seed below 0, hardly a particle triggers.
    """
    check_count("generate_events", "n_events", n_events, least=1)
    sequence = EventSequence(geometry or hexagonal_detector(), seed, settings)
    return PulseEvents.concatenate(list(sequence.first(n_events)))


def write_event_files(
    folder: str | Path,
    n_events: int,
    seed: int = 0,
    geometry: DetectorGeometry | None = None,
    events_per_file: int = 10_000,
    progress: bool = True,
    settings: GeneratorSettings | None = None,
) -> dict[str, Any]:
    """Writes the first `n_events` TOY events of a seed in Kaggle's form (see `event_files.py`).

    Args:
        folder: the folder, new or empty; it is there whole or not at all.
        n_events: how many.
        seed: one seed, one sequence of events.
        geometry: the detector; by default `hexagonal_detector()`.
        events_per_file: events of each `batch_N.parquet`.
        progress: show a bar, where stderr is a terminal.
        settings: shares, rates and yields.

    Returns:
        How many events, pulses and files were written, and of tracks and cascades how many were drawn and triggered.

    Raises:
        ConfigurationError: a count below 1, a seed below 0, hardly a particle triggers, the folder is there already.
        MissingDependencyError: pyarrow is not installed.
    """
    geometry = geometry or hexagonal_detector()
    sequence = EventSequence(geometry, seed, settings)
    counts = write_kaggle_files(folder, sequence.first(n_events), n_events, geometry, events_per_file, progress)
    return counts | sequence.counts()


def generator_settings(
    n_events: int,
    seed: int = 0,
    geometry: DetectorGeometry | None = None,
    events_per_file: int = 10_000,
    settings: GeneratorSettings | None = None,
) -> dict[str, Any]:
    """All that the files of `write_event_files` depend on, as plain values: equal exactly where the files are.

    Returns:
        The arguments, the settings, the detector's SHA-256 and the version of the generator.
    """
    chosen = {"n_events": n_events, "seed": seed, "events_per_file": events_per_file}
    detector = (geometry or hexagonal_detector()).identity()
    return chosen | asdict(settings or GeneratorSettings()) | {"geometry": detector, "version": GENERATOR_VERSION}


def _in_columns(
    particles: Particles,
    triggers: NDArray[np.bool_],
    particle: NDArray[np.int64],
    sensor: NDArray[np.int64],
    time: NDArray[np.int64],
    in_hlc: NDArray[np.bool_],
    rng: np.random.Generator,
    first_id: int,
    n_sensors: int,
) -> PulseEvents:
    number = (np.cumsum(triggers) - 1)[particle]
    begin = np.concatenate([[0], np.cumsum(np.bincount(number, minlength=int(triggers.sum())))]).astype(np.int64)
    earliest = time.min(initial=0)
    order = np.argsort(number * (int(time.max(initial=0) - earliest) + 1) + (time - earliest), kind="stable")
    sensor, time = sensor[order], time[order]
    return PulseEvents(
        event_id=first_id + np.arange(int(triggers.sum())),
        begin=begin,
        time=(time - time[begin[:-1]][number]).astype(np.float32),
        charge=draw_charge(len(time), rng),
        sensor=sensor.astype(np.uint16 if n_sensors <= 65536 else np.int32),
        auxiliary=~in_hlc[order],
        azimuth=particles.azimuth[triggers],
        zenith=particles.zenith[triggers],
        energy=particles.energy[triggers].astype(np.float32),
        is_track=particles.is_track[triggers],
    )
