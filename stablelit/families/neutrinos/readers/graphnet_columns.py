"""What GraphNeT's tables call things: a table of pulses and a table of truth, joined by event_no.

===========  =======================================  ==========================================================
what         IceCube (I3 files; oscNext, upgrade)     Prometheus, NuBench
===========  =======================================  ==========================================================
pulses       SRTInIcePulses, SplitInIcePulses, ...    total, photons, merged_photons
position     dom_x dom_y dom_z (m)                    sensor_pos_x sensor_pos_y sensor_pos_z (m)
time         dom_time (ns)                            t (ns)
charge       charge (photoelectrons)                  charge, or none: a row is a photon, charge 1
HLC          hlc, where it was extracted              none: every pulse counts as HLC
truth        truth                                    mc_truth
direction    azimuth zenith                           initial_state_azimuth initial_state_zenith, injection_...
energy       energy (GeV)                             initial_state_energy, injection_energy
track        pid, interaction_type                    initial_state_type, interaction; injection_...
===========  =======================================  ==========================================================

The angles do not mean the same. IceCube's are those of an I3Particle's direction, which point to where the particle
came from (GraphNeT's own I3TruthExtractor moves a muon along *minus* the vector they give). Prometheus' are the polar
angles of the momentum (prometheus/particle/particle.py: "unit vector pointing along particle momentum"; `theta` and
`phi` are taken of it), so they point to where it flies, and are turned round here. Azimuths are taken modulo 2 pi.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import ConfigurationError, DataError, bad_argument, did_you_mean

INDEX = "event_no"
PULSE_NAMES: dict[str, tuple[str, ...]] = {
    "x": ("dom_x", "sensor_pos_x"),
    "y": ("dom_y", "sensor_pos_y"),
    "z": ("dom_z", "sensor_pos_z"),
    "time": ("dom_time", "t"),
    "charge": ("charge",),
    "auxiliary": ("auxiliary",),
    "hlc": ("hlc",),
}
TRUTH_NAMES: dict[str, tuple[str, ...]] = {
    "azimuth": ("azimuth", "initial_state_azimuth", "injection_azimuth"),
    "zenith": ("zenith", "initial_state_zenith", "injection_zenith"),
    "energy": ("energy", "initial_state_energy", "injection_energy"),
    "particle": ("pid", "initial_state_type", "injection_type"),
    "interaction": ("interaction_type", "interaction", "injection_interaction_type"),
}
_NEEDED_OF_PULSES, _NEEDED_OF_TRUTH = ("x", "y", "z", "time"), ("azimuth", "zenith")
_MOMENTUM = ("initial_state_", "injection_")
MUON, MUON_NEUTRINO, CHARGED_CURRENT = 13, 14, 1

Pointing = Literal["auto", "origin", "momentum"]


@dataclass(frozen=True)
class Columns:
    """Which column holds what.

    Args:
        pulses: the table of pulses.
        truth: the table of truth; None where there is none.
        of_pulses: column of each of `PULSE_NAMES` that is there.
        of_truth: column of each of `TRUTH_NAMES` that is there.
        momentum: whether the angles are those of the momentum.
    """

    pulses: str
    truth: str | None
    of_pulses: dict[str, str]
    of_truth: dict[str, str]
    momentum: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """What was made of the columns, for the user."""
        told = [f"pulses are those of the table {self.pulses!r}"]
        if "charge" not in self.of_pulses:
            told.append(f"{self.pulses!r} has no charge: every row counts as one photoelectron")
        if "auxiliary" not in self.of_pulses and "hlc" not in self.of_pulses:
            told.append(f"{self.pulses!r} does not say which pulses are auxiliary: all count as HLC")
        if self.truth is None:
            told.append("there is no table of truth: nothing can be trained or scored")
        elif self.momentum:
            told.append(
                f"{self.of_truth['azimuth']} and {self.of_truth['zenith']} are the momentum's: turned round, to where "
                f"the neutrino came from"
            )
        return tuple(told)


def find_columns(
    tables: Mapping[str, Sequence[str]],
    where: str,
    pulse_table: str | None = None,
    truth_table: str | None = None,
    columns: Mapping[str, str] | None = None,
    pointing: Pointing = "auto",
) -> Columns:
    """Finds the two tables and their columns.

    Args:
        tables: the columns of each table.
        where: of what, for messages.
        pulse_table: the table of pulses; None takes the only one that has positions and times.
        truth_table: the table of truth; None takes the only one that has angles, if there is one.
        columns: names of columns that are not the usual ones: ``{"time": "hit_time"}``.
        pointing: what the angles point to; "auto" goes by their names, as above.

    Raises:
        ConfigurationError: several tables could be meant, one that is named is not there, an unknown key of `columns`.
        DataError: no table of pulses, or one without a column that is needed.
    """
    if pointing not in ("auto", "origin", "momentum"):
        raise bad_argument("GraphNeT's tables", "pointing", pointing, "auto, origin or momentum")
    given = dict(columns or {})
    known = {**PULSE_NAMES, **TRUTH_NAMES}
    for key in given:
        if key not in known:
            raise bad_argument("GraphNeT's tables", "columns", key, ", ".join(known), did_you_mean(key, known))
    names = {key: (given[key],) if key in given else usual for key, usual in known.items()}

    def in_table(keys: Iterable[str], table: str) -> dict[str, str]:
        found = {key: next((n for n in names[key] if n in tables[table]), None) for key in keys}
        return {key: name for key, name in found.items() if name is not None}

    pulses = _table(tables, where, "pulse_table", pulse_table, [names[k] for k in _NEEDED_OF_PULSES])
    if pulses is None:
        listed = "; ".join(f"{name} ({', '.join(found)})" for name, found in tables.items()) or "none"
        raise DataError(
            f"{where}: has no table with {INDEX}, positions and times of pulses. Looked for {INDEX} and one each of "
            f"{', '.join(' or '.join(names[k]) for k in _NEEDED_OF_PULSES)}. There are: {listed}. Name columns with "
            f"columns={{time: ...}}."
        )
    truth = _table(tables, where, "truth_table", truth_table, [names[k] for k in _NEEDED_OF_TRUTH])
    of_truth = {} if truth is None else in_table(TRUTH_NAMES, truth)
    momentum = pointing == "momentum" or (
        pointing == "auto" and of_truth.get("azimuth", "").startswith(_MOMENTUM) and bool(of_truth)
    )
    return Columns(pulses, truth, in_table(PULSE_NAMES, pulses), of_truth, momentum)


def _table(
    tables: Mapping[str, Sequence[str]], where: str, argument: str, named: str | None, needed: list[tuple[str, ...]]
) -> str | None:
    def has_all(found: Sequence[str]) -> bool:
        return INDEX in found and all(any(n in found for n in usual) for usual in needed)

    if named is None:
        fitting = [name for name, found in tables.items() if has_all(found)]
        if len(fitting) > 1:
            raise ConfigurationError(f"{where}: which of {', '.join(fitting)}? Say {argument}=...")
        return fitting[0] if fitting else None
    if named not in tables:
        near = did_you_mean(named, tables)
        raise ConfigurationError(f"{where}: has no table {named!r}. There are: {', '.join(tables)}. {near}".rstrip())
    if not has_all(tables[named]):
        raise DataError(
            f"{where}: table {named!r} has not all of {INDEX}, {', '.join(' or '.join(n) for n in needed)}. It has: "
            f"{', '.join(tables[named])}. Name columns with columns={{time: ...}}."
        )
    return named


def truth_columns(raw: Mapping[str, NDArray[Any]], momentum: bool) -> dict[str, NDArray[Any]]:
    """Azimuth, zenith, energy and is_track of the columns of `TRUTH_NAMES` that are there.

    A track is a muon, or a muon neutrino's charged-current interaction.
    """
    truth: dict[str, NDArray[Any]] = {}
    if "azimuth" in raw:
        azimuth, zenith = raw["azimuth"].astype(np.float64), raw["zenith"].astype(np.float64)
        if momentum:
            azimuth, zenith = azimuth + np.pi, np.pi - zenith
        truth["azimuth"], truth["zenith"] = np.mod(azimuth, 2 * np.pi), zenith
    if "energy" in raw:
        truth["energy"] = raw["energy"].astype(np.float32)
    if "particle" in raw and "interaction" in raw:
        kind = np.abs(raw["particle"])
        charged = raw["interaction"] == CHARGED_CURRENT
        truth["is_track"] = (kind == MUON) | ((kind == MUON_NEUTRINO) & charged)
    return truth
