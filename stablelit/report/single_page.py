"""The page about one run: what it came to first, then why, then how to do it again."""

from __future__ import annotations

from stablelit.doctor.log_verdict import LogVerdict, judge
from stablelit.errors import StablelitError
from stablelit.report import single_sections
from stablelit.report.asked_curves import asked_curves, without_curves
from stablelit.report.markup import Markup, big_number, element, join
from stablelit.report.page import Section, page
from stablelit.report.panel_choice import PanelChooser
from stablelit.report.panel_figures import panel_figures
from stablelit.report.pictures import embedded_pictures
from stablelit.report.references import levels_of
from stablelit.report.run_record import RunRecord, as_number
from stablelit.report.units import counted, duration, number, unit_of

STATUSES = {
    "finished": ("finished", "good"),
    "interrupted": ("interrupted", "warning"),
    "failed": ("failed", "critical"),
    "diverged": ("diverged", "critical"),
    "running": ("still going", "warning"),
    "broken off": ("broken off: it ended without a summary", "critical"),
}


def single_page(record: RunRecord, judged: bool = True) -> str:
    """The HTML of one run.

    Args:
        record: the run.
        judged: whether the doctor looks at the logs, unless it was there in the run and said how it stands.
    """
    verdict = None
    if judged and not record.summary.get("doctor"):
        verdict = _verdict(record)
    asked = asked_curves(record)
    panels = PanelChooser(record, asked).panels()
    drawn = without_curves(record.pictures, asked, record.curves.by_name)
    pictures = embedded_pictures(drawn, record.directory / "figures", record.remarks)
    curves = panel_figures(panels) if panels else element("p", "There is no history: nothing to draw.", class_="muted")
    sections = [
        Section("results", "Results", single_sections.results(record)),
        Section("curves", "Curves", curves),
        Section("findings", "Findings", single_sections.findings(record)),
        Section("doctor", "Doctor", single_sections.doctor(record, verdict)),
        Section("pictures", "Pictures", element("div", *pictures, class_="panels") if pictures else Markup()),
        Section("logged", "Everything logged", single_sections.logged(record.curves)),
        Section("run", "What was run", single_sections.what_was_run(record)),
    ]
    title = f"{record.name}: {STATUSES.get(record.status, (record.status, ''))[0]}"
    return page(title, _header(record, verdict), sections, f"Read from {record.place.resolve()}. One file, no script.")


def _verdict(record: RunRecord) -> LogVerdict:
    try:
        return judge(record.place)
    except StablelitError as error:
        return LogVerdict(record.place, problem=str(error))


def _header(record: RunRecord, verdict: LogVerdict | None) -> Markup:
    told, kind = STATUSES.get(record.status, ("", ""))
    # what interrupts a run is no error of it
    error = record.summary.get("error") if record.status != "interrupted" else None
    return join(
        [
            element("h1", record.name),
            element(
                "p",
                element("span", told, class_=f"status {kind}") if told else None,
                (" · " if told else "") + _extent(record),
            ),
            element("p", str(error)[:600], class_="critical") if error else None,
            element("dl", *_big_numbers(record, verdict), class_="figures"),
        ]
    )


def _extent(record: RunRecord) -> str:
    curves = record.curves
    epochs, steps = as_number(record.summary.get("epochs")), as_number(record.summary.get("steps"))
    going_on = record.status in ("running", "broken off")
    if (epochs is None or going_on) and len(curves.steps):
        epochs, steps = float(curves.steps.steps[-1]) + 1, float(curves.steps.values[-1])
    elif steps is None and curves.axis != "epoch":
        steps = max((float(c.steps[-1]) for c in curves.by_name.values() if len(c)), default=None)
    seconds = as_number(record.summary.get("seconds"))
    parts = [
        counted(int(epochs), "epoch") if epochs is not None and abs(epochs) < 1e15 else "",
        counted(int(steps), "optimizer step") if steps is not None and abs(steps) < 1e15 else "",
        duration(seconds) if seconds is not None else "",
        record.family,
    ]
    return " · ".join(part for part in parts if part) or "No numbers were logged."


def _big_numbers(record: RunRecord, verdict: LogVerdict | None) -> list[Markup]:
    found = []
    if record.best is not None and record.metric:
        epoch = f"best, epoch {record.best_epoch}" if record.best_epoch is not None else "best"
        found.append(big_number(record.metric, number(record.best), epoch))
    metrics, _ = record.results
    quantity = (record.metric or "").rpartition("/")[2]
    tested = metrics.get(f"test/{quantity}")
    held = f"test/{quantity}" if tested is not None else record.metric or ""
    if tested is not None:
        found.append(big_number(held, number(tested), unit_of(held) or "test of the best checkpoint"))
    for level, name in list(levels_of(held, metrics.keys()).items())[:2]:
        found.append(big_number(level, number(metrics[name]), name))
    worst = [finding.severity for finding in record.findings]
    critical, warnings = worst.count("critical"), worst.count("warning")
    if verdict is not None and not worst:
        critical, warnings = verdict.count("critical"), verdict.count("warning")
    parts = [f"{critical} critical"] if critical else []
    told = ", ".join([*parts, counted(warnings, "warning")] if warnings else parts)
    kind = "critical" if critical else "warning" if warnings else "good"
    found.append(
        big_number("findings", element("span", str(critical + warnings), class_=kind), told or "nothing to mend")
    )
    return found
