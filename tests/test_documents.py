"""What the documents name exists, and what they promise to list is all there."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.evidence import ROOT, exists, is_test, references
from tests.original.operations import OPERATIONS

DOCUMENTS: Final = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))

NUMBERS: Final = [*(f"H-{number:02}" for number in range(1, 11)), *(f"E-{number:02}" for number in range(1, 36))]


@attrs.frozen
class Row:
    """One row of a table in a document."""

    name: str
    cells: tuple[str, ...]

    def tests(self) -> list[str]:
        """Return the tests that it names."""
        return [found for cell in self.cells for found in references(cell) if is_test(found)]

    def places(self) -> list[str]:
        """Return the places in the package that it names."""
        return [found for cell in self.cells for found in references(cell) if found.startswith("trio_acp/")]


def rows_of(text: str) -> list[Row]:
    """Return the rows of all tables, without their heads."""
    rows = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        is_head = number + 1 < len(lines) and lines[number + 1].startswith("|--")
        if line.startswith("|") and not line.startswith("|--") and not is_head:
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            rows.append(Row(name.strip(), tuple(cells)))
    return rows


def read(document: str) -> str:
    """Return the text of a document."""
    return (ROOT / document).read_text("utf-8")


def missing_in(text: str) -> list[str]:
    """Return what a document names and nobody finds; a named test must be one that runs."""
    return [
        found for found in references(text) if not exists(found) or ("::test" in found.lower() and not is_test(found))
    ]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_a_document_names_exists(document: str) -> None:
    """Every file, and every name in it."""
    assert [] == missing_in(read(document))


@pytest.mark.parametrize("faulty", ["trio_acp/_nowhere.py", "trio_acp/_queue.py::nobody", "tests/evidence.py::Test"])
def test_what_does_not_exist_is_found(faulty: str) -> None:
    """A file, a name, a test that is none; beside others that are right."""
    assert [faulty] == missing_in(f"`trio_acp/_queue.py::SessionActorQueue.admit` and `{faulty}`, not `a.b`")


@pytest.mark.parametrize(("document", "names"), [("docs/hazards.md", NUMBERS), ("docs/seed-map.md", OPERATIONS)])
def test_a_table_is_complete(document: str, names: tuple[str, ...]) -> None:
    """Each thing is listed once, with its place in the package and with a test."""
    rows = rows_of(read(document))
    assert sorted(names) == sorted(row.name for row in rows)
    assert [] == [row.name for row in rows if not row.tests() or not row.places()]


def test_rows_are_read() -> None:
    """Heads and rules are no rows; what has no test is seen."""
    [row] = rows_of("text\n| no. | a |\n|---|---|\n| E-1 | `trio_acp/abc.py`<br>`x` |\n")
    assert ("E-1", [], ["trio_acp/abc.py"]) == (row.name, row.tests(), row.places())


def test_documents_mention_nobodys_machine() -> None:
    """No absolute path of where they were written."""
    here = (str(Path.home()), str(ROOT))
    assert [] == [document for document in DOCUMENTS if any(path in read(document) for path in here)]
