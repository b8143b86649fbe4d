"""The pages under docs/reference list what is public: all of it, once, and nothing else."""

from __future__ import annotations

import contextlib
import importlib
import re
import typing
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import pytest

from tests.evidence import ROOT

MODULES: Final = [
    "",
    *(
        f".{name}"
        for name in ["abc", "explore", "logs", "otel", "prometheus", "services", "stores", "testing", "transports"]
    ),
]
NOTHING: Final = object()
WHOLE: Final = ("trio_acp.logs", "trio_acp.otel", "trio_acp.prometheus")
"""Modules of which `automodule` lists the members."""

_MODULE: Final = re.compile(r"\.\. (?:auto|current|py:)?module:: (\S+)")
_ENTRY: Final = re.compile(r"\.\. (?:auto)?(?:class|data|decorator|function):: (\S+)(?:\n   :type: (.+))?")


@attrs.frozen
class Entry:
    """What a page has an entry for, and the type that it gives by hand, if it does."""

    module: str
    name: str
    type: str | None


def entries(text: str) -> list[Entry]:
    """Return the entries of a page."""
    found, module = [], ""
    for line in re.split(r"\n(?=\.\. )", text):
        if started := _MODULE.match(line):
            module = started[1]
        elif entry := _ENTRY.match(line):
            found.append(Entry(module, entry[1], entry[2]))
    return found


def listed() -> list[Entry]:
    """Return the entries of all pages."""
    return [
        entry for page in sorted((ROOT / "docs" / "reference").glob("*.rst")) for entry in entries(page.read_text())
    ]


def public(module: str) -> dict[str, Any]:
    """Return what a module shows, by its name."""
    shown = importlib.import_module(module)
    names = getattr(shown, "__all__", None) or [name for name in vars(shown) if name[0] != "_"]
    found = {name: getattr(shown, name) for name in names}
    return {name: value for name, value in found.items() if type(value).__name__ != "module"}


def known(module: str) -> dict[str, Any]:
    """Return the names that a type in a page may use."""
    of_all = {name: value for each in ("trio_acp", "trio_acp.abc", module) for name, value in public(each).items()}
    return {**vars(typing), **vars(contextlib), "Callable": Callable, "Mapping": Mapping, **of_all}


@pytest.mark.parametrize("module", [f"trio_acp{name}" for name in MODULES])
def test_every_public_name_is_in_the_reference(module: str) -> None:
    """Under this module, or under another that shows the same thing."""
    pages = listed()
    here = {entry.name for entry in pages if entry.module == module} | set(public(module) if module in WHOLE else ())
    anywhere = {entry.name: public(entry.module)[entry.name] for entry in pages}
    missing = {name for name, value in public(module).items() if anywhere.get(name, NOTHING) is not value} - here
    assert set() == missing


def test_nothing_else_is() -> None:
    """Each entry names something that its module shows, and there is one for it."""
    pages = listed()
    assert [] == [entry for entry in pages if entry.name not in public(entry.module)]
    assert [] == [entry for entry, count in Counter((each.module, each.name) for each in pages).items() if count > 1]


def test_types_given_by_hand_are_right() -> None:
    """An alias is what the page says."""
    given = [(entry, public(entry.module)[entry.name]) for entry in listed() if entry.type is not None]
    assert len(given) > 15
    for entry, value in given:
        meant = eval(str(entry.type), known(entry.module))  # noqa: S307 - the text of our own pages
        if isinstance(meant, type) or typing.get_origin(meant) is Mapping:
            assert isinstance(value, typing.get_origin(meant) or meant), entry
        else:
            assert meant == value, entry
