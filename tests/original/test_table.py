"""The list of the original's tests is complete, and what it names exists."""

from __future__ import annotations

import pytest

from tests.evidence import is_test
from tests.original.table import ROBUSTNESS, SEED, TABLE, Row

ALL = [*SEED, *ROBUSTNESS]


def test_every_number_is_listed_once() -> None:
    """Each is in the table, and there is no other one."""
    assert (60, 26) == (len(SEED), len(ROBUSTNESS))
    assert sorted(set(ALL)) == sorted(ALL)
    assert sorted(ALL) == sorted(TABLE)


@pytest.mark.parametrize("number", TABLE)
def test_every_row_has_tests_that_exist(number: str) -> None:
    """A reason alone is none: what holds instead is shown as well."""
    assert [] == faults(TABLE[number])


def faults(row: Row) -> list[str]:
    """Return what is wrong with a row."""
    found = [f"no such test: {test}" for test in row.tests if not is_test(test)]
    if not row.tests:
        found.append("no test")
    if not row.law or "\n" in row.law + row.changed:
        found.append("the law and the reason are one line each")
    if row.changed and not row.changed.startswith(("D-", "E-", "design: ")):
        found.append("a change names its decision")
    return found


@pytest.mark.parametrize(
    "row",
    [
        Row("law", ()),
        Row("", ("tests/test_cache.py::test_a_touch_makes_an_entry_young_again",)),
        Row("law", ("tests/test_cache.py::test_nobody_wrote",)),
        Row("law", ("tests/test_nowhere.py::test_x",)),
        Row("law", ("tests/test_cache.py::KEYS",)),
        Row("law", ("tests/test_cache.py::TestCache",), "because"),
    ],
)
def test_a_faulty_row_is_found(row: Row) -> None:
    """Each of these has one fault."""
    assert 1 == len(faults(row))
