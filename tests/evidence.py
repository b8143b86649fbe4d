"""References such as ``tests/test_queue.py::test_x``, and whether what they name exists.

Nothing is imported or run: the names are read from the source.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]

_QUOTED: Final = re.compile(r"`([^`\n]+)`")
_REFERENCE: Final = re.compile(r"[\w./-]+\.(?:py|md)(?:::[\w.]+)?")


@cache
def defined_in(path: str) -> frozenset[str]:
    """Return every name that a file defines: ``function``, ``Class``, ``Class.method``, ``CONSTANT``."""
    return frozenset(_names(ast.parse((ROOT / path).read_text("utf-8")).body, ""))


def _names(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield prefix + name
            case ast.ClassDef(name=name, body=inner):
                yield prefix + name
                yield from _names(inner, f"{prefix}{name}.")
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield prefix + name
            case _:
                pass


def exists(reference: str) -> bool:
    """Whether the file is there and, after ``::``, the name is defined in it."""
    path, _, name = reference.partition("::")
    return (ROOT / path).is_file() and (not name or name in defined_in(path))


def is_test(reference: str) -> bool:
    """Whether pytest would collect it: a test function, or the test case of a state machine."""
    path, _, name = reference.partition("::")
    return path.startswith("tests/") and name.startswith(("test_", "Test")) and exists(reference)


def references(text: str) -> list[str]:
    """Return every path in back quotes, with the name after it, if there is one."""
    return [found for found in _QUOTED.findall(text) if _REFERENCE.fullmatch(found)]
