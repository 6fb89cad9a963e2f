"""The page for users and the registry of rules say the same.

``python -m tests.doctor.test_readme`` writes the table of rules anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import stablelit.doctor
from stablelit.doctor.log_verdict_text import NEEDS_THE_CALLBACK
from stablelit.doctor.rules import RULES

PAGE = Path(stablelit.doctor.__file__).with_name("README.md")
TABLE = re.compile(r"(?<=test_readme.py -->\n)(.*?)(?=\n<!-- end of rules -->)", re.S)
TOLD_BY_MONITORS = {"unusual-temperature", "accumulation-adds-no-negatives", "embeddings-collapsed"}
STALE = "the table of rules is not that of the registry: run python -m tests.doctor.test_readme"


def table_in(page: str) -> dict[str, tuple[str, str, str]]:
    """Rank, where it can be checked, and what it says, by rule."""
    (table,) = TABLE.findall(page)
    return {
        name: (rank, where.strip(), says)
        for name, rank, where, says in re.findall(r"^\| `([a-z-]+)` \| ([a-z ]+) \|([a-z ]*)\| (.*) \|$", table, re.M)
    }


def table_of_registry(old: dict[str, tuple[str, str, str]]) -> str:
    """A rule that says nothing of itself keeps the words that it has in the page."""
    lines = ["| rule | rank | from | says |", "|---|---|---|---|"]
    for rule in RULES:
        inside = any({need, need.partition(".")[0]} & NEEDS_THE_CALLBACK.keys() for need in rule.needs)
        says = rule.about.rstrip(".") or old.get(rule.name, ("", "", ""))[2]
        rank = rule.rank.name.lower().replace("_", " ")
        lines.append(f"| `{rule.name}` | {rank} | {'' if inside else 'logs'} | {says} |")
    return "\n".join(lines)


def test_the_table_is_that_of_the_registry():
    page = PAGE.read_text()
    (table,) = TABLE.findall(page)
    assert table == table_of_registry(table_in(page)), STALE


def test_every_rule_has_a_line_with_words():
    assert sorted(name for name, (_, _, says) in table_in(PAGE.read_text()).items() if len(says) > 10) == sorted(
        rule.name for rule in RULES
    )


def test_all_rows_of_the_post_mortems_are_there():
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.M)]
    assert numbers[-32:] == list(range(1, 33))


def test_findings_that_the_page_names_exist():
    known = {rule.name for rule in RULES} | TOLD_BY_MONITORS
    assert set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", PAGE.read_text())) - known == set()


if __name__ == "__main__":
    text = PAGE.read_text()
    PAGE.write_text(TABLE.sub(lambda _: table_of_registry(table_in(text)), text))
