from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.causal.readers.clock import irregularity, seconds_of


def seconds(cells, time_format=None) -> list[float]:
    array = cells if isinstance(cells, np.ndarray) else np.array(cells, dtype=object)
    return seconds_of(array, "t", "row {}".format, time_format).tolist()


# 10 March 2004, 18:00 UTC, by the standard library
SIX = datetime(2004, 3, 10, 18, tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize(
    "cells",
    [
        ["2004-03-10T18:00:00", "2004-03-10T19:00:00.500"],
        ["2004-03-10 18:00:00", "2004-03-10 19:00:00.500"],
        ["2004-03-10T18:00:00+00:00", "2004-03-10T20:00:00.500+01:00"],
        ["2004-03-10T18:00:00Z", "2004-03-10T19:00:00.500Z"],
        [datetime(2004, 3, 10, 18), datetime(2004, 3, 10, 19, 0, 0, 500_000)],
        np.array(["2004-03-10T18:00:00", "2004-03-10T19:00:00.500"], dtype="datetime64[ns]"),
    ],
)
def test_dates_are_seconds_since_1970(cells):
    assert seconds(cells) == [SIX, SIX + 3600.5]


def test_days_are_dates():
    assert seconds(["2004-03-10", "2004-03-11"]) == [SIX - 18 * 3600, SIX + 6 * 3600]


def test_other_forms_are_told():
    assert seconds(["10/03/2004 18.00.00"], "%d/%m/%Y %H.%M.%S") == [SIX]
    zone = timezone(timedelta(hours=2))
    assert seconds(["10.03.2004 18:00 +0200"], "%d.%m.%Y %H:%M %z") == [
        datetime(2004, 3, 10, 18, tzinfo=zone).timestamp()
    ]


def test_numbers_stay_as_they_are():
    assert seconds(["0", "0.5", "1e3"]) == [0.0, 0.5, 1000.0]
    assert seconds(np.array([3, 4])) == [3.0, 4.0]


@pytest.mark.parametrize(
    ("cells", "time_format", "message"),
    [
        (["2004-03-10", "soon"], None, "row 1 has time 'soon'. Allowed: a number or an ISO date.*time_format"),
        (["2004-03-10", ""], None, "row 1 has time ''"),
        (["10/03/2004", "11-03-2004"], "%d/%m/%Y", "row 1 has time '11-03-2004'. Allowed: %d/%m/%Y"),
        (["1", "nan"], None, "row 1 has time nan. Allowed: a time in every row"),
        (np.array([1.0, np.nan]), None, "row 1 has time nan"),
        (np.array(["2004-03-10", "NaT"], dtype="datetime64[s]"), None, "row 1 has time NaT"),
        ([datetime(2004, 3, 10), None], None, "row 1 has time None"),
    ],
)
def test_a_row_without_a_time_is_named(cells, time_format, message):
    with pytest.raises(DataError, match=message):
        seconds(cells, time_format)


def test_uneven_steps_are_counted_within_recordings():
    time = np.array([0.0, 10.0, 20.0, 30.0, 5.0, 15.0, 25.0])
    recording = np.array([0, 0, 0, 0, 1, 1, 1])
    assert irregularity(time, recording) == ""
    # a hundredth is jitter
    assert irregularity(time + np.array([0, 0.05, 0, 0, 0, 0, 0]), recording) == ""
    late = time.copy()
    late[3] = 60.0
    assert irregularity(late, recording) == "1 of 5 steps between rows are not 10 (the median) but 10 to 40"
    assert irregularity(time[:1], recording[:1]) == ""
