"""How a table becomes a panel: which columns are what, and what is known of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stablelit.errors import bad_argument
from stablelit.families.causal.readers.table import NotObserved, Request
from stablelit.functional.schedules import check_flag

_OWNER = "SensorDataModule"
NA_VALUES = (-200, "", "NA", "nan")


@dataclass(frozen=True)
class PanelSettings:
    """How a table becomes a panel.

    Args:
        columns: the sensors, in this order; None is every column that has no other role.
        time_column: when a row was recorded: numbers or ISO dates; a list (date and time of day) is joined by a blank.
        time_format: of other dates, as `datetime.strptime` takes it.
        sort: whether rows are sorted by time (within their environments, where times of several overlap).
        na_values: numbers and texts that stand for a cell that was not observed; NaN always does.
        mask: a file (.npy, .npz with `mask`, .csv) with 1 where a cell was observed and 0 where not.
        environment_column: under which conditions a row was recorded; its values are the environments' names.
        interventions: environment to the column or columns that were set from outside there.

    Raises:
        ConfigurationError: an argument of another type.
    """

    columns: Sequence[str] | None = None
    time_column: str | Sequence[str] | None = None
    time_format: str | None = None
    sort: bool = False
    na_values: Sequence[Any] = NA_VALUES
    mask: str | None = None
    environment_column: str | None = None
    interventions: Mapping[Any, Any] | None = None
    not_observed: NotObserved = field(init=False)

    def __post_init__(self) -> None:
        check_flag(_OWNER, "sort", self.sort)
        names = {"columns": self.columns, "time_column": self.time_column}
        for name, value in names.items():
            if isinstance(value, str) and name == "time_column":
                value = [value]
            if value is not None and not _is_list_of_names(value):
                allowed = (
                    "a list of different names, or None" if name == "columns" else "a name, a list of them, or None"
                )
                raise bad_argument(_OWNER, name, value, allowed)
        for name in ("time_format", "mask", "environment_column"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                raise bad_argument(_OWNER, name, value, "a text, or None")
        if self.time_format is not None and self.time_column is None:
            raise bad_argument(_OWNER, "time_format", self.time_format, "None without time_column")
        if self.interventions is not None and not isinstance(self.interventions, Mapping):
            raise bad_argument(
                _OWNER, "interventions", self.interventions, "a mapping of environments to columns, e.g. {drug: [raf]}"
            )
        object.__setattr__(self, "not_observed", NotObserved.of(_OWNER, self.na_values))

    @property
    def time_columns(self) -> tuple[str, ...]:
        """Those that together say when."""
        if self.time_column is None:
            return ()
        return (self.time_column,) if isinstance(self.time_column, str) else tuple(self.time_column)

    @property
    def request(self) -> Request:
        """What a reader is asked for."""
        environment = () if self.environment_column is None else (self.environment_column,)
        columns = None if self.columns is None else tuple(str(name) for name in self.columns)
        return Request(columns, (*self.time_columns, *environment), self.not_observed)


def _is_list_of_names(value: object) -> bool:
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        return False
    return all(isinstance(name, str) for name in value) and len(set(value)) == len(value)
