"""What the heads of the central modules promise: every guarantee there has a test, and the head says the rest too."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS: Final = Path(__file__).parent
PROMISING: Final = ("_turn", "_actor", "_cache", "_queue")
REFERENCE: Final = re.compile(r"\((test_\w+\.py)::(\w+)\)")


def sections(head: str) -> dict[str, str]:
    """Return the sections of a docstring: the first word of each underlined line, and what stands below it."""
    parts = re.split(r"^(\w+).*\n-{3,}\n", f"{head}\n", flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def collected(file: str) -> set[str]:
    """Return what pytest collects from a file of tests: functions, and the test cases of machines."""
    found: set[str] = set()
    for node in ast.parse((TESTS / file).read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in found if name.startswith(("test_", "Test"))}


def faults(head: str) -> Iterator[str]:
    """Yield what is wrong with the head of a module that promises something."""
    found = sections(head)
    yield from (f"says nothing under {title}" for title in ("States", "Guarantees", "Bounds") if not found.get(title))
    if not re.search(r"^Not promised: \w", head, re.MULTILINE):
        yield "does not say what is not promised"
    guarantees = re.findall(r"^G(\d+) (.*?)(?=^G\d|\Z)", found.get("Guarantees", ""), re.MULTILINE | re.DOTALL)
    if [int(number) for number, _ in guarantees] != list(range(1, len(guarantees) + 1)) or not guarantees:
        yield "its guarantees are not numbered from 1 without gaps"
    yield from (f"G{number} has no test" for number, text in guarantees if not REFERENCE.search(text))
    for file, name in REFERENCE.findall(head):
        if not (TESTS / file).exists() or name not in collected(file):
            yield f"there is no {file}::{name}"


@pytest.mark.parametrize("module", PROMISING)
def test_a_head_keeps_its_form(module: str) -> None:
    """States, guarantees, bounds, what is not promised; each guarantee names a test that exists."""
    source = (TESTS.parent / "trio_acp" / f"{module}.py").read_text("utf-8")
    assert [] == list(faults(ast.get_docstring(ast.parse(source)) or ""))


def test_faults_of_a_head_are_found() -> None:
    """Each kind of them."""
    good = (
        "Head.\n\nStates\n------\nx\n\nGuarantees, each with its test\n---\nG1 One.\n   (test_queue.py::TestQueue)\n\n"
        "Bounds\n------\nNone.\n\nNot promised: anything else.\n"
    )
    assert [] == list(faults(good))
    for old, new, fault in (
        ("States\n", "Status\n", "says nothing under States"),
        ("Not promised:", "Promised:", "does not say what is not promised"),
        ("G1", "G2", "its guarantees are not numbered from 1 without gaps"),
        ("(test_queue.py::TestQueue)", "(it is so)", "G1 has no test"),
        ("::TestQueue", "::KEYS", "there is no test_queue.py::KEYS"),
        ("test_queue", "test_nothing", "there is no test_nothing.py::TestQueue"),
    ):
        assert [fault] == list(faults(good.replace(old, new)))
