"""The report: a run, or several side by side, as one HTML file that needs nothing else.

>>> from stablelit.report import write_report
"""

from __future__ import annotations

from stablelit.lazy_exports import lazy_exports

_names, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "RunRecord": "run_record",
        "read_record": "run_reading",
        "write_report": "writing",
    },
)
__all__ = [*_names]
