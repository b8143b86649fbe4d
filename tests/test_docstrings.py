"""Each public name says what it does, and its cancellation law, units, errors and source, by the rules of its kit."""

from __future__ import annotations

import importlib
import pkgutil
import re
import textwrap
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

import attrs
import pytest

import trio_acp
from tests.docstring_errors import Code
from tests.docstring_kit import Subject, subjects
from tests.docstring_rules import (
    CANNOT,
    HANDED_OVER,
    NO_TIMES,
    RULES,
    World,
    describes_its_fields,
    names_its_errors,
    names_its_source,
    names_no_other_errors,
    points_somewhere,
    says_its_cancellation_law,
    says_seconds,
    says_what_it_does,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Rule = Callable[[Subject, World], Iterator[str]]

PACKAGE: Final = Path(trio_acp.__file__).parent

SOURCES: Final = {
    "trio_acp.StoppedBy": r"`Stopped`",
    "trio_acp.Completed": r"ACP: ``StopReason``",
    "trio_acp.Session.prompt": r"ACP: ``session/prompt``",
    "trio_acp.Session.cancel": r"ACP: ``session/cancel``",
    "trio_acp.Session.close": r"ACP: ``session/close``",
    "trio_acp.Session.set_mode": r"ACP: ``session/set_mode``",
    "trio_acp.Session.set_config_option": r"ACP: ``session/set_config_option``",
    "trio_acp.SessionManager.start_session": r"ACP: ``session/new``",
    "trio_acp.ClientServices": r"ACP: ``fs/read_text_file``",
    "trio_acp.AuthenticationRequired": r"ACP: error -32000",
    "trio_acp.RequestFailed": r"JSON-RPC 2\.0",
    "trio_acp.AcpRuntime": r"ACP: ``initialize``",
    "trio_acp.abc.Done": r"ACP: ``StopReason``",
    "trio_acp.abc.PermissionOption": r"ACP: ``PermissionOptionKind``",
    "trio_acp.abc.PermissionRequest": r"ACP: ``session/request_permission``",
    "trio_acp.abc.ControlName": r"ACP: ",
    "trio_acp.explore.Plan": r"ASPLOS 2010(.|\n)*OSDI 2008",
    "trio_acp.transports.WebSocketTransport": r"RFC 6455",
    "trio_acp.transports.Cookies": r"RFC 6265",
}
"""What comes from the protocol, a standard or a paper, and how it has to say so; the classes of `_events` besides."""

SCHEMA: Final = frozenset(
    {
        *("AvailableCommand", "ContentBlock", "PermissionOptionKind", "PlanEntry", "StopReason"),
        *("ToolCallContent", "ToolKind"),
    }
)
"""Types of ACP's schema that docstrings name although no class here does, besides the words that the code speaks."""


def public_modules() -> Iterator[tuple[ModuleType, list[str]]]:
    """Yield each module that says what it shows, and its names; a command's modules are not for importing."""
    yield trio_acp, trio_acp.__all__
    for info in pkgutil.walk_packages(trio_acp.__path__, "trio_acp."):
        if not re.search(r"\._|\.cli|__main__", info.name):
            module = importlib.import_module(info.name)
            names = list(getattr(module, "__all__", ()))
            if info.name == "trio_acp.explore":
                names = [name for name, value in vars(module).items() if name[0] != "_" and is_own(value)]
            yield module, names


def is_own(value: object) -> bool:
    """Whether it is neither a module nor what `from __future__` leaves."""
    return not isinstance(value, ModuleType) and type(value).__module__ != "__future__"


@cache
def package() -> World:
    """Return the package as it is."""
    sources = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if "cli" not in parts and parts[-1] != "__main__":
            sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text("utf-8")
    every = [subject for module, names in public_modules() for subject in subjects(module, names)]
    shown = {subject.value for subject in every if subject.is_class}
    found: dict[object, Subject] = {}
    for subject in every:
        # What is shown twice is one thing, and what is inherited from a class that is shown is there.
        if subject.owner is None or subject.definer is subject.owner.value or subject.definer not in shown:
            found.setdefault(subject.name if subject.documents else subject.value, subject)
    # A shield that is no number of seconds is a mistake of ours.
    return World(list(found.values()), Code(sources, trusted=frozenset({"shielded"})), SOURCES, wire_words(sources))


def wire_words(sources: dict[str, str]) -> frozenset[str]:
    """Return every word that the adapter for ACP can say or understand, and the names of its messages."""
    wire = "\n".join(text for name, text in sources.items() if name.startswith("trio_acp.acp"))
    return frozenset(re.findall(r"\"([\w/]+)\"", wire)) | frozenset(re.findall(r"^class (\w+)", wire, re.M)) | SCHEMA


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_public_docstring_keeps_the_rule(rule: Rule) -> None:
    """No public name breaks it."""
    world = package()
    assert [] == [f"{subject.name} {fault}" for subject in world.subjects for fault in rule(subject, world)]


# -- that the rules bite ------------------------------------------------------

INNOCENT: Final = '''
import attrs
from abc import ABC, abstractmethod

LIMIT = 1
"""How many there may be."""

class Broken(Exception):
    """It is broken."""

def refuse():
    """Raise what is no business of ours.

    Raises:
        Broken: always.
    """
    raise Broken("x")

async def wait(timeout: float):
    """Wait.  If cancelled, nothing happened.

    Args:
        timeout: Seconds to wait.

    Raises:
        Broken: nothing came.
    """
    refuse()

async def wait_again(timeout: float):
    """Wait again; units, errors and cancellation are those of `wait`."""
    await wait(timeout)

def careful():
    """Do it, whatever comes."""
    try:
        refuse()
    except Broken:
        pass

@attrs.frozen
class Value:
    """A value, measured in seconds.

    Attributes:
        age: How old it is.
    """

    age: float

class Box:
    """Every method takes no time, and cannot be cancelled.  It is for nothing."""

    async def open(self):
        """Open it.  ACP: ``session/new``."""

class Base(ABC):
    """What may be implemented."""

    @abstractmethod
    async def get(self):
        """Get it.  If cancelled, it is there still.

        Raises:
            Broken: it is broken.
        """

class Impl(Base):
    """What is implemented."""

    async def get(self):
        raise Broken("no")
'''

PLANTED: Final[dict[Rule, tuple[str, ...]]] = {
    says_what_it_does: (
        "def bare(): ...",
        'def open_ended():\n    """Do\n    it."""',
        'def unsaid():\n    """Do it..."""',
        "LIMIT = 1",
        'class C:\n    """A class."""\n    @property\n    def size(self): ...',
    ),
    says_its_cancellation_law: (
        'async def f():\n    """Wait."""',
        'async def f():\n    """Answer ``cancelled``."""',
        'async def f():\n    """Wait as `g`."""\nasync def g():\n    """Wait.  Cancel culture is none."""',
        '@asynccontextmanager\nasync def f():\n    """Wait."""\n    yield',
        'class C:\n    """What is cancelled elsewhere."""\n    async def f(self):\n        """Wait."""',
        'class C:\n    """A class."""\n    async def __aenter__(self):\n        """Get ready."""',
    ),
    names_its_errors: (
        'def f():\n    """Do it."""\n    raise ValueError("x")',
        'def _g():\n    raise ValueError\ndef f():\n    """Do it.\n\n    Raises:\n        OSError: no.\n"""\n    _g()',
        'def _error() -> KeyError:\n    return KeyError("x")\ndef f():\n    """Do it."""\n    raise _error()',
        'def f():\n    """Do it."""\n    try:\n        f()\n    except OSError:\n        raise ValueError from None',
        'class C:\n    """A class."""\n    def __init__(self):\n        raise ValueError',
        (
            "def _no(*a):\n    raise KeyError\n@attrs.frozen\nclass C:\n"
            '    """An x."""\n    x: int = attrs.field(validator=_no)'
        ),
    ),
    names_no_other_errors: (
        'def f():\n    """Do it.\n\n    Raises:\n        Unheard: ever.\n    """',
        'def f():\n    """Do it.\n\n    Raises:\n        StoreError: never.\n    """',
        'def f():\n    """Do it.\n\n    Raises:\n        print: it is no error.\n    """',
    ),
    says_seconds: (
        'def f(timeout: float):\n    """Do it.\n\n    Args:\n        timeout: How long.\n    """',
        'def f(timeout: float | None = None):\n    """Do it soon."""',
        'class C:\n    """Not in a second."""\n    @property\n    def age(self) -> float:\n        """Age."""',
        (
            "@attrs.frozen\nclass C:\n"
            '    """C.\n\n    Args:\n        a: Seconds.\n        b: Hours.\n"""\n    a: float\n    b: float'
        ),
    ),
    describes_its_fields: (
        '@attrs.frozen\nclass C:\n    """One.\n\n    Attributes:\n        a: A.\n    """\n    a: int\n    bc: int',
        'class C:\n    """One."""\n    def __init__(self):\n        self.size = 1',
    ),
    names_its_source: (
        'def sourced():\n    """Do it."""',
        'def f():\n    """Do it.  ACP: ``session/resign``."""',
    ),
    points_somewhere: ('def f():\n    """Do it, as for `nobody`."""', 'def f():\n    """See `Nobody.knows`."""'),
}


def planted(source: str) -> World:
    """Return a world with one small module."""
    module = ModuleType("planted")
    vars(module).update(attrs=attrs, StoreError=trio_acp.StoreError, asynccontextmanager=asynccontextmanager)
    code = "from __future__ import annotations\n" + textwrap.dedent(source)
    given = set(vars(module))
    exec(compile(code, "planted", "exec"), vars(module))  # noqa: S102 - written above
    names = [name for name in vars(module) if name[0] != "_" and name not in given | {"annotations"}]
    names = [name for name in names if getattr(getattr(module, name), "__module__", "planted") == "planted"]
    return World(
        list(subjects(module, names, code)),
        Code({"planted": code}, {"planted": module}),
        {"planted.sourced": "ACP: "},
        frozenset({"session/new"}),
    )


@pytest.mark.parametrize(
    ("rule", "source"), [(rule, source) for rule, sources in PLANTED.items() for source in sources]
)
def test_the_rule_bites(rule: Rule, source: str) -> None:
    """A rule finds what was planted for it, and no rule anything in what is right."""
    world = planted(source)
    assert [] != [fault for subject in world.subjects for fault in rule(subject, world)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_what_is_right_is_left_alone(rule: Rule) -> None:
    """No rule finds anything in a module that keeps them all."""
    world = planted(INNOCENT)
    assert [] == [f"{subject.name} {fault}" for subject in world.subjects for fault in rule(subject, world)]


def test_every_rule_has_something_planted() -> None:
    """No rule is there that was never seen to find anything, and the exceptions are used."""
    assert set(RULES) == set(PLANTED)
    names = {subject.name for subject in package().subjects}
    assert set() == (SOURCES.keys() | CANNOT.keys() | HANDED_OVER) - names
    assert [] == [end for end in NO_TIMES if not any(name.endswith(f".{end}") for name in names)]
