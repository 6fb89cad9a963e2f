"""What is done with letters of a sequence file that are none of the 20 residues."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from stablelit.errors import bad_argument, did_you_mean
from stablelit.functional.schedules import check_count, check_number

Ambiguous = Literal["unknown", "drop", "map"]
InternalStop = Literal["unknown", "drop", "error"]
Gaps = Literal["error", "strip"]
_OWNER = "Policies"

NEAREST = {"U": "C", "O": "K", "B": "D", "Z": "E", "J": "L"}
"""The residue that ``ambiguous="map"`` takes: sulphur for selenium, the lysine that pyrrolysine is made of, and of two
possible residues one."""


@dataclass(frozen=True)
class Policies:
    """How sequences are cleaned. Whatever is changed or dropped is counted.

    Args:
        ambiguous: X, B, Z, U, O and J become `UNKNOWN` ("unknown"), have their record dropped ("drop"), or become the
            nearest residue ("map", see `NEAREST`; X stays unknown).
        internal_stop: `*` that is not at the end becomes `UNKNOWN`, has its record dropped, or is an error. At the end
            it is the stop codon, and taken away.
        gaps: `-` and `.` mean an alignment, which is an error, or are taken away ("strip").
        max_bad_fraction: records with a larger share of `UNKNOWN` are dropped.
        min_length: records with fewer residues are dropped; empty ones are always.

    Raises:
        ConfigurationError: another word, or a number outside its range.
    """

    ambiguous: Ambiguous = "unknown"
    internal_stop: InternalStop = "unknown"
    gaps: Gaps = "error"
    max_bad_fraction: float = 0.1
    min_length: int = 1

    def __post_init__(self) -> None:
        for name, kind in (("ambiguous", Ambiguous), ("internal_stop", InternalStop), ("gaps", Gaps)):
            value, choices = getattr(self, name), get_args(kind)
            if value not in choices:
                raise bad_argument(_OWNER, name, value, ", ".join(choices), did_you_mean(str(value), choices))
        check_number(_OWNER, "max_bad_fraction", self.max_bad_fraction, at_least=0.0, at_most=1.0)
        check_count(_OWNER, "min_length", self.min_length, 1)

    def as_dict(self) -> dict[str, Any]:
        """The arguments, plain."""
        return asdict(self)
